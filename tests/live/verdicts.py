"""Episodes of the scorecard about whose matter a refusal is, for whom it counts, and for how long.

Each asserts what has to be so, with the providers' own logs as evidence, as in `episodes.py`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
from live import refused
from live.harness import (
    Behaviour,
    Peer,
    Running,
    Seen,
    Upstream,
    balancer,
    block,
    configuration,
    delta,
    good,
    message,
    start,
)
from live.provider_faults import ALMOST_STOP, WHOLE_STREAM
from live.provider_faults import TEXT as WORDS
from live.refused import Refusal, said

When = Callable[[Seen], bool]
BUSY = said("overloaded", 529, "Overloaded")
LIMITED = said("rate limit", 429, "Your tokens are used up. Please try again in 120s.")


class Client:
    """Asks one balancer, each time for something else."""

    def __init__(self, running: Running, http: httpx2.AsyncClient) -> None:
        self.running = running
        self.http = http
        self._asked = 0

    async def ask(self, content: Any = "hi", headers: dict[str, str] | None = None, **more: Any) -> httpx2.Response:
        self._asked += 1
        messages = [{"role": "user", "content": content}]
        body = {"model": "claude-sonnet-5-5", "max_tokens": 100 + self._asked, "messages": messages, **more}
        return await self.http.post("/v1/messages", json=body, headers=headers)

    async def by(self, content: Any = "hi", headers: dict[str, str] | None = None, **more: Any) -> str:
        """Ask, and return which provider answered."""
        answer = await self.ask(content, headers, **more)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-balancer-provider"]

    async def provider(self, name: str) -> dict[str, Any]:
        told = (await self.http.get("/providers")).json()["providers"]
        return next(provider for provider in told if provider["name"] == name)


@asynccontextmanager
async def behind(
    *behaviours: Behaviour, change: Callable[[str], str] = str, settings: str = "", routes: str = ""
) -> AsyncIterator[tuple[Any, ...]]:
    """Yield a client of a balancer, and its providers a, b, ... by priority. `change` edits the configuration."""
    async with AsyncExitStack() as stack:
        ups = [await stack.enter_async_context(Upstream(behaviour)) for behaviour in behaviours]
        text = change(configuration(*ups, settings=settings, routes=routes))
        running = await stack.enter_async_context(balancer(text))
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=running.url, timeout=60))
        yield (Client(running, http), *ups)


def where(when: When, behaviour: Behaviour, otherwise: Behaviour = good) -> Behaviour:
    """Behave so where a request fits, otherwise well."""

    async def behave(seen: Seen, peer: Peer) -> None:
        await (behaviour if seen.method == "POST" and when(seen) else otherwise)(seen, peer)

    return behave


def holding(word: str) -> When:
    return lambda seen: word.encode() in seen.body


def of(who: str) -> When:
    return lambda seen: who in (seen.header("authorization") or "")


def bearer(who: str) -> dict[str, str]:
    return {"authorization": f"Bearer sk-ant-{who}"}


def passthrough(text: str) -> str:
    return text.replace("auth_value: sk-canary-a", "auth_value: passthrough")


async def account_told_as_400() -> None:
    """One request finds it out; the others do not ask again, and a person is told."""
    async with behind(refused.ACCOUNT["400 out of extra usage"], good) as (client, a, b):
        assert [await client.by() for _ in range(3)] == ["b"] * 3
        told = await client.provider("a")

        assert (len(a.asked), len(b.asked)) == (1, 3)
        assert told["resting_for_s"] > 400
        assert told["needs_operator"]


async def doubtful_words_about_an_account() -> None:
    """What may be meant for one request counts when a second, different one is refused alike."""
    async with behind(refused.ACCOUNT["400 plan without API access"], good) as (client, a, _):
        assert [await client.by(f"prompt {number}") for number in range(4)] == ["b"] * 4
        assert len(a.asked) == 2


async def window_of_a_whole_account() -> None:
    async with behind(refused.WINDOW, good) as (client, a, _):
        assert [await client.by(model=f"claude-{name}-5-5") for name in ("opus", "sonnet", "haiku")] == ["b"] * 3
        assert len(a.asked) == 1


async def one_model_in_trouble() -> None:
    """An overload and a limit of one model count for that model."""
    missing = refused.MODELS["400 unknown model, by its code alone"]
    refusals = {"claude-opus-5-5": BUSY, "claude-opus-5-1": LIMITED, "claude-opus-4-1": missing}

    async def by_model(seen: Seen, peer: Peer) -> None:
        await refusals.get(seen.json["model"], good)(seen, peer)

    async with behind(by_model, good) as (client, a, _):
        for model in refusals:
            models = (model, "claude-sonnet-5-5", "claude-haiku-5-5", model)
            assert [await client.by(model=model) for model in models] == ["b", "a", "a", "b"]
        assert len(a.asked) == 9


async def what_a_provider_cannot_do() -> None:
    """Each refusal moves the one request that it is about."""
    names = [*refused.CAPABILITIES, "429 for long context"]
    refusals = {**refused.CAPABILITIES, **refused.LIMITS}

    async def unable(seen: Seen, peer: Peer) -> None:
        asked_for = seen.json["messages"][0]["content"]
        await refusals.get(asked_for, good)(seen, peer)

    async with behind(unable, good) as (client, _, _):
        for name in names:
            assert [await client.by(name), await client.by("plain")] == ["b", "a"], name


async def firewall() -> None:
    """A page is no word of the API about a key: it moves one request, and no other."""

    async def guarded(seen: Seen, peer: Peer) -> None:
        await refused.BETWEEN.get(seen.json["messages"][0]["content"], good)(seen, peer)

    async with behind(guarded, good) as (client, _, _):
        for name in ("400 with a firewall's page", "401 with a firewall's page", "404 with a page"):
            assert [await client.by(name), await client.by("plain")] == ["b", "a"], name


async def form_of_a_request() -> None:
    """Where both refuse the form, the client has a 4xx, and nobody cools down for it."""

    async def picky(seen: Seen, peer: Peer) -> None:
        await refused.BETWEEN.get(seen.json["messages"][0]["content"], good)(seen, peer)

    async with behind(picky, picky) as (client, _, _):
        for name in ("414 with a page", "415 without a body", "416 without a body", "431 with a page"):
            answer = await client.ask(name)
            assert 400 <= answer.status_code < 500, name
            assert answer.json()["type"] == "error"
            assert await client.by("plain") == "a", name


async def prompt_that_nobody_survives() -> None:
    """A request on which two providers fail is suspect itself: repeated, it keeps nobody out for long."""
    ill = where(holding("poison"), said("failed", 500, "Internal server error"))
    async with behind(ill, ill) as (client, _, _):
        for _ in range(3):
            answer = await client.http.post(
                "/v1/messages", json={"model": "m", "max_tokens": 9, "messages": ["poison"]}
            )
            assert answer.status_code == 503
        assert max([(await client.provider(name))["resting_for_s"] for name in "ab"]) <= 6.1


async def credential_of_a_client() -> None:
    """Refused, unpaid or limited: other clients stay where they are."""
    refusals = {
        bearer("alice")["authorization"]: refused.ACCOUNT["401 without a word about why"],
        bearer("carol")["authorization"]: refused.ACCOUNT["402 without a word about why"],
        bearer("erin")["authorization"]: LIMITED,
    }

    async def by_credential(seen: Seen, peer: Peer) -> None:
        await refusals.get(seen.header("authorization") or "", good)(seen, peer)

    async with behind(by_credential, good, change=passthrough) as (client, a, _):
        for who in ("alice", "carol", "erin"):
            asked = [await client.by(headers=bearer(one)) for one in ("bob", who, "bob")]
            assert asked == ["a", "b", "a"], who
        assert len(a.asked) == 9


async def credential_of_a_client_and_nobody_else() -> None:
    """Only this client can act on the provider's own words."""
    refusal = refused.ACCOUNT["402 without a word about why"]
    async with behind(where(of("alice"), refusal), change=passthrough) as (client, _):
        answer = await client.ask(headers=bearer("alice"))
        assert (answer.status_code, answer.content) == (refusal.status, refusal.body)
        assert await client.by(headers=bearer("bob")) == "a"


