"""Batches, files and skills through the real balancer, with the real `anthropic` SDK where it has them."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from live.harness import Behaviour, Peer, Running, Seen, Upstream, balancer, configuration, eventually

pytestmark = pytest.mark.live

ON = "proxy_endpoints: true, failure_cooldown: 0"
MB = 1024 * 1024


def client(running: Running, **more: Any) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(**{"base_url": running.url, "api_key": "sk-client", "max_retries": 0, **more})


class Account:
    """An account at Anthropic: what was made there can be read there, and nowhere else."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kept: dict[str, dict[str, Any]] = {}
        self.stored = b"stored bytes"

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        path = seen.target.partition("?")[0]
        what, _, below = path.removeprefix("/v1/").removeprefix("messages/").partition("/")
        name, _, action = below.partition("/")
        if not name and seen.method == "POST":
            made = self._made(what)
            self.kept[made["id"]] = made
            await peer.whole(200, json.dumps(made).encode(), request_id=f"req_{self.name}")
        elif not name:
            listed = [one for one in self.kept.values() if one["what"] == what]
            await peer.whole(200, json.dumps({"data": listed, "has_more": False}).encode())
        elif name not in self.kept:
            await peer.whole(404, _error("not_found_error", f"{self.name} has no {name}"), request_id="req_none")
        elif action in ("content", "results"):
            await peer.whole(200, self.stored, "application/binary", content_disposition="attachment")
        elif seen.method == "DELETE":
            del self.kept[name]
            await peer.whole(200, json.dumps({"id": name, "type": f"{what}_deleted"}).encode())
        else:
            await peer.whole(200, json.dumps(self.kept[name]).encode())

    def _made(self, what: str) -> dict[str, Any]:
        number = len(self.kept)
        if what == "batches":
            name = f"msgbatch_{self.name}{number}"
            return {
                "id": name, "type": "message_batch", "what": what, "processing_status": "ended",
                "request_counts": {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0},
                "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-02T00:00:00Z",
                "results_url": f"https://api.anthropic.com/v1/messages/batches/{name}/results",
            }  # fmt: skip
        kind = {"files": "file", "skills": "skill"}[what]
        name = f"{kind}_{self.name}{number}"
        return {
            "id": name, "type": kind, "what": what, "filename": "a.txt", "mime_type": "text/plain", "size_bytes": 5,
            "created_at": "2026-01-01T00:00:00Z", "downloadable": True,
        }  # fmt: skip


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


def refusing(status: int, kind: str, message: str) -> Behaviour:
    async def behave(seen: Seen, peer: Peer) -> None:
        await peer.whole(status, _error(kind, message))

    return behave


BATCH: Any = [
    {
        "custom_id": "one",
        "params": {"model": "claude-x", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]},
    }
]
FILE = ("a.txt", b"hello \x00\xff bytes", "text/plain")


async def test_it_is_off_unless_the_file_says_otherwise() -> None:
    async with Upstream(Account("a")) as up, balancer(configuration(up)) as running, client(running) as sdk:
        with pytest.raises(anthropic.APIStatusError, match="proxy_endpoints: true") as refused:
            await sdk.messages.batches.create(requests=BATCH)

        assert refused.value.status_code == 501
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert up.seen == []


# One account


async def test_a_batch_from_its_making_to_its_results() -> None:
    account = Account("a")
    entry = {"custom_id": "one", "result": {"type": "canceled"}}
    account.stored = b"".join(json.dumps(entry).encode() + b"\n" for _ in range(3))
    async with Upstream(account) as up, balancer(configuration(up, settings=ON)) as running, client(running) as sdk:
        made = await sdk.messages.batches.create(requests=BATCH)
        assert (await sdk.messages.batches.retrieve(made.id)).id == made.id
        assert [one.id async for one in sdk.messages.batches.list()] == [made.id]
        results = [one.custom_id async for one in await sdk.messages.batches.results(made.id)]
        cancelled = await sdk.messages.batches.cancel(made.id)
        ended = await running.ended(6)

        assert results == ["one"] * 3
        assert cancelled.results_url == f"/v1/messages/batches/{made.id}/results"
        assert made._request_id == "req_a"
        for seen in up.seen:
            assert seen.header("x-api-key") == "sk-canary-a"
            assert "sk-client" not in str(seen.headers)
            assert seen.header("anthropic-version")
        assert up.seen[0].json["requests"] == BATCH
        assert {one["operation"] for one in ended} == {"batches"}
        assert {one["provider"] for one in ended} == {"a"}


