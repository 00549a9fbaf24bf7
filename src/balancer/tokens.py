"""How many tokens a request has, without asking anybody.

Text is counted by nine features with weights fitted to tokenizers (see docs/token-counting.md);
images by their size in pixels, PDFs by their pages, the rest by what surrounds it. A conversation
grows at its end, so what was counted is remembered block by block, by a hash: the next turn costs
only its new blocks.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import xxhash

REMEMBERED = 50_000
"""How many blocks are remembered; each costs some hundred bytes."""

LIGHT_BYTES = 16 * 1024
"""Fewer new bytes than this are counted within two milliseconds."""

WEIGHTS: dict[str, tuple[float, ...]] = {
    "claude": (1.08, 0.098, 1.137, 1.178, 0.033, 0.891, 0.758, 1.176, 0.561),
    "claude-new": (1.505, 0.355, 0.99, 1.245, 0.137, 1.053, 0.63, 1.214, 0.701),
    "o200k": (1.015, 0.071, 0.647, 0.742, 0.076, 1.065, 0.594, 0.833, 0.355),
}
"""Per family: words, their letters beyond the fifth, aB boundaries, runs of punctuation, punctuation
beyond the first of a run, digits, breaks and wide blanks, CJK characters, other non-ASCII ones."""

BASE = 7
PER_MESSAGE = 6
PER_TOOL = 10
TOOL_PROMPT = {"auto": 346, "none": 346, "any": 313, "tool": 313}
"""The system prompt that tools bring with them."""

BUILT_IN = {"bash": 245, "text_editor": 700, "str_replace": 700, "computer": 735}
UNKNOWN_IMAGE = 1600
IMAGE_FRAME = 70
IMAGE_MAX = {"claude": 1568, "claude-new": 4784, "o200k": 1445}
PDF_PAGE = 2200
PDF_PAGE_BYTES = 50_000

BLOCK, TOOL, WHOLE = range(3)
"""What a hash stands for; it is the hash's seed, so that they are never mixed up."""

_WORDS = re.compile(r"[A-Za-z]+")
_BOUNDARIES = re.compile(r"[a-z][A-Z]")
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]+")
_BREAKS = re.compile(r"\n+|[ \t]{2,}")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f]")
_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2})(?!\d))?")


def family(model: str) -> str:
    """Return whose tokenizer a model has, as far as its name tells."""
    if "claude" not in model and not re.search(r"opus|sonnet|haiku|fable", model):
        return "o200k"
    match = _VERSION.search(model)
    if match is None:
        return "claude-new"
    version = int(match[1]), int(match[2] or 0)
    return "claude-new" if version >= (4, 7) else "claude"


def of_text(text: str, weights: tuple[float, ...]) -> float:
    """Estimate the tokens of a text."""
    words = _WORDS.findall(text)
    runs = _PUNCTUATION.findall(text)
    features = [
        len(words),
        sum([len(word) - 5 for word in words if len(word) > 5]),
        len(_BOUNDARIES.findall(text)),
        len(runs),
        sum(map(len, runs)) - len(runs),
        sum(map(text.count, "0123456789")),
        len(_BREAKS.findall(text)),
        0,
        0,
    ]
    if not text.isascii():
        features[7] = len(_CJK.findall(text))
        features[8] = len(_NON_ASCII.findall(text)) - features[7]
    return sum(map(float.__mul__, weights, map(float, features)))


class _Message(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw(b'""')


class _Body(msgspec.Struct):
    messages: list[_Message]
    system: msgspec.Raw = msgspec.Raw(b'""')
    tools: list[msgspec.Raw] | None = None
    tool_choice: dict[str, Any] | None = None


_BODY = msgspec.json.Decoder(_Body)
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])


class Estimator:
    """Counts requests, and remembers the blocks that it has counted."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, int], int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def estimate(self, body: bytes, model: str) -> int:
        """Return the input tokens of a request's body. Raises `msgspec.MsgspecError` for one that is none."""
        request = _BODY.decode(body)
        kind = family(model)
        count = BASE + PER_MESSAGE * len(request.messages)
        for content in (request.system, *[message.content for message in request.messages]):
            count += self._content(content, kind)
        if request.tools:
            choice = (request.tool_choice or {}).get("type", "auto")
            count += TOOL_PROMPT.get(choice, TOOL_PROMPT["auto"]) + sum(
                self._tool(tool, kind) for tool in request.tools
            )
        return count

    def is_heavy(self, body: bytes) -> bool:
        """Say whether to count this off the event loop: much of it is new."""
        if len(body) <= LIGHT_BYTES:
            return False
        try:
            request = _BODY.decode(body)
        except msgspec.MsgspecError:
            return False
        new = 0
        for seed, raws in (
            (WHOLE, (request.system, *[message.content for message in request.messages])),
            (TOOL, request.tools or ()),
        ):
            for raw in raws:
                view = memoryview(raw)
                digest = xxhash.xxh3_64_intdigest(view, seed)
                if not any((kind, digest) in self._known for kind in WEIGHTS):
                    new += len(view)
        return new > LIGHT_BYTES

    def _content(self, raw: msgspec.Raw, kind: str) -> int:
        """Count a message's content: known as a whole, or block by block."""
        key = (kind, xxhash.xxh3_64_intdigest(memoryview(raw), WHOLE))
        known = self._known.get(key)
        if known is None:
            known = sum(self._remembered(block, kind, BLOCK, of_block) for block in _blocks(raw))
            self._remember(key, known)
        else:
            self._known.move_to_end(key)
        return known

    def _tool(self, raw: msgspec.Raw, kind: str) -> int:
        return self._remembered(raw, kind, TOOL, of_tool)

    def _remembered(self, raw: msgspec.Raw, kind: str, seed: int, count: Callable[[Any, str], float]) -> int:
        key = (kind, xxhash.xxh3_64_intdigest(memoryview(raw), seed))
        known = self._known.get(key)
        if known is None:
            known = math.ceil(count(msgspec.json.decode(raw), kind))
            self._remember(key, known)
        else:
            self._known.move_to_end(key)
        return known

    def _remember(self, key: tuple[str, int], count: int) -> None:
        self._known[key] = count
        if len(self._known) > self._limit:
            self._known.popitem(last=False)


