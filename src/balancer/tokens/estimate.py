"""How many tokens a request has, without asking anybody.

Text is counted by thirteen features with weights fitted to tokenizers (see docs/token-counting.md);
images by their size in pixels, PDFs by their pages, the rest by what surrounds it. A conversation
grows at its end, so what was counted is remembered block by block, by a hash: the next turn costs
only its new blocks.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec
import xxhash

from balancer.tokens import media

REMEMBERED = 50_000
"""How many blocks are remembered; each costs some hundred bytes."""

LIGHT_BYTES = 16 * 1024
"""Fewer new bytes than this are counted within two milliseconds."""

PIECE_CHARS = 8 * 1024
"""Text is counted in pieces: no search goes over more, so that other threads can go on between them."""

WEIGHTS: dict[str, tuple[float, ...]] = {
    "claude": (1.068, 0.0, 1.809, 1.088, 0.141, 0.233, 1.153, 0.173, 1.143, 1.277, -0.464, 1.26, 0.564),
    "claude-new": (1.334, 0.207, 1.393, 1.168, 0.418, 0.621, 1.062, 0.17, 1.272, 1.313, -0.503, 1.261, 0.587),
    "o200k": (0.969, 0.056, 0.868, 0.579, 0.241, 0.108, 1.471, 0.14, 0.96, 0.862, -0.159, 0.181, 0.38),
}
"""Per family: words, their letters beyond the fifth, aB boundaries, runs of punctuation, punctuation
beyond the first of a run, capitals beside capitals, numbers, digits, breaks and wide blanks, CJK
characters, kana among them, accented Latin letters, other non-ASCII characters."""

BASE = 7
PER_MESSAGE = 6
PER_TOOL = 10
TOOL_PROMPT = {"auto": 346, "none": 346, "any": 313, "tool": 313}
"""The system prompt that tools bring with them."""

BUILT_IN = {"bash": 245, "text_editor": 700, "str_replace": 700, "computer": 735}
UNKNOWN_IMAGE = 1600
IMAGE_FRAME = 70
IMAGE_MAX = {"claude": 1568, "claude-new": 4784, "o200k": 1445}
IMAGE_EDGE = {"claude": 1568, "claude-new": 2576, "o200k": 2048}
"""Images with a longer edge are scaled down to it."""

PDF_PAGE = 2200

BLOCK, TOOL, WHOLE = range(3)
"""What a hash stands for; it is the hash's seed, so that they are never mixed up."""

_WORDS = re.compile(r"[A-Za-z]+")
_BOUNDARIES = re.compile(r"[a-z][A-Z]")
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]+")
_CAPITALS = re.compile(r"[A-Z]{2,}")
_NUMBERS = re.compile(r"[0-9]+")
_BREAKS = re.compile(r"\n+|[ \t]{2,}")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f]")
_KANA = re.compile(r"[\u3040-\u30ff\uff66-\uff9f]")
_LATIN = re.compile(r"[\u0080-\u024f]")
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
    if len(text) <= PIECE_CHARS:
        return _of_piece(text, weights)
    return sum(_of_piece(text[at : at + PIECE_CHARS], weights) for at in range(0, len(text), PIECE_CHARS))


def _of_piece(text: str, weights: tuple[float, ...]) -> float:
    words = _WORDS.findall(text)
    runs = _PUNCTUATION.findall(text)
    numbers = _NUMBERS.findall(text)
    features = [
        len(words),
        sum([len(word) - 5 for word in words if len(word) > 5]),
        len(_BOUNDARIES.findall(text)),
        len(runs),
        sum(map(len, runs)) - len(runs),
        sum(map(len, _CAPITALS.findall(text))),
        len(numbers),
        sum(map(len, numbers)),
        len(_BREAKS.findall(text)),
    ]
    if not text.isascii():
        cjk, latin = len(_CJK.findall(text)), len(_LATIN.findall(text))
        features += [cjk, len(_KANA.findall(text)), latin, len(_NON_ASCII.findall(text)) - cjk - latin]
    return sum(map(float.__mul__, weights, map(float, features)))


class _Message(msgspec.Struct):
    role: msgspec.Raw = msgspec.Raw(b"null")
    content: msgspec.Raw = msgspec.Raw(b'""')


class _Body(msgspec.Struct):
    messages: list[_Message]
    system: msgspec.Raw = msgspec.Raw(b'""')
    tools: msgspec.Raw = msgspec.Raw(b"[]")
    tool_choice: msgspec.Raw = msgspec.Raw(b"null")