async def limit_named_in_the_body() -> None:
    """It is kept, also with `failure_cooldown: 0` and nobody else; the client is told until when, and the words."""
    for settings in ("", "failure_cooldown: 0"):
        async with behind(LIMITED, settings=settings) as (client, a):
            answers = [await client.ask() for _ in range(5)]

            assert {answer.status_code for answer in answers} == {429}
            assert {answer.headers["retry-after"] for answer in answers} == {"60"}
            assert all("tokens are used up" in answer.json()["error"]["message"] for answer in answers)
            assert len(a.asked) == 1


async def limits_of_whoever_recovers_first() -> None:
    def until(reset: str) -> Refusal:
        headers = {"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": reset}
        return said("rate limit", 429, "Used up.", headers)

    async with behind(until("4000007200"), until("4000003600")) as (client, _, _):
        answer = await client.ask()

        assert answer.status_code == 429
        assert answer.headers["anthropic-ratelimit-unified-reset"] == "4000003600"


async def lesser_error_behind_a_greater_one() -> None:
    """What the second can't do is no answer while the first is back in a moment."""

    async def recovering(seen: Seen, peer: Peer) -> None:
        await (BUSY if len(a.asked) == 1 else good)(seen, peer)

    async with behind(recovering, refused.CAPABILITIES["400 parameter that the model has not"]) as (client, a, b):
        assert await client.by() == "a"
        assert (len(a.asked), len(b.asked)) == (2, 1)


