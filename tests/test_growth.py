"""Whatever looks at text from outside takes time in proportion to its length: twice the text, twice the time.

One event loop serves everybody, so one text that takes minutes stops all. Every pattern of the package is found by
importing every module, and is tried on texts that are made of its own parts, as these are what it stumbles over. A new
pattern is tried without being listed anywhere; one that need not be linear stands in `EXEMPT`, with the reason.
"""

from __future__ import annotations

import ast
import gzip
import importlib
import json
import pkgutil
import re
import re._constants as code  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import brotli
import msgspec
import pytest
from stand_ins import provider, request

import balancer
from balancer import claude_code, dialects
from balancer.config import ConfigError, parse
from balancer.dialect import Ask, FlowFailed, Incapable, TypedState
from balancer.dialects.openai.arguments import arguments
from balancer.dialects.openai.profiles import PROFILES
from balancer.dialects.openai.request import chat
from balancer.dialects.openai.responses import from_chat
from balancer.dialects.openai.think_tags import ThinkTags
from balancer.dialects.zed.decoder import Small, count
from balancer.dialects.zed.request import tidied
from balancer.headers import Headers
from balancer.model import Candidate, Operation, Refused, Reply, Route, Stage
from balancer.policy import affinity, classify
from balancer.policy.routes import _Table
from balancer.policy.statements import statement
from balancer.redact import Inventory, anonymous, closed, scrub, secrets_in
from balancer.redact.inventory import undone
from balancer.relay import border
from balancer.relay.judging import _ENDED, HeldDecoder
from balancer.server.paths import canonical
from balancer.tokens import estimate, media
from balancer.transport.decompress import Damaged, Inflater
from balancer.transport.framing import FramedResponse, HeaderFields
from balancer.wire import (
    complaints,
    errors,
    history,
    loose,
    messages,
    openai_requests,
    overflow,
    safety_judge,
    sse,
    waits,
)
from balancer.wire.ndjson import LineSplitter
from balancer.wire.safeguards import WithoutVerdict
from balancer.wire.stream import StreamDecoder

SHORT, LONG = 1024, 16 * 1024
"""In characters. What is quadratic takes more than 100 million steps for the longer one."""

QUICK_S = 0.012
"""What takes no longer for `LONG` is linear, or nearly: a tenth of a nanosecond for each of those steps."""

SURE_S = 0.001
"""What takes no longer for `SHORT` may be tried on `LONG` at once: what is cubic would take 4 s. Otherwise minutes."""

FACTOR = 2.8
"""How much longer twice the text may take: 2, and what a shared machine adds. A quadratic one takes 4 times as long."""

TRIES = 5

EXEMPT: dict[str, str] = {
    "balancer.config": "the owner's own file, of at most 2 MB, read off the loop",
    "balancer.wire.complaints._DURATION": "a header's value, of which no more than 40 bytes are read",
    "balancer.wire.overflow._LIMIT": "a message without long runs of digits, see canonical",
    "balancer.wire.overflow.SPLITS": "the same",
    "balancer.wire.overflow._PROMPT": "the same",
    "balancer.commands": "the user's own command line, in a process of its own",
}
"""Patterns that never see text from outside, by the beginning of their names, each with the reason."""


# Measuring


