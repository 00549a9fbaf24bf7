"""What a client has got: whether it is grammatical, from one provider, and whole or visibly broken."""

from __future__ import annotations

import json
import re

from simulation.clients import SimulatedClient
from simulation.upstream import Exchange

from balancer.server.progress import COMPLETE, LEFT
from balancer.wire.stream import PING

_MARK = re.compile(rb"q(\d+)x(\d+)[a-e]")
_ERROR_EVENT = b"event: error\n"


def breaches(client: SimulatedClient, exchanges: list[Exchange], *, read: bool) -> list[str]:
    """Return what is wrong with what a client has got. `read`: a stream is read word by word, which takes longer."""
    body = b"".join(client.parts)
    if client.status == 0:
        return ["it got a body without a head"] if body else []
    if client.status != 200:
        return _error(client, body)
    if client.ask.counts:
        return _count(client, body)
    return _stream(client, body, exchanges, read) if client.ask.stream else _message(client, body, exchanges)


def outcome(client: SimulatedClient) -> tuple[str, ...]:
    """Return the words that `RequestEnded.outcome` may have for what a client has got."""
    if client.status == 0:
        return ("abandoned", "broken_stream")
    if client.status != 200:
        return ("failed",) if client.status >= 500 or client.status == 429 else ("client_error",)
    body = b"".join(client.parts)
    if client.progress is not COMPLETE:
        return ("abandoned", "broken_stream")
    if client.ask.stream and _ERROR_EVENT in body:
        return ("broken_stream",) if b"content_block_delta" in body else ("failed", "client_error")
    return ("ok",)


def _error(client: SimulatedClient, body: bytes) -> list[str]:
    if client.progress is not COMPLETE:
        return []
    found = []
    if client.status in (401, 402, 403, 529) or client.status < 400:
        found.append(f"its client got a {client.status}, which is the provider's own")
    try:
        error = json.loads(body)
        if error["type"] != "error" or not error["error"]["type"] or not error["error"]["message"]:
            found.append("its error has no words")
    except (ValueError, KeyError, TypeError):
        found.append("its error is not one of the Messages API")
    wait = client.headers.get(b"retry-after")
    passing = client.status in (429, 503) and client.headers.get(b"x-should-retry") != b"false"
    if passing and (wait is None or not 1 <= int(wait) <= 60):
        found.append(f"its retry-after is {wait!r}")
    return found


def _count(client: SimulatedClient, body: bytes) -> list[str]:
    if client.progress is not COMPLETE:
        return []
    count = json.loads(body).get("input_tokens")
    return [] if isinstance(count, int) and count > 0 else ["its count of tokens is none"]


def _source(body: bytes, client: SimulatedClient, exchanges: list[Exchange]) -> Exchange | str:
    """Return the exchange that a body is from, or what is wrong with it."""
    marks = set(_MARK.findall(body))
    if len(marks) > 1:
        return "its answer is of several exchanges"
    asked, number = marks.pop()
    exchange = exchanges[int(number)]
    ask = client.ask
    if int(asked) not in (ask.number, ask.same_as) and exchange.client.ask.same_as not in (ask.number, ask.same_as):
        return "it got the answer to another's request"
    named = client.headers.get(b"x-balancer-provider")
    if named is not None and named.decode() != exchange.upstream.name:
        return "its head names another provider"
    return exchange


def _message(client: SimulatedClient, body: bytes, exchanges: list[Exchange]) -> list[str]:
    if not body or (client.progress is not COMPLETE and not _MARK.search(body)):
        return [] if client.progress is not COMPLETE else ["its answer is empty"]
    if not _MARK.search(body):
        return ["its message is of no provider"]
    source = _source(body, client, exchanges)
    if isinstance(source, str):
        return [source]
    good = (
        body == source.behaviour.content if client.progress is COMPLETE else source.behaviour.content.startswith(body)
    )
    return [] if good else ["its message is not what the provider said"]


def _stream(client: SimulatedClient, body: bytes, exchanges: list[Exchange], read: bool) -> list[str]:
    parts = body.split(PING)
    if any(part and not part.endswith(b"\n\n") for part in parts[:-1]):
        return ["a ping stands inside an event"]
    plain = b"".join(parts)
    at = plain.rfind(_ERROR_EVENT)
    told = at >= 0 and (at == 0 or plain[at - 2 : at] == b"\n\n") and client.progress is COMPLETE
    content = plain[:at] if told else plain
    if told and (found := _error_event(plain[at:])):
        return [found]
    if read and (breach := _ungrammatical(content, whole=client.progress is COMPLETE and not told)):
        return [breach]
    if not content:
        return [] if told or client.progress is not COMPLETE else ["its stream ended without an answer"]
    if not _MARK.search(content):
        return ["its stream is of no provider"] if client.progress is not LEFT else []
    source = _source(content, client, exchanges)
    if isinstance(source, str):
        return [source]
    sent = source.behaviour.content.replace(PING, b"")
    if client.progress is COMPLETE and not told:
        whole = source.behaviour.whole and content == sent
        return [] if whole else ["its stream looks whole, and is not what the provider said"]
    if not sent.startswith(content) or not content.endswith(b"\n\n"):
        return ["its broken stream is not what the provider said, up to the end of an event"]
    if told and content == sent and source.behaviour.whole:
        return ["its stream is whole, and told as broken"]
    return []


def _ungrammatical(content: bytes, *, whole: bool) -> str:
    """Return what is wrong with a stream in the Messages API's grammar; empty: nothing."""
    import grammar  # its models of the API take a second to be made

    try:
        grammar.read(content, whole=whole)
    except (AssertionError, ValueError, KeyError) as error:
        return f"its stream is not grammatical: {error!r}"
    return ""


def _error_event(frame: bytes) -> str:
    try:
        error = json.loads(frame[frame.index(b"data: ") + 6 :])
        kind = error["error"]["type"]
    except (ValueError, KeyError, TypeError):
        return "its error event can't be read"
    if kind in ("authentication_error", "permission_error", "billing_error"):
        return f"its client got a {kind}, which is the provider's own"
    return "" if error["error"]["message"] else "its error event has no words"
