"""Providers that speak OpenAI's APIs: OpenAI itself and the many servers compatible with it.

Nothing of a client's request goes along as it came: body and headers are built anew from what is
known. What a server refuses is learnt, repaired, and remembered for a day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from balancer import claude_code
from balancer.dialect import Ask, Decoder, Flow, TypedState
from balancer.dialects.openai import carried, lessons, passed, passthrough, refusals, request, web_search
from balancer.dialects.openai.address import Address, address, is_misplaced
from balancer.dialects.openai.chat import ChatReader
from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.decoder import OpenAIDecoder, Reader, writer_for
from balancer.dialects.openai.listing import ModelsDecoder
from balancer.dialects.openai.options import Options, Settled, for_api, settled
from balancer.dialects.openai.profiles import WITHOUT_VERSION, Api, Capabilities, ThinkTagsOption, profile_at
from balancer.dialects.openai.responses import MIN_OUTPUT_TOKENS, ResponsesReader, from_chat
from balancer.dialects.openai.writer import Shell
from balancer.headers import header
from balancer.model import Fault, Operation, Provider, Reply, ResourceRequest, WireRequest
from balancer.script import Data, Head, Step
from balancer.wire import safeguards
from balancer.wire.complaints import body_complaint, fault_of
from balancer.wire.credentials import bare_key, bearer_for

MAX_REPAIRS = 6
"""How often one request is repaired and sent once more: each time for another lesson."""

VERSIONED = "config:version_path=true"
UNVERSIONED = "config:version_path=false"
CHATS = "config:api=chat"


@dataclass(slots=True)
class _Attempt:
    """What a flow leaves for the decoder of its answer."""

    names: dict[str, str] = field(default_factory=dict)
    """Tool names that had to be changed: the server's to the client's."""
    notes: tuple[str, ...] = ()
    learnt: list[str] = field(default_factory=list)
    api: Api = "chat"
    think_tags: ThinkTagsOption = False
    searches: bool = False
    """The provider's own web search was offered."""
    paths: list[str] = field(default_factory=list)
    """The paths that were asked."""


@dataclass(slots=True)
class _Written:
    """A request as it is sent."""

    body: dict[str, Any]
    can: Capabilities
    api: Api
    data: bytes