def spent_s(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def grows(run: Callable[[int], Callable[[], object]], longest: int = LONG) -> str:
    """Return how `run(length)()` grows faster than its input; empty: it does not."""
    size, short_s = SHORT, spent_s(run(SHORT))
    if short_s < QUICK_S * (SHORT / longest) ** 2:
        return ""  # what is quadratic takes no longer than `QUICK_S` for the longest then, and what is cubic is seen by now
    if short_s < SURE_S or (short_s < QUICK_S and spent_s(run(SHORT * 4)) < QUICK_S):
        size = longest
    elif short_s < QUICK_S:
        size = SHORT * 4
    run_long, run_half = run(size), run(size // 2)
    long_s = half_s = float("inf")
    for _ in range(TRIES):  # other processes, a collection of garbage
        long_s = min(long_s, spent_s(run_long))
        if long_s <= QUICK_S:
            return ""
        half_s = min(half_s, spent_s(run_half))
        if long_s <= half_s * FACTOR:
            return ""
    return f"{size // 2} characters: {half_s * 1000:.1f} ms, {size}: {long_s * 1000:.1f} ms"


# Patterns


def _walk(name: str, value: object, depth: int = 0) -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Return the patterns in a value, however they are kept."""
    if isinstance(value, re.Pattern):
        yield name, value
    elif depth > 5:
        return
    elif isinstance(value, list | tuple | set | frozenset):
        for number, one in enumerate(value):
            yield from _walk(f"{name}[{number}]", one, depth + 1)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _walk(f"{name}[{key!r}]", one, depth + 1)
    elif type(value).__module__.startswith("balancer"):
        fields = getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", None) or ()
        for field in fields:
            yield from _walk(f"{name}.{field}", getattr(value, field), depth + 1)


def _written_inside(path: Path) -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Return the patterns that are written where they are used: `re.sub("...", ...)` in a function."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    for node in (inner for function in functions for inner in ast.walk(function)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        of, first = node.func.value, node.args[0]
        if isinstance(of, ast.Name) and of.id == "re" and isinstance(first, ast.Constant):
            yield f"line {node.lineno}", re.compile(first.value)


@cache
def _source() -> str:
    return "\n".join(path.read_text() for path in Path(*balancer.__path__).rglob("*.py"))


def _is_anchored(name: str) -> bool:
    """Say whether a pattern is only ever matched at the beginning of a text, and never looked for in it."""
    last = name.rpartition(".")[2]
    uses = re.findall(rf"(?<![\w.\"'`]){re.escape(last)}\b(?! =|: )(\.(?:full)?match\()?", _source())
    return last.isidentifier() and bool(uses) and all(uses)


@cache
def patterns() -> dict[str, re.Pattern[Any]]:
    """Return every pattern of the package, by where it stands. One that several modules know is named once."""
    found: dict[tuple[object, int], tuple[str, re.Pattern[Any]]] = {}
    for info in pkgutil.walk_packages(balancer.__path__, "balancer."):
        if info.name.rpartition(".")[2] == "__main__":
            continue
        module = importlib.import_module(info.name)
        for name, value in list(vars(module).items()):
            if not name.startswith("__"):
                for where, pattern in _walk(f"{info.name}.{name}", value):
                    found.setdefault((pattern.pattern, pattern.flags), (where, pattern))
        if module.__file__:
            for where, pattern in _written_inside(Path(module.__file__)):
                found.setdefault((pattern.pattern, pattern.flags), (f"{info.name}, {where}", pattern))
    return dict(found.values())


def _sample(tree: Any, most: bool) -> str:
    """Return a text that a parsed pattern may match; `most`: with optional parts, and repeats three times."""
    parts: list[str] = []
    for kind, value in tree:
        if kind is code.LITERAL:
            parts.append(chr(value))
        elif kind is code.NOT_LITERAL:
            parts.append("a" if value != ord("a") else "b")
        elif kind is code.ANY:
            parts.append("a")
        elif kind is code.IN:
            parts.append(_of_class(value))
        elif kind is code.BRANCH:
            parts.append(_sample(value[1][-1 if most else 0], most))
        elif kind is code.SUBPATTERN:
            parts.append(_sample(value[-1], most))
        elif kind is code.ATOMIC_GROUP:
            parts.append(_sample(value, most))
        elif kind in (code.MAX_REPEAT, code.MIN_REPEAT, code.POSSESSIVE_REPEAT):
            low, high, inner = value
            parts.append(_sample(inner, most) * min(int(high), max(int(low), 3 if most else 0)))
    return "".join(parts)


def _of_class(members: Any) -> str:
    negated = [kind for kind, _ in members][:1] == [code.NEGATE]
    if not negated:
        kind, value = members[0]
        if kind is code.LITERAL:
            return chr(value)
        if kind is code.RANGE:
            return chr(value[0])
        return {code.CATEGORY_DIGIT: "1", code.CATEGORY_SPACE: " ", code.CATEGORY_NOT_DIGIT: "a"}.get(value, "a")
    one = re.compile(r"[\s\S]")
    taken = {chr(value) for kind, value in members if kind is code.LITERAL}
    return next(char for char in "ab1 -.x" if char not in taken and one.match(char))


def _texts(pattern: re.Pattern[Any]) -> Iterator[str]:
    """Return what is repeated to try a pattern: what it may match, its beginnings, its parts, and what is usual."""
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    tree = parser.parse(source, pattern.flags & ~re.UNICODE)
    branches = [option for kind, value in tree if kind is code.BRANCH for option in value[1]] or [tree]
    for branch in branches:
        for most in (False, True):
            whole = _sample(branch, most)
            yield whole
            yield whole + " "
            yield whole[: len(whole) // 2]
            yield whole[:-1]
            yield whole[:-1] + "\x00"
        for node in branch:
            part = _sample([node], most=True)
            yield part
            yield from part[:1]
    yield from (
        "a",
        "a1",
        "1",
        " ",
        "\n",
        "a.",
        "a-",
        '"',
        "\\",
        "\\\\u",
        "{",
        "[",
        "://",
        "a:",
        "= ",
        "\r\n",
        ", ",
        "a b ",
    )


def _pumped(pattern: re.Pattern[Any], text: str, head: str, *, anchored: bool) -> Callable[[int], Callable[[], object]]:
    def looked_for(whole: Any) -> None:
        pattern.fullmatch(whole)
        for _ in () if anchored else pattern.finditer(whole):
            pass

    def of(length: int) -> Callable[[], object]:
        whole = head + (text * (length // len(text) + 1))[:length] + "\x00"
        if isinstance(pattern.pattern, bytes):
            data = whole.encode("latin-1", "replace")
            return lambda: looked_for(data)
        return lambda: looked_for(whole)

    return of


@pytest.mark.parametrize("name", [name for name in patterns() if not name.startswith(tuple(EXEMPT))])
def test_no_pattern_takes_longer_than_in_proportion(name: str) -> None:
    pattern = patterns()[name]
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    head = _sample(parser.parse(source, pattern.flags & ~re.UNICODE), most=False)[:40]

    anchored = _is_anchored(name)
    for text in dict.fromkeys(text for text in _texts(pattern) if text):
        for before in dict.fromkeys(("", head)):
            assert grows(_pumped(pattern, text, before, anchored=anchored)) == "", f"{text!r} behind {before!r}"


def test_every_exemption_is_of_a_pattern_that_is_there() -> None:
    for beginning, reason in EXEMPT.items():
        assert reason
        assert any(name.startswith(beginning) for name in patterns()), beginning


def test_a_pattern_that_takes_time_by_the_square_is_found() -> None:
    slow = re.compile(r"a+b|x*y")

    assert any(grows(_pumped(slow, text, "", anchored=False)) for text in _texts(slow) if text)


# Readers, redactors, converters, splicers

CHUNK = 1024
SECRETS = Inventory(["Zk7canary/with+odd=chars99", "password=", "secret:secret:secret"])

SEEN: dict[str, Callable[[str], object]] = {
    "scrub": scrub,
    "scrub with secrets": lambda text: scrub(text, SECRETS),
    "anonymous": anonymous,
    "closed": lambda text: closed(text, lambda word: word in text[:100]),
    "secrets": lambda text: SECRETS.without(text.encode("utf-8", "replace")),
    "escapes": lambda text: undone(text.encode("utf-8", "replace")),
    "lines": lambda text: SECRETS.lines([(b"request-id", text.encode("utf-8", "replace"))]),
    "a client's credentials": lambda text: list(secrets_in(((b"authorization", text.encode("utf-8", "replace")),))),
    "an error of the Messages API": lambda text: errors.fault_of(_refused(text), 0.0),
    "an error of another API": lambda text: complaints.fault_of(_refused(text), 0.0, "req_1"),
    "an error inside a stream": lambda text: complaints.inner_fault({"error": {"type": text, "message": text}}),
    "an outcome at the border": lambda text: border.cleaned(_outcome(text), SECRETS, request()),
    "a verdict": lambda text: classify.refused(errors.fault_of(_refused(text), 0.0)),
    "a statement": lambda text: statement(_outcome(text), 0.0, SECRETS),
    "overflow": lambda text: overflow.canonical(text, text, None, None),
    "a wait": lambda text: waits.stated_wait_s({"error": {"message": text}}, text, 0.0),
    "loose JSON": lambda text: _tried(loose.loosely_decoded, text),
    "frames": lambda text: sse.frames(text.encode("utf-8", "replace")),
    "fields of a frame": lambda text: sse.fields(text.encode("utf-8", "replace")),
    "a stream": lambda text: _fed(b'event: content_block_delta\ndata: {"type": "x' + text.encode("utf-8", "replace")),
    "a stream of blank lines": lambda text: _fed(text.encode("utf-8", "replace") + b"\n\n"),
    "a spliced body": lambda text: _tried(
        lambda body: b"".join(messages.spliced(body, "other")),
        json.dumps({"metadata": {"model": text}, "messages": text, "model": "m"}).encode(),
    ),
    "another model": lambda text: _tried(
        lambda body: messages.spliced(body, "other"), ('{"model":"m","x":' + text).encode("utf-8", "replace")
    ),
    "thinking of ours": lambda text: history.without_own_thinking(
        json.dumps({"messages": [{"content": [{"type": "thinking", "thinking": text, "signature": text}]}]}).encode()
    ),
    "the head of a request": lambda text: _tried(
        messages.head, json.dumps({"model": text, "messages": [text]}).encode()
    ),
    "the head of what is no JSON": lambda text: _tried(messages.head, ('{"model":' + text).encode("utf-8", "replace")),
    "a request with lone surrogates": lambda text: messages.without_lone_surrogates(json.dumps(text).encode()),
    "the opening of a conversation": lambda text: affinity.of_request(
        {},
        messages.head(json.dumps({"model": "m", "system": text, "messages": [{"content": text}]}).encode()),
        "",
        "prefix",
    ),
    "a request to OpenAI's API": lambda text: _tried(
        lambda body: openai_requests.head(body, Operation.CHAT_COMPLETIONS),
        json.dumps({"model": "m", "x": text}).encode(),
    ),
    "blanks between members": lambda text: _tried(
        messages.head, ('{"model":"m","messages":[' + text + "]}").encode("utf-8", "replace")
    ),
    "tokens of a text": lambda text: estimate.of_text(text, next(iter(estimate.WEIGHTS.values()))),
    "a medium": media.is_media,
    "pages": media.pages,
    "pixels": media.pixels,
    "a session's id": claude_code.session_of,
    "billing": claude_code.without_billing,
    "reminders": claude_code.without_reminders,
    "a compaction": claude_code.is_compaction,
}

REPEATED = (
    *(
        "password=",
        "secret:secret:",
        "eyJ-",
        "eyJa.",
        "sk-",
        " at ////",
        "\n at a/b:1:",
        "a" * 40,
        "a.b.",
        "org-",
        "req_a",
    ),
    *("http://", "https://a.com/", "://", "10.0.0.", "localhost:", "Bearer ", "api_key ", "<html", "\x1b[", "\x1b[0;"),
    *(
        "%25",
        "%",
        "\\u0061",
        "\\\\",
        "\\u00",
        "&#x61;",
        "&amp;",
        "&#",
        "Zk7canary",
        "Zk7canary/with+odd=chars99",
        "WmtDY2",
    ),
    *(
        " ",
        "\n",
        "\r",
        "\r\n",
        "\t",
        '"',
        "'",
        "{",
        "[",
        "{}",
        "[],",
        '{"a":',
        '"model":',
        '"model"',
        ",",
        "0",
        "1,",
        "-",
    ),
    *("tokens ", "maximum context length is ", "retry in ", "try again in 1", "prompt is too long ", "1 > 1 "),
    *("event: ", "data: ", "data: {}\n\n", "event: ping\n\n", ": \n", "\u2028", "\ud800", "é", "漢"),
)


def _refused(text: str) -> Reply:
    headers: Headers = ((b"retry-after", text.encode("utf-8", "replace")[:64]),)
    return Reply(400, headers, json.dumps({"error": {"type": text, "message": text, "code": text}}).encode())


def _outcome(text: str) -> Refused:
    return Refused(errors.fault_of(_refused(text), 0.0), Stage.WAIT)


def _tried(read: Callable[[Any], object], text: object) -> object:
    try:
        return read(text)
    except (ValueError, RecursionError, msgspec.MsgspecError, messages.BadRequest, Incapable):
        return None


def _fed(data: bytes) -> list[object]:
    decoder = StreamDecoder()
    pieces: list[object] = []
    for at in range(0, len(data), CHUNK):
        pieces += decoder.feed(data[at : at + CHUNK])
    return pieces + list(decoder.end())


@pytest.mark.parametrize("name", SEEN)
def test_nothing_that_reads_takes_longer_than_in_proportion(name: str) -> None:
    run = SEEN[name]

    for text in REPEATED:
        whole = text * (LONG // len(text) + 1)
        assert grows(lambda length, whole=whole: lambda: run(whole[:length])) == "", repr(text)  # type: ignore[misc]


# What many small things are made of: conversions of requests, streams, bodies in pieces

LONGER = 256 * 1024
"""In characters. Copying what is left again and again is quick for short texts, and takes minutes for long ones."""


def _request_of(text: str) -> bytes:
    """Return a request that has the text wherever a client may write one."""
    tool = {"name": "Read", "description": text, "input_schema": {"type": "object", "description": text}}
    turns = [
        {"role": "user", "content": text},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Read", "input": {"a": text}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": text}]},
        {"role": "user", "content": [{"type": "text", "text": text}]},
    ]
    asked = {"model": "m", "max_tokens": 9, "system": text, "tools": [tool], "messages": turns, "stream": True}
    return json.dumps({**asked, "metadata": {"user_id": text}, "stop_sequences": [text]}).encode()


EACH = 64
"""Of so many characters of the length stands for one of many."""


def _request_of_many(what: str) -> Callable[[str], bytes]:
    def made(text: str) -> bytes:
        many = range(len(text) // EACH + 1)
        body: dict[str, Any] = {
            "model": "m",
            "max_tokens": 9,
            "stream": True,
            "messages": [{"role": "user", "content": "x"}],
        }
        if what == "messages of one role":
            body["messages"] = [{"role": "user", "content": text[:8] or "x"} for _ in many]
        elif what == "messages in turns":
            body["messages"] = [{"role": ("user", "assistant")[n % 2], "content": text[:8] or "x"} for n in many]
        elif what == "blocks":
            body["messages"] = [{"role": "user", "content": [{"type": "text", "text": "x"} for _ in many]}]
        elif what == "system blocks":
            body["system"] = [{"type": "text", "text": text[:8] or "x"} for _ in many]
        elif what == "tools":
            body["tools"] = [{"name": f"T{n}", "description": "d", "input_schema": {"type": "object"}} for n in many]
        elif what == "calls and results":
            calls = [{"type": "tool_use", "id": f"t{n}", "name": "T", "input": {}} for n in many]
            results = [{"type": "tool_result", "tool_use_id": f"t{n}", "content": "x"} for n in many]
            body["messages"] += [{"role": "assistant", "content": calls}, {"role": "user", "content": results}]
        elif what == "results without calls":
            body["messages"] = [
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"t{n}"} for n in many]}
            ]
        return json.dumps(body).encode()

    return made


MANY = (
    "messages of one role", "messages in turns", "blocks", "system blocks", "tools", "calls and results",
    "results without calls",
)  # fmt: skip


def _asks(name: str, body: bytes, operation: Operation = Operation.MESSAGES) -> Ask:
    dialect = dialects.get(name)
    one = provider(type=name, options=dialect.Options())
    return Ask(request(body), Candidate(one, "m"), operation, TypedState(), 1.8e9, "n")


def _sent(name: str, body: bytes) -> object:
    """Return what a provider of this type is sent first."""
    try:
        return next(dialects.get(name).flow(_asks(name, body)))
    except (Incapable, FlowFailed):
        return None


def _received(name: str, data: bytes, *, stream: bool, operation: Operation = Operation.MESSAGES) -> object:
    """Return what becomes of an answer of a provider of this type, in pieces of `CHUNK`."""
    ask = _asks(name, b'{"model":"m","max_tokens":9,"messages":[]}', operation)
    ask.request.stream = stream
    decoder = dialects.get(name).decoder(ask, Reply(200, ((b"content-type", b"text/event-stream"),)))
    return [decoder.feed(data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)], decoder.end()


def _judged(name: str, data: bytes) -> object:
    """Return what becomes of an answer of a provider of this type where a safety judge waits for its end."""
    kinds = b'"safeguards":[{"type":"%b"}]' % safety_judge.KIND.encode()
    ask = _asks(name, b'{"model":"m","max_tokens":9,"messages":[],%b}' % kinds)
    ask.request.stream = True
    inner = dialects.get(name).decoder(ask, Reply(200, ((b"content-type", b"text/event-stream"),)))
    assert isinstance(inner, WithoutVerdict)
    held = HeldDecoder(inner, stream=True)
    pieces = [held.feed(data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]
    return pieces, held.feed(_ENDED), held.actions


def _messages_stream(text: str) -> bytes:
    begun = b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":{}}}\n\n'
    block = b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    word = json.dumps({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text[:8]}})
    deltas = sse.frame("content_block_delta", word.encode()) * (len(text) // EACH + 1)
    return begun + block + deltas + sse.frame("message_stop", b'{"type": "message_stop"}')


def _chat_stream(text: str, **delta: Any) -> bytes:
    choice = {"choices": [{"index": 0, "delta": delta or {"content": text[:8]}}]}
    return (b"data: " + json.dumps(choice).encode() + b"\n\n") * (len(text) // EACH + 1) + b"data: [DONE]\n\n"


def _call(text: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "T", "arguments": text[:8]}}]}


def _responses_stream(text: str) -> bytes:
    item: dict[str, Any] = {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {"type": "message", "content": []},
    }
    word: dict[str, Any] = {
        "type": "response.output_text.delta",
        "output_index": 0,
        "content_index": 0,
        "delta": text[:8],
    }
    events: list[dict[str, Any]] = [
        item,
        *([word] * (len(text) // EACH + 1)),
        {"type": "response.completed", "response": {"output": []}},
    ]
    return b"".join(sse.frame(str(one["type"]), json.dumps(one).encode()) for one in events)


def _zed_lines(text: str) -> bytes:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "usage": {}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *([{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text[:8]}}] * (len(text) // EACH + 1)),
        {"type": "message_stop"},
    ]  # fmt: skip
    return b"".join(json.dumps({"event": event}).encode() + b"\n" for event in events)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _framed(head: bytes) -> Callable[[str], object]:
    def run(text: str) -> None:
        response, data = FramedResponse(HeaderFields()), head + _raw(text)
        for at in range(0, len(data), 64):
            response.feed(data[at : at + 64])

    return run


def _inflated(encoding: bytes, packed: Callable[[bytes], bytes]) -> Callable[[str], object]:
    def run(text: str) -> None:
        inflater, data = Inflater(encoding), packed(_raw(text))
        try:
            for at in range(0, len(data), 64):
                for _ in inflater.pieces(data[at : at + 64]):
                    pass
        except Damaged:
            return

    return run


def _lines_of(text: str) -> None:
    splitter, data = LineSplitter(), _raw(text)
    for at in range(0, len(data), 64):
        splitter.feed(data[at : at + 64])
    splitter.end()


def _frames_of(text: str) -> None:
    splitter, data = sse.FrameSplitter(), _raw(text)
    for at in range(0, len(data), 64):
        splitter.feed(data[at : at + 64])


def _small(data: bytes) -> object:
    decoder = Small(count)
    return [decoder.feed(data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)], decoder.end()


def _taught(text: str) -> object:
    """Let a refusal teach a provider of type openai, which reads as much of it as the dialect gives."""
    name = "openai"
    ask = _asks(name, _request_of("hi"))
    flow = dialects.get(name).flow(ask)
    next(flow)
    body = json.dumps({"error": {"message": f"temperature {text} max_tokens", "param": "temperature"}}).encode()
    with suppress(StopIteration, Incapable, FlowFailed):
        flow.send(Reply(400, ((b"content-type", b"application/json"),), body))
    return None


ROUTES = _Table([Route(pattern, ()) for pattern in ("*a*b*c*d", "*claude*sonnet*", "?*?*-*-*x", "*-*-*-*-*-*")])

MADE: dict[str, Callable[[str], object]] = {
    **{
        f"a request to {name}, {what}": lambda text, name=name, made=made: _sent(name, made(text))  # type: ignore[misc]
        for name in dialects.names()
        for what, made in {"words": _request_of, **{what: _request_of_many(what) for what in MANY}}.items()
    },
    **{
        f"an answer of openai, judged, {what}": lambda text, made=made: _judged("openai", made(text))  # type: ignore[misc]
        for what, made in {"Chat's": _chat_stream, "Chat's calls": lambda text: _chat_stream(text, **_call(text))}.items()
    },
    **{
        f"an answer of {name}, {what}{', streamed' if stream else ''}": lambda text, name=name, made=made, stream=stream: (  # type: ignore[misc]
            _received(name, made(text), stream=stream)
        )
        for name in dialects.names()
        for stream in (True, False)
        for what, made in {
            "raw": _raw,
            "an event": lambda text: b"data: " + _raw(text),
            "the Messages API's": _messages_stream,
            "Chat's": _chat_stream,
            "Chat's calls": lambda text: _chat_stream(text, **_call(text)),
            "the Responses API's": _responses_stream,
            "Zed's": _zed_lines,
            "JSON": lambda text: json.dumps({"choices": [{"message": {"content": text}}], "content": text}).encode(),
        }.items()
    },
    **{
        f"{operation.word} passed on, {what}": lambda text, operation=operation, made=made: _received(  # type: ignore[misc]
            "openai", made(text), stream=True, operation=operation
        )
        for operation in (Operation.CHAT_COMPLETIONS, Operation.RESPONSES)
        for what, made in {"raw": _raw, "Chat's": _chat_stream, "Responses'": _responses_stream}.items()
    },
    "small answers of Zed": lambda text: _tried(_small, _raw(text)),
    "a completion that is passed on whole": lambda text: _received(
        "openai", _raw(text), stream=False, operation=Operation.CHAT_COMPLETIONS
    ),
    "what a refusal teaches": _taught,
    "a list of models": lambda text: _received(
        "openai", json.dumps({"data": [{"id": text[:8]}] * (len(text) // EACH + 1)}).encode(), stream=False, operation=Operation.MODELS
    ),
    "a request to Zed, as it is taken": lambda text: [tidied(json.loads(made(text))) for made in map(_request_of_many, MANY)],
    "a request by the Responses API": lambda text: [
        _tried(lambda body: from_chat(chat(body, "m", PROFILES["openai"], "up").body), made(text))
        for made in map(_request_of_many, MANY)
    ],
    "thinking in tags": lambda text: ThinkTags().split(text),
    "arguments of a call": lambda text: _tried(arguments, text),
    "lines": _lines_of,
    "pieces of frames": _frames_of,
    "a head of an answer": _framed(b"HTTP/1.1 200 OK\r\nx: "),
    "a body of an answer": _framed(b"HTTP/1.1 200 OK\r\ncontent-type: x\r\n\r\n"),
    "chunks of an answer": _framed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
    "small chunks of an answer": lambda text: _framed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")("1\r\nx\r\n" * (len(text) // 6)),
    "what is packed by gzip": _inflated(b"gzip", gzip.compress),
    "what is packed by deflate": _inflated(b"deflate", zlib.compress),
    "what is packed by brotli": _inflated(b"br", lambda data: bytes(brotli.compress(data, quality=1))),
    "what is not packed by gzip": _inflated(b"gzip", bytes),
    "what is not packed by brotli": _inflated(b"br", bytes),
    "a model's name": lambda text: ROUTES.find(text),
    "a path": canonical,
}  # fmt: skip

ALIKE = (*MANY, "API's, streamed", "API's", "Chat's", "Chat's, streamed", "calls", "calls, streamed", "Responses'", "Zed's",
         "Zed's, streamed", "models", "as it is taken", "by the Responses API")  # fmt: skip
"""Rows whose texts matter by their length alone, by how their names end."""

TOGETHER = (
    "a", "a b ", "\n", "\n\n", "\r\n", "data: {}\n\n", "<think></think>", "<think>", "</", '{"a":', "[", '\\"', "a-", "claude", "\u2028", "1\r\n",
)  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_nothing_that_is_made_of_many_takes_longer_than_in_proportion(name: str) -> None:
    run = MADE[name]

    for text in TOGETHER[:2] if name.endswith(ALIKE) else TOGETHER:
        whole = text * (LONGER // len(text) + 1)
        assert grows(lambda length, whole=whole: lambda: run(whole[:length]), LONGER) == "", repr(text)  # type: ignore[misc]


# The owner's own file: not on the loop, but nobody should wait minutes for it either. (Brackets without end are refused
# as nested too deeply, after a second at most, however many there are.)


@pytest.mark.parametrize(
    "text", ["a: 1\n", "- ", '"', "a", "{a: ", "\t", "# x\n", "a:b\n", "${A}", "sk-a1b2c3d4 ", "&a "]
)
def test_no_configuration_is_so_odd_that_reading_it_takes_longer_than_in_proportion(text: str) -> None:
    def read(whole: str) -> None:
        with suppress(ConfigError):
            parse(whole, "p.yaml", {"A": "b"})

    # In whole pieces: half a line may be a mistake, which is looked for by a slower reader.
    assert grows(lambda length: lambda: read(text * (length // len(text)))) == ""


# Nothing that reads is left out


def _modules() -> Iterator[tuple[str, ast.Module]]:
    root = Path(*balancer.__path__)
    for path in sorted(root.rglob("*.py")):
        yield ".".join(path.relative_to(root.parent).with_suffix("").parts), ast.parse(path.read_text())


FED = {
    "balancer.dialects.zed.decoder.ZedDecoder": "an answer of zed, Zed's",
    "balancer.dialects.zed.decoder.Small": "small answers of Zed",
    "balancer.dialects.openai.listing.ModelsDecoder": "a list of models",
    "balancer.dialects.openai.decoder.OpenAIDecoder": "an answer of openai, Chat's",
    "balancer.dialects.openai.passed.PassedStream": "chat_completions passed on, Chat's",
    "balancer.dialects.openai.passed.PassedWhole": "a completion that is passed on whole",
    "balancer.relay.judging.HeldDecoder": "an answer of openai, judged, Chat's calls",
    "balancer.transport.framing.FramedResponse": "chunks of an answer",
    "balancer.transport.decompress._Zlib": "what is packed by gzip",
    "balancer.transport.decompress._Brotli": "what is packed by brotli",
    "balancer.wire.answer.MessageDecoder": "an answer of anthropic, raw",
    "balancer.wire.answer.StreamedMessage": "an answer of anthropic, the Messages API's",
    "balancer.wire.ndjson.LineSplitter": "lines",
    "balancer.wire.stream.StreamDecoder": "a stream",
    "balancer.wire.sse.FrameSplitter": "pieces of frames",
    "balancer.wire.safeguards._Around": "an answer of anthropic, the Messages API's",
}
"""What is fed with bytes from outside, each with the row above that feeds it."""


def test_everything_that_is_fed_has_a_row() -> None:
    fed = {
        f"{module}.{node.name}"
        for module, tree in _modules()
        if not module.startswith("balancer.commands")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and not any(ast.unparse(base) == "Protocol" for base in node.bases)
        and any(isinstance(inner, ast.FunctionDef) and inner.name == "feed" for inner in node.body)
    }

    assert fed == set(FED)
    for row in FED.values():
        assert any(name.startswith(row) for name in (*SEEN, *MADE)), row


def _called(tree: ast.Module, of: str, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            yield from [node] if node.func.attr in names and ast.unparse(node.func.value) == of else []


LOOKING = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}

PUT_TOGETHER = {
    "balancer.redact.inventory": "words of secrets, of which each character has a few spellings: the row 'secrets'",
    "balancer.policy.patterns": "the row 'a model's name'",
    "balancer.dialects.openai.refusals": "names of fields, in a text that was cut: the row 'what a refusal teaches'",
    "balancer.dialects.openai.ways": "the same",
    "balancer.policy.refusal_rows": "of constants, at import: among the patterns above",
    "balancer.wire.overflow": "of constants, at import: among the patterns above",
    "balancer.config.providers": "the owner's own file",
    "balancer.commands.log_lines": "names of files in the log's folder",
}
"""Modules that put patterns together while they run, each with what tries those."""


def test_every_pattern_in_the_source_is_tried_or_its_module_is_listed() -> None:
    tried = {pattern.pattern for pattern in patterns().values()}
    for module, tree in _modules():
        assert not any(isinstance(node, ast.ImportFrom) and node.module == "re" for node in ast.walk(tree)), module
        for call in _called(tree, "re", LOOKING):
            first = call.args[0]
            if isinstance(first, ast.Constant):
                assert first.value in tried, f"{module}, line {call.lineno}: {first.value!r}"
            elif not _is_at_import(tree, call):
                assert module in PUT_TOGETHER, f"{module}, line {call.lineno}: {ast.unparse(first)}"


def _is_at_import(tree: ast.Module, call: ast.Call) -> bool:
    """Say whether a call stands outside of every function: then its pattern is a value of the module."""
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    return not any(call is inner for function in functions for inner in ast.walk(function))