def _blocks(raw: msgspec.Raw) -> list[msgspec.Raw]:
    """Return the blocks of some content; a string is one."""
    return _RAWS.decode(raw) if bytes(memoryview(raw)[:1]) == b"[" else [raw]


def of_block(block: Any, kind: str) -> float:
    """Estimate the tokens of one block of content, whatever its type."""
    weights = WEIGHTS[kind]
    if isinstance(block, str):
        return of_text(block, weights)
    if not isinstance(block, dict):
        return 0.0
    match block.get("type"):
        case "text":
            return of_text(str(block.get("text", "")), weights)
        case "thinking" | "redacted_thinking":
            return 0.0  # those of earlier turns are not counted
        case "image":
            return of_image(block.get("source"), kind)
        case "document":
            return _of_document(block, kind)
        case "tool_use":
            return of_text(f"{block.get('name', '')}{_compact(block.get('input'))}", weights) + PER_MESSAGE
        case "tool_result":
            content = block.get("content", "")
            parts = content if isinstance(content, list) else [content]
            return PER_MESSAGE + sum(of_block(part, kind) for part in parts)
        case _:
            return sum(of_text(text, weights) for text in _texts(block))


def of_tool(tool: Any, kind: str) -> float:
    """Estimate the tokens of a tool's definition."""
    if not isinstance(tool, dict):
        return 0.0
    name = str(tool.get("type", ""))
    if "input_schema" not in tool and (known := next((n for key, n in BUILT_IN.items() if name.startswith(key)), None)):
        return known
    said = f"{tool.get('name', '')}\n{tool.get('description', '')}\n{_compact(tool.get('input_schema', {}))}"
    return PER_TOOL + of_text(said, WEIGHTS[kind])


def of_image(source: Any, kind: str) -> float:
    """Estimate the tokens of an image by its size in pixels."""
    size = _pixels(source.get("data")) if isinstance(source, dict) else None
    if size is None:
        return UNKNOWN_IMAGE
    width, height = size
    return min(math.ceil(width / 28) * math.ceil(height / 28), IMAGE_MAX[kind]) + IMAGE_FRAME


def _of_document(block: dict[str, Any], kind: str) -> float:
    source = block.get("source")
    count = sum(of_text(str(block.get(key) or ""), WEIGHTS[kind]) for key in ("title", "context"))
    if not isinstance(source, dict):
        return count
    data = source.get("data")
    if source.get("type") == "base64" and isinstance(data, str):
        return count + PDF_PAGE * _pages(data)
    if isinstance(data, str):
        return count + of_text(data, WEIGHTS[kind])
    content = source.get("content", "")
    return count + sum(of_block(part, kind) for part in (content if isinstance(content, list) else [content]))


def _pages(data: str) -> int:
    try:
        pdf = base64.b64decode(data)
    except (binascii.Error, ValueError):
        return 1
    return len(re.findall(rb"/Type\s*/Page(?![a-zA-Z])", pdf)) or max(1, len(pdf) // PDF_PAGE_BYTES)


def _pixels(data: Any) -> tuple[int, int] | None:
    """Read an image's size from its first 32 KB."""
    if not isinstance(data, str):
        return None
    try:
        raw = base64.b64decode(data[:43_688])
    except (binascii.Error, ValueError):
        return None
    try:
        if raw[:8] == b"\x89PNG\r\n\x1a\n":
            return struct.unpack(">II", raw[16:24])
        if raw[:6] in (b"GIF87a", b"GIF89a"):
            return struct.unpack("<HH", raw[6:10])
        if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
            return _webp(raw)
        if raw[:2] == b"\xff\xd8":
            return _jpeg(raw)
    except (struct.error, IndexError):
        return None
    return None


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
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", raw[at + 5 : at + 9])
            return width, height
        at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
    return None


_UNSAID = frozenset({"type", "id", "tool_use_id", "signature", "data", "cache_control", "encrypted_content"})


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts inside something that nobody knows."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in _UNSAID:
                yield from _texts(item)


def _compact(value: Any) -> str:
    return msgspec.json.encode(value).decode() if value is not None else ""


class Correction:
    """How far the estimates are off, per provider and model, learnt from the usage of real answers."""

    STEP = 0.3
    BOUNDS = (0.5, 2.0)
    LIMIT = 1000

    def __init__(self) -> None:
        self._ratios: OrderedDict[tuple[str, str], float] = OrderedDict()

    def learn(self, provider: str, model: str, estimate: int, real: int) -> None:
        """An answer said what was estimated before."""
        if estimate <= 0 or real <= 0:
            return
        low, high = self.BOUNDS
        ratio = min(high, max(low, real / estimate))
        known = self._ratios.get((provider, model), 1.0)
        self._ratios[provider, model] = known + self.STEP * (ratio - known)
        self._ratios.move_to_end((provider, model))
        if len(self._ratios) > self.LIMIT:
            self._ratios.popitem(last=False)

    def correct(self, provider: str, model: str, estimate: int) -> int:
        """Return the estimate as it would have been right lately."""
        return max(1, round(estimate * self._ratios.get((provider, model), 1.0)))