async def slower_than_its_time_and_nobody_else() -> None:
    """Another try would begin the same work anew."""

    async def slow(seen: Seen, peer: Peer) -> None:
        await asyncio.sleep(3)
        await good(seen, peer)

    async with behind(slow, settings="request_timeout: 1") as (client, a):
        answer = await client.ask(stream=True)
        assert "event: message_stop" in answer.text
        assert len(a.asked) == 1


async def nothing_but_a_person_helps() -> None:
    """Told at once that waiting does not help, and why."""
    async with behind(refused.ACCOUNT["401 without a word about why"]) as (client, _):
        for _ in range(2):
            answer = await client.ask()
            assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
            assert "key" in answer.json()["error"]["message"]


async def mended_by_a_person() -> None:
    async def unpaid(seen: Seen, peer: Peer) -> None:
        await (good if paid else refused.ACCOUNT["402 without a word about why"])(seen, peer)

    paid = False
    async with behind(unpaid, good) as (client, _, _):
        assert await client.by() == "b"
        paid = True
        assert await client.by() == "b"
        assert (await client.http.post("/admin/wake", json={"provider": "a"})).status_code == 200
        assert await client.by() == "a"


async def long_cache_of_a_conversation() -> None:
    """It stays beyond the time that would do for an ordinary cache."""
    cached = [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]

    def equal(text: str) -> str:
        return text.replace("priority: 2", "priority: 1")

    settings = "sticky: {ttl: 1}, selection_strategy: round_robin"
    async with behind(good, good, change=equal, settings=settings) as (client, _, _):
        asked = set()
        for _ in range(3):
            asked.add(await client.by(cached, {"x-claude-code-session-id": "session-1"}))
            await asyncio.sleep(1.2)
        assert len(asked) == 1


