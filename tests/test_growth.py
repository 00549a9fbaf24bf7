"""Whatever looks at text from outside takes time in proportion to its length: twice the text, twice the time.

One event loop serves everybody, so one text that takes minutes stops all. Every pattern of the package is found by
importing every module, and is tried on texts that are made of its own parts, as these are what it stumbles over. A new
pattern is tried without being listed anywhere; one that need not be linear stands in `EXEMPT`, with the reason.
"""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import re._constants as code  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from stand_ins import request

import balancer
from balancer import claude_code
from balancer.headers import Headers
from balancer.model import Operation, Refused, Reply, Stage
from balancer.policy import affinity, classify
from balancer.policy.statements import statement
from balancer.redact import Inventory, anonymous, closed, scrub, secrets_in
from balancer.redact.inventory import undone
from balancer.relay import border
from balancer.tokens import estimate, media
from balancer.wire import complaints, errors, history, loose, messages, openai_requests, overflow, sse, waits
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


def grows(run: Callable[[int], Callable[[], object]]) -> str:
    """Return how `run(length)()` grows faster than its input; empty: it does not."""
    size, short_s = SHORT, spent_s(run(SHORT))
    if short_s < QUICK_S * (SHORT / LONG) ** 2:
        return ""  # what is quadratic takes no longer than `QUICK_S` for `LONG` then, and what is cubic is seen by now
    if short_s < SURE_S or (short_s < QUICK_S and spent_s(run(SHORT * 4)) < QUICK_S):
        size = LONG
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
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
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
    except (ValueError, RecursionError, msgspec.MsgspecError, messages.BadRequest):
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
