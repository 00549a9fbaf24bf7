"""Every known way to fail, played; and what an outage, a flapping and a resting provider get to see."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from live import episodes, refused, scorecard
from live.harness import Peer, Seen, Upstream, balancer, configuration, good

from balancer.policy.refusal_rows import ROWS
from balancer.policy.refusals import find

pytestmark = pytest.mark.live

ASK = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.timeout(400)
async def test_nothing_is_wrong_and_the_pages_say_so() -> None:
    rows = await scorecard.run()
    played = await episodes.run()

    assert [row for row in rows if row.mark == "wrong"] == []
    assert {words: mark for words, mark in played.items() if mark.startswith("wrong")} == {}
    assert len({row.fault for row in rows}) >= 170
    assert len(played) >= 40
    assert scorecard.PAGE.read_text() == scorecard.page(rows, played), "run: make scorecard"
    assert scorecard.README.read_text() == scorecard.readme(rows, played), "run: make scorecard"


def test_each_row_of_the_table_of_refusals_is_played() -> None:
    played = {**refused.HIDDEN, **refused.CALLERS, "window": refused.WINDOW}
    found = {name: find(refusal.fault).row for name, refusal in played.items()}

    assert {name: row.name for name, row in found.items()} == {name: refusal.row for name, refusal in played.items()}
    assert {row.name for row in ROWS if row not in found.values()} == refused.SAID_BY_OURSELVES


async def overloaded(seen: Seen, peer: Peer) -> None:
    await peer.whole(529, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}')


async def test_a_resting_provider_sees_its_probe_and_no_more() -> None:
    async with Upstream(overloaded) as ill, Upstream() as well, balancer(configuration(ill, well)) as running:
        async with httpx2.AsyncClient(base_url=running.url, timeout=30) as http:
            for _ in range(30):
                assert (await http.post("/v1/messages", json=ASK)).status_code == 200
            assert len(ill.asked) == 1

            async def one(tokens: int) -> int:
                return (await http.post("/v1/messages", json={**ASK, "max_tokens": tokens + 1})).status_code

            await asyncio.sleep(6.1)  # the first rest is 5 s, and a fifth
            assert set(await asyncio.gather(*(one(n) for n in range(20)))) == {200}
        assert len(ill.asked) == 2


async def test_who_cannot_count_is_not_taken_for_ill() -> None:
    async def uncounting(seen: Seen, peer: Peer) -> None:
        if "count_tokens" in seen.target:
            await peer.whole(404, b"not found", "text/plain")
        else:
            await good(seen, peer)

    async with (
        Upstream(uncounting) as a,
        Upstream() as b,
        balancer(configuration(a, b)) as running,
        httpx2.AsyncClient(base_url=running.url, timeout=30) as http,
    ):
        count = await http.post("/v1/messages/count_tokens", json=ASK)
        answer = await http.post("/v1/messages", json=ASK)

    assert count.json() == {"input_tokens": 42}
    assert answer.headers["x-balancer-provider"] == "a"
    assert (len(a.asked), len(b.asked)) == (1, 0)


async def test_when_one_is_full_the_next_is_asked_and_when_all_are_the_queue_is_bounded() -> None:
    release = asyncio.Event()

    async def holding(seen: Seen, peer: Peer) -> None:
        await release.wait()
        await good(seen, peer)

    settings = "limits: {queue_s: 0.5}"
    async with (
        Upstream(holding) as a,
        Upstream(holding) as b,
        balancer(configuration(a, b, settings=settings, provider=", max_in_flight: 1")) as running,
        httpx2.AsyncClient(base_url=running.url, timeout=30) as http,
    ):
        asking = [asyncio.ensure_future(http.post("/v1/messages", json={**ASK, "max_tokens": n})) for n in (1, 2, 3)]
        done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        release.set()
        answers = await asyncio.gather(*asking)

        assert [task.result().status_code for task in done] == [503]
        assert sorted(answer.status_code for answer in answers) == [200, 200, 503]
        assert (len(a.asked), len(b.asked)) == (1, 1)


async def test_without_any_rest_an_outage_is_not_amplified_either() -> None:
    settings = "failure_cooldown: 0"
    async with (
        Upstream(overloaded) as a,
        Upstream(overloaded) as b,
        balancer(configuration(a, b, settings=settings)) as running,
        httpx2.AsyncClient(base_url=running.url, timeout=60) as http,
    ):
        asking = [http.post("/v1/messages", json={**ASK, "max_tokens": n + 1}) for n in range(60)]
        answers = await asyncio.gather(*asking)

        assert {answer.status_code for answer in answers} == {503}
        assert all("b: " in answer.json()["error"]["message"] for answer in answers)
        assert len(a.asked) + len(b.asked) <= 1.2 * 60 + 10