async def thinking_within_one_organization() -> None:
    """Who is known to be of the same organization would say the same: the client repairs its request by these words."""
    refusal = refused.CAPABILITIES["400 thinking of another conversation"]

    async def member(seen: Seen, peer: Peer) -> None:
        await peer.whole(200, message("Hello."), anthropic_organization_id="org_1")

    routes = '  "only-b": [{provider: b}]'
    async with behind(where(holding("bound"), refusal, member), member, routes=routes) as (client, _, b):
        assert [await client.by(), await client.by(model="only-b")] == ["a", "b"]
        answer = await client.ask("bound")
        assert (answer.status_code, answer.content, len(b.asked)) == (400, refusal.body, 1)


async def history_for_another_type() -> None:
    """What the first provider signed and ran is not shown to a provider of another type."""

    async def other(seen: Seen, peer: Peer) -> None:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}
        await peer.whole(200, json.dumps({"id": "x", "object": "chat.completion", "choices": [choice]}).encode())

    def openai(text: str) -> str:
        return text.replace("name: b, type: anthropic", "name: b, type: openai").replace(
            "{provider: b, model: passthrough", "{provider: b, model: gpt-x"
        )

    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    thinking = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"}
    said_before = [thinking, search, found, {"type": "text", "text": "So."}]
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": said_before},
        {"role": "user", "content": "go on"},
    ]
    async with behind(BUSY, other, change=openai) as (client, a, b):
        assert await client.by(messages=messages) == "b"
        assert b"c2lnbmVk" in a.asked[0].body
        assert b"c2lnbmVk" not in b.asked[0].body
        assert b"server_tool_use" not in b.asked[0].body


async def batches_and_files() -> None:
    """They go to one provider, and stay with it by their ids."""

    async def batches(seen: Seen, peer: Peer) -> None:
        if "/batches" in seen.target:
            await peer.whole(200, b'{"id":"msgbatch_1","type":"message_batch","processing_status":"in_progress"}')
        else:
            await good(seen, peer)

    async with behind(batches, batches, settings="proxy_endpoints: true") as (client, a, b):
        made = await client.http.post("/v1/messages/batches", json={"requests": []})
        seen = await client.http.get("/v1/messages/batches/msgbatch_1")

        assert (made.status_code, seen.status_code) == (200, 200)
        assert ([one.method for one in a.seen], len(b.seen)) == (["POST", "GET"], 0)


async def addresses_with_one_meaning() -> None:
    async with behind(good) as (client, a):
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        for number, path in enumerate(("/v1/v1/messages", "//v1/messages", "/messages", "/v1/messages/")):
            answer = await client.http.post(client.running.url + path, json={**body, "max_tokens": 9 + number})
            assert answer.status_code == 200, path
        assert {seen.target for seen in a.asked} == {"/v1/messages"}


async def request_in_gzip() -> None:
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi " * 9000}]}).encode()
    async with behind(good) as (client, a):
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        answer = await client.http.post("/v1/messages", content=gzip.compress(body), headers=headers)

        assert answer.status_code == 200
        assert json.loads(a.asked[0].body) == json.loads(body)
        assert a.asked[0].header("content-encoding") is None


async def who_samples() -> None:
    async def unhurried(seen: Seen, peer: Peer) -> None:
        await asyncio.sleep(0.5)
        await good(seen, peer)

    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    async with behind(unhurried) as (client, a):

        async def several(*headers: dict[str, str]) -> None:
            asking = (client.http.post("/v1/messages", json=body, headers=one) for one in headers)
            assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}

        await several({}, {}, {})
        assert len(a.asked) == 1
        await several(*[{"x-balancer-dedup": "off"}] * 3)
        assert len(a.asked) == 4
        await several({"idempotency-key": "1"}, {"idempotency-key": "2"})
        assert len(a.asked) == 6