class OpenAI:
    """The type `openai`."""

    Options = Options
    default_base_url: str | None = "https://api.openai.com/v1"
    checks_actions = False
    converts = 1.0

    def flow(self, ask: Ask) -> Flow:
        if ask.operation.resource:
            asked = ask.request
            method, whole = (
                (asked.method, asked.path) if isinstance(asked, ResourceRequest) else (b"GET", b"/responses")
            )
            below = whole.partition(b"?")[0].decode().removeprefix("/v1")
            yield passthrough.passed_on(ask, _wire(ask, method, below, ()))
            return
        if ask.operation.openai:
            yield from passthrough.flow(ask, _wire(ask, b"POST", passthrough.PATHS[ask.operation], ()))
            return
        known, attempt = _known(ask), ask.attempt_state.of(_Attempt)
        says = settled(ask.options(Options), ask.provider.base_url, ask.model)
        where = _address(ask, says, known)
        messages = ask.operation is Operation.MESSAGES
        learnt = known.learnt(ask.model, ask.wall) if messages else []
        written = _written(ask, says, learnt, attempt) if messages else None
        for _ in range(MAX_REPAIRS + 1):
            path = _PATHS[written.api] if written else "/models"
            attempt.paths.append(where.path + path)
            if written and lessons.limit_of(written.body) == 0:  # warms a cache that this server has not: never sent
                yield _wire(ask, b"POST", path, (), _nothing, where=where)
                return
            reply = yield _sent(ask, path, says, where, written)
            if where.other is not None and not _may_chat(ask, written):
                if is_misplaced(reply):
                    where = Address(where.other, None, where.query)
                    attempt.learnt.append(VERSIONED if where.path.endswith("/v1") else UNVERSIONED)
                    continue
                where = where._replace(other=None)
            if not 400 <= reply.status < 500 or reply.status in refusals.ABOUT_OTHERS:  # the repairs were right
                _keep(known, attempt, ask, reply)
            if 200 <= reply.status < 300 or written is None:
                return
            if _is_probe(written.body, reply):
                yield _wire(ask, b"POST", path, (), _nothing, where=where)
                return
            found = _found(ask, reply, written)
            if found is None or found in {*learnt, *attempt.learnt} or lessons.opposite(found) in attempt.learnt:
                return
            attempt.learnt.append(found)
            learnt = lessons.joined(learnt, found)
            before, written = written, _written(ask, says, learnt, attempt)
            if (before.data, before.api) == (written.data, written.api):
                return

    def decoder(self, ask: Ask, head: Reply) -> Decoder:
        if ask.operation.openai:
            return passed.decoder(ask, head)
        if ask.operation is not Operation.MESSAGES:
            return ModelsDecoder()
        asked, attempt = ask.request, ask.attempt_state.of(_Attempt)
        shell = Shell(asked.model, ask.attempt_id, request.estimate_tokens(asked.body))
        writer = writer_for(shell, stream=asked.stream)
        composer = Composer(shell, writer, ask.provider.name, attempt.names, _keeping(ask))
        reader: Reader
        if attempt.api == "responses":
            reader = ResponsesReader(composer, searches=attempt.searches)
        else:
            reader = ChatReader(composer, think_tags=attempt.think_tags, searches=attempt.searches)
        notes = tuple(f"learnt {lesson}" for lesson in attempt.learnt)
        return safeguards.answered(asked, OpenAIDecoder(composer, writer, reader, attempt.notes + notes))

    def fault(self, ask: Ask, reply: Reply) -> Fault:
        if ask.operation.openai:
            return passthrough.fault(ask, reply)
        fault = fault_of(reply, ask.wall, ask.request.id)
        attempt = ask.attempt_state.get(_Attempt)
        if attempt is None or not attempt.paths or not is_misplaced(reply):
            return fault
        where = " and at ".join(dict.fromkeys(attempt.paths))
        message = f"{reply.status} at {where}: base_url or api may be wrong"
        return replace(fault, status=502, kind="api_error", message=message, reply=None)

    def supports(self, operation: Operation) -> bool:
        return operation is not Operation.COUNT_TOKENS and (operation.openai or not operation.resource)

    def describe(self, provider_state: TypedState, options: object, wall: float) -> dict[str, Any] | None:
        return provider_state.of(lessons.Lessons).described(wall)

    def about(self, provider: Provider) -> list[str]:
        """Return what follows from the configuration of a provider without standing in it."""
        options = provider.options if isinstance(provider.options, Options) else Options()
        profile = profile_at(provider.base_url)
        if options.profile is not None or profile == "compat":  # the default is no news
            return []
        return [f"profile '{profile}', by its base_url; openai_config: {{profile: NAME}} sets another"]

    def remembered(self, provider_state: TypedState) -> dict[str, Any] | None:
        known = provider_state.get(lessons.Lessons)
        return known.by_model if known and known.by_model else None

    def remember(self, provider_state: TypedState, saved: Any, wall: float) -> None:
        provider_state.of(lessons.Lessons).restore(saved, wall)


_PATHS: dict[Api, str] = {"chat": "/chat/completions", "responses": "/responses"}


def _address(ask: Ask, says: Settled, known: lessons.Lessons) -> Address:
    """Return where the API lives: as the file says, as was learnt, or as the path looks."""
    versioned = ask.options(Options).version_path
    if versioned is None and says.profile in WITHOUT_VERSION:
        versioned = False
    if versioned is None and known.by_model:
        said = lessons.configured(known.learnt(lessons.EVERY_MODEL, ask.wall), "version_path")
        versioned = None if said is None else said == "true"
    return address(ask.provider.base_url, versioned=versioned)


def _known(ask: Ask) -> lessons.Lessons:
    return ask.provider_state.of(lessons.Lessons).at(ask.provider.base_url)


def _keep(known: lessons.Lessons, attempt: _Attempt, ask: Ask, reply: Reply) -> None:
    """Keep what was learnt; what is about the address only if it was an API that answered, not some page."""
    page = b"html" in (header(reply.headers, b"content-type") or b"")
    found = ask.operation is Operation.MESSAGES and not page and reply.status < 500
    for lesson in attempt.learnt:
        if lesson in (VERSIONED, UNVERSIONED):
            if found:
                known.keep(lessons.EVERY_MODEL, lesson, ask.wall)
        elif found or lesson != CHATS:
            known.keep(ask.model, lesson, ask.wall)


