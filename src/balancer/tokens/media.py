"""How large an image or a document is, as far as its own bytes tell: nothing is decoded but heads."""

from __future__ import annotations

import base64
import binascii
import re
import struct

HEAD_CHARS = 43_688
"""The base64 of 32 KB: in nearly all images the size is within them."""

PDF_PAGE_BYTES = 50_000
"""What a page takes in documents that do not tell their pages openly."""

_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
_MEDIA = re.compile(r"[A-Za-z0-9+/_-]{256,}={0,2}")
_STANDALONE = frozenset({0x01, *range(0xD0, 0xDA)})
"""JPEG's markers without a length."""


def is_media(text: str) -> bool:
    """Say whether a text is none, but bytes in base64, bare or in a `data:` URL."""
    if text.startswith("data:"):
        return ";base64," in text[:200]
    return _MEDIA.fullmatch(text) is not None


def pixels(data: str) -> tuple[int, int] | None:
    """Return width and height of an image in base64; None: it is of no kind that is known here."""
    raw = _bytes(data[:HEAD_CHARS])
    try:
        if raw[:8] == b"\x89PNG\r\n\x1a\n":
            return struct.unpack(">II", raw[16:24])
        if raw[:6] in (b"GIF87a", b"GIF89a"):
            return struct.unpack("<HH", raw[6:10])
        if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
            return _webp(raw)
        if raw[:2] == b"\xff\xd8":  # a camera's notes may come before the size, and be long
            return _jpeg(raw) or (_jpeg(_bytes(data)) if len(data) > HEAD_CHARS else None)
    except (struct.error, IndexError):
        return None
    return None


def pages(data: str) -> int:
    """Return the pages of a PDF in base64, by what it says openly, else by its size."""
    pdf = _bytes(data)
    return len(_PAGE.findall(pdf)) or max(1, len(pdf) // PDF_PAGE_BYTES)


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError):
        return b""


def _webp(raw: bytes) -> tuple[int, int] | None:
    if raw[12:16] == b"VP8X":
        return 1 + int.from_bytes(raw[24:27], "little"), 1 + int.from_bytes(raw[27:30], "little")
    if raw[12:16] == b"VP8L":
        bits = int.from_bytes(raw[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if raw[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", raw[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(raw: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(raw):
        if raw[at] != 0xFF:
            return None
        marker = raw[at + 1]
        if marker == 0xFF:  # fills
            at += 1
        elif marker in _STANDALONE:
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", raw[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
    return None