async def test_a_file_goes_up_and_comes_down_as_it_is() -> None:
    async with (
        Upstream(Account("a")) as up,
        balancer(configuration(up, settings=ON)) as running,
        client(running) as sdk,
    ):
        made = await sdk.beta.files.upload(file=FILE, betas=["files-api-2025-04-14"])
        content = await sdk.beta.files.download(made.id)
        assert await content.read() == b"stored bytes"
        assert content.headers["content-disposition"] == "attachment"
        assert content.headers["content-length"] == "12"
        assert (await sdk.beta.files.delete(made.id)).id == made.id
        with pytest.raises(anthropic.NotFoundError, match="a has no"):
            await sdk.beta.files.retrieve_metadata(made.id)

        upload = up.seen[0]
        assert FILE[1] in upload.body
        assert (upload.header("content-type") or "").startswith("multipart/form-data; boundary=")
        assert "files-api" in (upload.header("anthropic-beta") or "")
        assert upload.target.startswith("/v1/files")


async def test_skills_and_their_versions() -> None:
    async with Upstream(Account("a")) as up, balancer(configuration(up, settings=ON)) as running:
        async with httpx2.AsyncClient(base_url=running.url) as http:
            made = (await http.post("/v1/skills?beta=true", files={"files[]": FILE})).json()
            got = await http.get(f"/v1/skills/{made['id']}/versions/1759178010641129?beta=true")

        assert got.status_code == 200
        assert [seen.target for seen in up.seen] == [
            "/v1/skills?beta=true",
            f"/v1/skills/{made['id']}/versions/1759178010641129?beta=true",
        ]


async def test_a_large_file_is_not_held_on_its_way_down() -> None:
    sent = 0

    async def endless(seen: Seen, peer: Peer) -> None:
        nonlocal sent
        await peer.head(200, content_type="application/octet-stream", content_length=str(1024 * MB))
        for _ in range(1024):
            await peer.raw(b"x" * MB)
            sent += 1

    async with Upstream(endless) as up, balancer(configuration(up, settings=ON)) as running:
        async with (
            httpx2.AsyncClient(base_url=running.url) as http,
            http.stream("GET", "/v1/files/file_a/content") as answer,
        ):
            await anext(answer.aiter_raw())
            before = -1
            while sent > before:  # what the system's own buffers hold goes on for a moment
                before = sent
                await asyncio.sleep(0.5)
            assert sent < 512, "the provider waits for a client that does not read"
            held = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{running.process.pid}/status").read_text())  # noqa: ASYNC240
            assert held is not None
            assert int(held[1]) < 150 * 1024, "and the balancer holds none of it"
        await eventually(lambda: up.left == 1)


async def test_a_body_that_is_too_large_is_refused() -> None:
    settings = f"{ON}, limits: {{max_body_bytes: 2000}}"
    async with Upstream(Account("a")) as up, balancer(configuration(up, settings=settings)) as running:
        answer = await raw(running, "POST /v1/files", "content-length: 2001", "content-type: multipart/form-data")

        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"request_too_large" in answer
        assert up.seen == []