def _written(ask: Ask, says: Settled, learnt: list[str], attempt: _Attempt) -> _Written:
    """Write the request in the words of the API that is asked; what the way back needs is left in `attempt`."""
    said = lessons.configured(learnt, "api", tools=ask.request.body.find(b'"tools"') >= 0) if learnt else None
    api: Api = says.api if said is None else "responses" if said == "responses" else "chat"
    can = for_api(lessons.shaped(says.can, tuple(learnt)), api) if learnt else says.can_by_api
    items = api == "responses"
    recall = ask.provider_state.of(carried.Memory).of(ask.request.conversation)
    converted = request.chat(ask.request.body, ask.model, can, ask.provider.name, items=items, recall=recall)
    attempt.names, attempt.notes = converted.names, converted.notes
    attempt.api, attempt.think_tags = api, can.think_tags
    if can.web_search != "none":
        attempt.searches = any(map(web_search.is_hosted, converted.body.get("tools", ())))
    body = from_chat(converted.body) if items else converted.body
    if learnt:
        body = lessons.apply(body, learnt, can.system_role)
    return _Written(body, can, api, request.encoded(body))


def _keeping(ask: Ask) -> Callable[[str, str], None] | None:
    """Return what remembers the end of an answer, for a client that must not get it behind its text; else None."""
    asked = ask.request
    if not asked.claude_code or not asked.conversation:
        return None
    return partial(ask.provider_state.of(carried.Memory).keep, asked.conversation)


def _found(ask: Ask, reply: Reply, written: _Written) -> str | None:
    """Return what a refusal teaches."""
    if _may_chat(ask, written) and is_misplaced(reply):
        return CHATS
    raw = reply.body[: refusals.LOOKED_AT_CHARS].decode("utf-8", "replace")
    refused = refusals.Refused(written.body, written.can, written.api)
    return refusals.find(reply.status, body_complaint(reply.body), raw, refused)


def _may_chat(ask: Ask, written: _Written | None) -> bool:
    """Return whether the Responses API was not asked for but chosen here: not every server has it."""
    return written is not None and written.api == "responses" and ask.options(Options).api is None


def _is_probe(body: dict[str, Any], reply: Reply) -> bool:
    """Return whether a probe was refused because a reasoning model can't answer in so few tokens: it may be used."""
    least = lessons.limit_of(body) in (claude_code.PROBE_TOKENS, MIN_OUTPUT_TOKENS)
    return reply.status == 400 and least and "output limit was reached" in body_complaint(reply.body).message


def _nothing() -> Iterator[Step]:
    """Play the answer that has no token."""
    yield Head(200, ((b"content-type", b"application/json"),))
    chat = {"choices": [{"index": 0, "message": {}, "finish_reason": "length"}]}
    responses_ = {"output": [], "incomplete_details": {"reason": "max_output_tokens"}}
    yield Data(msgspec.json.encode({**chat, **responses_}))


def _sent(ask: Ask, path: str, says: Settled, where: Address, written: _Written | None) -> WireRequest:
    if written is None:
        return _wire(ask, b"GET", path, (), where=where, says=says)
    streams = written.body.get("stream") is True
    return _wire(ask, b"POST", path, (written.data,), where=where, says=says, streams=streams)


def _wire(
    ask: Ask,
    method: bytes,
    path: str,
    body: tuple[bytes, ...],
    script: Callable[[], Iterator[Step]] | None = None,
    *,
    where: Address | None = None,
    says: Settled | None = None,
    streams: bool | None = None,
) -> WireRequest:
    """Return a request with the provider's address and credential. `streams`: a stream is asked for."""
    provider = ask.provider
    says = says or settled(ask.options(Options), provider.base_url, ask.model)
    where = where or _address(ask, says, _known(ask))
    streams = ask.request.stream if streams is None else streams
    lines = [(b"accept", b"text/event-stream, application/json" if streams else b"application/json")]
    if method == b"POST":
        lines.append((b"content-type", b"application/json"))
    if says.key_header is None:
        lines += bearer_for(provider, ask.request)
    elif key := bare_key(provider, ask.request):
        lines.append((says.key_header.lower().encode(), key))
    over = {name for name, _ in provider.headers}
    lines = [pair for pair in lines if pair[0] not in over] + list(provider.headers)
    target = f"{where.path}{path}?{where.query}" if where.query else where.path + path
    return WireRequest(provider.origin, method, target.encode(), tuple(lines), body, script=script)


DIALECT = OpenAI()