async def no_message_stop() -> None:
    """All that counts had come: the client is told, the provider is not blamed."""

    async def short(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(start() + block() + delta(WORDS) + ALMOST_STOP)
        await peer.end()

    async with behind(short, good) as (client, a, _):
        for _ in range(2):
            answer = await client.ask(stream=True)
            assert "event: error" in answer.text
            assert "event: message_stop" not in answer.text
        assert len(a.asked) == 2


async def other_form_from_the_only_one() -> None:
    """It is turned into the form that was asked for, and asked for once only."""

    async def turned(seen: Seen, peer: Peer) -> None:
        if seen.stream:
            await good(Seen(seen.method, seen.target, seen.headers, b""), peer)
        else:
            await peer.sse()
            await peer.chunk(WHOLE_STREAM)
            await peer.end()

    async with behind(turned) as (client, a):
        streamed = await client.ask(stream=True)
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert streamed.text.count("event: message_stop") == 1
        assert (await client.ask()).json()["content"] == [{"type": "text", "text": WORDS}]
        assert len(a.asked) == 2


async def rows_of_ones_own() -> None:
    """A wording that nobody knew is the account's, because the configuration says so."""
    settings = 'error_rules: [{status: 400, contains: "out of juice", class: account}]'
    async with behind(said("", 400, "We are out of juice."), good, settings=settings) as (client, a, _):
        assert [await client.by() for _ in range(3)] == ["b"] * 3
        assert len(a.asked) == 1
        assert (await client.provider("a"))["needs_operator"]


HIDDEN: dict[str, Callable[[], Awaitable[None]]] = {
    "a fault of the account told as a 400: one request finds it out, a person is told": account_told_as_400,
    "doubtful words about an account: a second, different request proves it": doubtful_words_about_an_account,
    "a wording that nobody knows, and a row of one's own for it": rows_of_ones_own,
    "the window of a whole account used up: one attempt for all models": window_of_a_whole_account,
    "one model overloaded, limited or missing: the others stay": one_model_in_trouble,
    "what a provider can't do, nor find (betas, parameters, thinking, files): others stay": what_a_provider_cannot_do,
    "a firewall's page for one request: others stay": firewall,
    "a client's own credential refused, unpaid or limited: other clients stay": credential_of_a_client,
    "the second can't do what the first, overloaded for a moment, can: it is waited for": lesser_error_behind_a_greater_one,
    "mended by a person, and woken: asked at once": mended_by_a_person,
    "a history that another type of provider can't read: what was signed or run is left out": history_for_another_type,
}
PASSED: dict[str, Callable[[], Awaitable[None]]] = {
    "the only provider is slower than `request_timeout`: asked once, and waited for": slower_than_its_time_and_nobody_else,
    "the only provider answers in the other form: turned, and asked once": other_form_from_the_only_one,
    "a conversation with a cache of an hour: stays where the cache is": long_cache_of_a_conversation,
    "batches: one provider, and the same by id": batches_and_files,
    "addresses with one possible meaning (`/v1/v1/messages`, `//v1/messages`, `/messages`)": addresses_with_one_meaning,
    "a request in gzip": request_in_gzip,
    "the same request several times, by a client that samples: as many answers": who_samples,
}
REPORTED: dict[str, Callable[[], Awaitable[None]]] = {
    "the end of a limit stands in the body: one attempt, then 429 with the time and the words": limit_named_in_the_body,
    "everybody's limit used up: the limit headers of whoever recovers first": limits_of_whoever_recovers_first,
    "a client's own credential refused, and nobody else: the provider's own words": credential_of_a_client_and_nobody_else,
    "a request whose form everybody refuses: its 4xx, and no cooldown": form_of_a_request,
    "a request on which everybody fails, repeated: no long cooldown": prompt_that_nobody_survives,
    "the only key refused: told at once that waiting does not help": nothing_but_a_person_helps,
    "thinking refused, and nobody of another organization: back at once": thinking_within_one_organization,
    "a stop reason and then the end, without message_stop: told, and no cooldown": no_message_stop,
}