async def raw(running: Running, ask: str, *lines: str) -> bytes:
    """Send a head, and return whatever comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write("\r\n".join((f"{ask} HTTP/1.1", "host: localhost", "connection: close", *lines, "", "")).encode())
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_client_that_sends_a_file_that_is_too_large_hears_why() -> None:
    async with (
        Upstream(Account("a")) as up,
        balancer(configuration(up, settings=f"{ON}, limits: {{max_body_bytes: {MB}}}")) as running,
        client(running) as sdk,
    ):
        with pytest.raises(anthropic.APIStatusError, match="larger than") as refused:
            await sdk.beta.files.upload(file=("a", b"x" * 9 * MB))
        assert refused.value.status_code == 413
        assert up.seen == []


ODD_PATHS = (
    "/v1/files/%2e%2e/organizations/me",
    "/v1/files/..%2forganizations",
    "/v1/files/a%20b",
    "/v1/files/a%3fb",
    "/v1/files/a/b/c/d/e/f",
    "/v1/messages/batches/%00",
)


@pytest.mark.parametrize("path", ODD_PATHS)
async def test_no_other_path_of_the_provider_can_be_reached(path: str) -> None:
    async with Upstream(Account("a")) as up, balancer(configuration(up, settings=ON)) as running:
        assert (await raw(running, f"GET {path}")).startswith(b"HTTP/1.1 404 ")
        assert up.seen == []


# Several accounts


async def test_what_was_made_is_asked_of_the_provider_that_made_it() -> None:
    async with Upstream(refusing(503, "api_error", "down")) as closed:
        port = closed.port
    first, second = Account("a"), Account("b")
    async with (
        Upstream(second) as other,
        balancer(configuration(port, other, settings=ON)) as running,
        client(running) as sdk,
    ):
        made = await sdk.messages.batches.create(requests=BATCH)  # nobody listens at the first one
        assert made.id.startswith("msgbatch_b")
        async with Upstream(first) as _:
            assert (await sdk.messages.batches.retrieve(made.id)).id == made.id
            assert (await sdk.messages.batches.cancel(made.id)).id == made.id
        assert [seen.method for seen in other.seen] == ["POST", "GET", "POST"]


async def test_a_list_is_the_first_providers() -> None:
    async with (
        Upstream(Account("a")) as one,
        Upstream(Account("b")) as other,
        balancer(configuration(one, other, settings=ON)) as running,
        client(running) as sdk,
    ):
        made = await sdk.beta.files.upload(file=FILE)
        assert [listed.id async for listed in sdk.beta.files.list()] == [made.id]
        assert other.seen == []


async def test_what_is_not_known_is_looked_for_by_reading_only() -> None:
    second = Account("b")
    for _ in range(2):
        made = second._made("files")
        second.kept[made["id"]] = made
    async with (
        Upstream(Account("a")) as one,
        Upstream(second) as other,
        balancer(configuration(one, other, settings=ON)) as running,
        client(running) as sdk,
    ):
        with pytest.raises(anthropic.NotFoundError, match="a has no file_b1"):
            await sdk.beta.files.delete("file_b1")
        assert other.seen == []
        assert (await sdk.beta.files.retrieve_metadata("file_b1")).id == "file_b1"
        assert (await sdk.beta.files.delete("file_b1")).id == "file_b1"  # it was found before
        with pytest.raises(anthropic.NotFoundError, match="b has no"):
            await sdk.beta.files.retrieve_metadata("file_none")
        assert [seen.method for seen in one.seen] == ["DELETE", "GET", "GET"]


async def test_what_was_sent_is_never_sent_elsewhere() -> None:
    async def vanishing(seen: Seen, peer: Peer) -> None:
        peer.reset()

    async with (
        Upstream(vanishing) as one,
        Upstream(Account("b")) as other,
        balancer(configuration(one, other, settings=ON)) as running,
        client(running) as sdk,
    ):
        with pytest.raises(anthropic.APIStatusError, match="may have been carried out") as broken:
            await sdk.messages.batches.create(requests=BATCH)
        assert broken.value.response.headers["x-should-retry"] == "false"

        one.behaviour = refusing(529, "overloaded_error", "busy")
        with pytest.raises(anthropic.APIStatusError, match="busy"):
            await sdk.messages.batches.create(requests=BATCH)
        assert other.seen == []


async def test_a_client_reaches_nothing_of_another_client() -> None:
    settings = f"{ON}, auth: {{keys: [sk-first-client-1, sk-second-client-2]}}"
    async with Upstream(Account("a")) as up, balancer(configuration(up, settings=settings)) as running:
        async with (
            client(running, api_key="sk-first-client-1") as one,
            client(running, api_key="sk-second-client-2") as two,
        ):
            mine = await one.beta.files.upload(file=FILE)
            theirs = await two.beta.files.upload(file=FILE)

            with pytest.raises(anthropic.NotFoundError, match="there is no"):
                await two.beta.files.retrieve_metadata(mine.id)
            with pytest.raises(anthropic.NotFoundError, match="there is no"):
                await two.beta.files.delete(mine.id)
            assert [listed.id async for listed in one.beta.files.list()] == [mine.id]
            assert [listed.id async for listed in two.beta.files.list()] == [theirs.id]
        assert "sk-first" not in str([seen.headers for seen in up.seen])


# What goes wrong


async def test_the_balancers_own_key_is_not_the_clients() -> None:
    async with (
        Upstream(refusing(401, "authentication_error", "invalid x-api-key")) as up,
        balancer(configuration(up, settings=ON)) as running,
        client(running) as sdk,
    ):
        with pytest.raises(anthropic.InternalServerError, match="a refused the balancer's key") as refused:
            [one async for one in sdk.beta.files.list()]
        assert refused.value.status_code == 503


async def test_a_download_that_breaks_never_looks_whole() -> None:
    async def breaking(seen: Seen, peer: Peer) -> None:
        await peer.head(200, content_type="application/octet-stream", transfer_encoding="chunked")
        await peer.chunk(b"half of it")
        peer.reset()

    async with Upstream(breaking) as up, balancer(configuration(up, settings=ON)) as running:
        async with httpx2.AsyncClient(base_url=running.url) as http:
            with pytest.raises(httpx2.RemoteProtocolError):
                await http.get("/v1/files/file_a/content")
        (ended,) = await running.ended()

        assert ended["outcome"] == "broken_stream"


async def test_without_a_provider_that_has_them_it_says_so() -> None:
    config = """\
providers: [{name: fake, type: simulated}]
model_routes: {"*": [{provider: fake}]}
settings: {proxy_endpoints: true}
"""
    async with balancer(config) as running, client(running) as sdk:
        with pytest.raises(anthropic.APIStatusError, match="add one of type anthropic"):
            await sdk.messages.batches.create(requests=BATCH)


async def test_a_base_url_with_a_version_works_here_too() -> None:
    async with Upstream(Account("a")) as up, balancer(configuration(up, settings=ON)) as running:
        async with client(running, base_url=f"{running.url}/v1") as sdk:
            assert (await sdk.messages.batches.create(requests=BATCH)).id == "msgbatch_a0"
        assert up.seen[0].target == "/v1/messages/batches"