_ROLES = frozenset({b'"user"', b'"assistant"', b'"system"'})
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
        try:
            return self._request(_BODY.decode(body), family(model))
        except UnicodeDecodeError:
            raise msgspec.DecodeError("the request body is not valid UTF-8") from None
        except RecursionError:
            raise msgspec.DecodeError("the request body is nested too deeply") from None

    def _request(self, request: _Body, kind: str) -> int:
        for number, message in enumerate(request.messages):
            if bytes(memoryview(message.role)) not in _ROLES:
                raise msgspec.ValidationError(f"messages.{number}.role: must be 'user', 'assistant' or 'system'")
        count = BASE + PER_MESSAGE * len(request.messages)
        for content in (request.system, *[message.content for message in request.messages]):
            count += self._content(content, kind)
        if tools := _list(request.tools):
            choice = _decoded(request.tool_choice)
            named = str(choice.get("type")) if isinstance(choice, dict) else "auto"
            count += TOOL_PROMPT.get(named, TOOL_PROMPT["auto"]) + sum(self._tool(tool, kind) for tool in tools)
        return count

    def is_heavy(self, body: bytes) -> bool:
        """Say whether to count this off the event loop: much of it is new."""
        if len(body) <= LIGHT_BYTES:
            return False
        try:
            request = _BODY.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        new = 0
        for seed, raws in (
            (WHOLE, (request.system, *[message.content for message in request.messages])),
            (TOOL, _list(request.tools)),
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
        known = self._recall(key)
        if known is None:
            known = sum(self._remembered(block, kind, BLOCK, of_block) for block in _blocks(raw))
            self._remember(key, known)
        return known

    def _tool(self, raw: msgspec.Raw, kind: str) -> int:
        return self._remembered(raw, kind, TOOL, of_tool)

    def _remembered(self, raw: msgspec.Raw, kind: str, seed: int, count: Callable[[Any, str], float]) -> int:
        key = (kind, xxhash.xxh3_64_intdigest(memoryview(raw), seed))
        known = self._recall(key)
        if known is None:
            known = math.ceil(count(_decoded(raw), kind))
            self._remember(key, known)
        return known

    def _recall(self, key: tuple[str, int]) -> int | None:
        try:
            self._known.move_to_end(key)
            return self._known[key]
        except KeyError:  # unknown, or forgotten by another thread just now
            return None

    def _remember(self, key: tuple[str, int], count: int) -> None:
        self._known[key] = count
        if len(self._known) > self._limit:
            self._known.popitem(last=False)


def _blocks(raw: msgspec.Raw) -> list[msgspec.Raw]:
    """Return the blocks of some content; a string is one."""
    return _RAWS.decode(raw) if bytes(memoryview(raw)[:1]) == b"[" else [raw]


def _list(raw: msgspec.Raw) -> list[msgspec.Raw]:
    """Return the items of a list; none of anything else."""
    return _RAWS.decode(raw) if bytes(memoryview(raw)[:1]) == b"[" else []


def _decoded(raw: msgspec.Raw) -> Any:
    """Return what some JSON says; JSON that says what cannot be held (1e999) is a text."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.MsgspecError:
        return bytes(memoryview(raw)).decode()


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
            return sum(_of_unknown(value, kind) for key, value in block.items() if key not in _UNSAID)


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
    data = source.get("data") if isinstance(source, dict) else None
    size = media.pixels(data) if isinstance(data, str) else None
    if size is None:
        return UNKNOWN_IMAGE
    scale = min(1.0, IMAGE_EDGE[kind] / max(*size, 1))
    width, height = (math.ceil(length * scale / 28) for length in size)
    return min(width * height, IMAGE_MAX[kind]) + IMAGE_FRAME


def _of_document(block: dict[str, Any], kind: str) -> float:
    source = block.get("source")
    count = sum(of_text(str(block.get(key) or ""), WEIGHTS[kind]) for key in ("title", "context"))
    if not isinstance(source, dict):
        return count
    data = source.get("data")
    if source.get("type") == "base64" and isinstance(data, str):
        return count + PDF_PAGE * media.pages(data)
    if isinstance(data, str):
        return count + of_text(data, WEIGHTS[kind])
    if "content" not in source:
        return count + PDF_PAGE  # by its URL or file id: there is a page at least
    content = source["content"]
    return count + sum(of_block(part, kind) for part in (content if isinstance(content, list) else [content]))


_UNSAID = frozenset({"type", "id", "tool_use_id", "signature", "data", "cache_control", "encrypted_content"})
_KNOWN = frozenset({"text", "thinking", "redacted_thinking", "image", "document", "tool_use", "tool_result"})


def _of_unknown(value: Any, kind: str) -> float:
    """Estimate something that nobody knows by the texts and the blocks in it."""
    count = 0.0
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            count += 0.0 if media.is_media(item) else of_text(item, WEIGHTS[kind])
        elif isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            named = item.get("type")
            if isinstance(named, str) and named in _KNOWN:
                count += of_block(item, kind)
            elif named != "base64":
                left += [inner for key, inner in item.items() if key not in _UNSAID]
    return count


def _compact(value: Any) -> str:
    return msgspec.json.encode(value).decode() if value is not None else ""


class Correction:
    """How far the estimates are off, per provider and model, learnt from the usage of real answers."""

    STEP = 0.3
    BOUNDS = (0.5, 2.0)
    LIMIT = 1000

    def __init__(self) -> None:
        self._ratios: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        """The ratio of real to estimated tokens, and from how many answers it is known."""

    def observe(self, provider: str, model: str, estimate: int, real: int) -> None:
        """Compare an estimate with the usage of its answer. The first few samples weigh alike, then the latest most."""
        if estimate <= 0 or real <= 0:
            return
        low, high = self.BOUNDS
        ratio = min(high, max(low, real / estimate))
        known, samples = self._ratios.get((provider, model), (1.0, 0))
        step = max(self.STEP, 1 / (samples + 1))
        self._ratios[provider, model] = known + step * (ratio - known), samples + 1
        self._ratios.move_to_end((provider, model))
        if len(self._ratios) > self.LIMIT:
            self._ratios.popitem(last=False)

    def correct(self, provider: str, model: str, estimate: int) -> int:
        """Return the estimate as it would have been right lately."""
        ratio, _ = self._ratios.get((provider, model), (1.0, 0))
        return max(1, round(estimate * ratio))

    def samples(self, provider: str, model: str) -> int:
        """Return from how many answers the correction is known."""
        return self._ratios.get((provider, model), (1.0, 0))[1]
