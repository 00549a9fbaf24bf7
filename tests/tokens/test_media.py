"""Sizes of images and documents, from their own bytes."""

from __future__ import annotations

import base64
import struct

import pytest

from balancer.tokens import media

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + struct.pack(">II", 300, 200)


def jpeg(*segments: bytes, frame: int = 0xC0) -> bytes:
    return b"\xff\xd8" + b"".join(segments) + b"\xff%c\x00\x11\x08" % frame + struct.pack(">HH", 200, 300)


def segment(marker: int, length: int) -> bytes:
    return b"\xff%c" % marker + struct.pack(">H", length + 2) + b"\xff\xc0\0\0" * (length // 4) + b"x" * (length % 4)


IMAGES = {
    "PNG": PNG,
    "GIF": b"GIF89a" + struct.pack("<HH", 300, 200),
    "JPEG": jpeg(segment(0xE0, 14)),
    "progressive JPEG": jpeg(segment(0xE0, 14), segment(0xC4, 30), frame=0xC2),
    "JPEG with fills": jpeg(segment(0xE0, 14), b"\xff\xff"),
    "JPEG with long notes of the camera": jpeg(segment(0xE1, 65_000), segment(0xE2, 60_000), frame=0xC2),
    "extended WebP": b"RIFFxxxxWEBPVP8X" + b"\0" * 8 + (299).to_bytes(3, "little") + (199).to_bytes(3, "little"),
    "lossless WebP": b"RIFFxxxxWEBPVP8L" + b"\0" * 5 + (299 | 199 << 14).to_bytes(4, "little"),
    "lossy WebP": b"RIFFxxxxWEBPVP8 " + b"\0" * 10 + struct.pack("<HH", 300, 200),
}


@pytest.mark.parametrize("name", IMAGES)
def test_pixels(name: str) -> None:
    assert media.pixels(base64.b64encode(IMAGES[name]).decode()) == (300, 200)


@pytest.mark.parametrize("raw", [b"", b"BM....", PNG[:18], b"\xff\xd8\xff", b"\xff\xd8abcdefghijkl", jpeg()[:-3]])
def test_what_is_no_image_has_no_size(raw: bytes) -> None:
    assert media.pixels(base64.b64encode(raw).decode()) is None


def test_what_is_no_base64_has_no_size() -> None:
    assert media.pixels("!") is None
    assert media.pages("!") == 1


def test_pages() -> None:
    told = b"%PDF /Type /Pages /Type /Page x /Type/Page y"

    assert media.pages(base64.b64encode(told).decode()) == 2
    assert media.pages(base64.b64encode(b"%PDF" + b"x" * 200_000).decode()) == 4


@pytest.mark.parametrize(
    ("text", "is_media"),
    [
        (base64.b64encode(bytes(300)).decode(), True),
        ("data:application/pdf;base64,AAAA", True),
        ("a text, however long it is, is none " * 20, False),
        ("short", False),
        ("data: of all kinds", False),
    ],
)
def test_media_and_texts(text: str, is_media: bool) -> None:
    assert media.is_media(text) is is_media
