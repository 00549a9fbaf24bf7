"""The control endpoints without a server: what each answers, and what each refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from balancer import NAME, __version__
from balancer.config import Problem
from balancer.dialects.simulated.faults import FAULTS, Drill
from balancer.events import Drilled, ProviderPaused, ProviderResumed, ProviderWoken

from .board import Board

ORDERS = ("wake", "pause", "resume")


# Probes


async def test_the_root_says_what_this_is_and_how_many_providers_there_are() -> None:
    board = Board()
    board.world.fail("a", 0.0)
    board.at = 1.0
    said = (await board.get("/")).json()

    assert said == {
        "name": NAME, "version": __version__, "status": "ok", "providers": {"total": 2, "healthy": 1}, "uptime_s": 12.3,
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/api/hello", "/v1/models"])
async def test_probes_answer_head_too(path: str) -> None:
    assert (await Board().request("HEAD", path)).status_code == 200


async def test_ready_means_that_a_provider_may_be_asked() -> None:
    board = Board()
    answer = await board.get("/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})

    for name in "ab":
        board.fleet.orders.pause(name, 0.0)
    answer = await board.get("/ready")
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (
        503,
        {"status": "no usable provider"},
        "5",
    )

    board.fleet.orders.resume("a", 0.0)
    assert (await board.get("/ready")).status_code == 200
    board.fleet.draining = True
    answer = await board.get("/ready")
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (503, {"status": "draining"}, "1")
    assert (await board.get("/health")).status_code == 200, "it lives"


# What is shown


async def test_providers_and_metrics_show_the_same() -> None:
    board = Board()
    board.fleet.orders.pause("a", 0.0)
    shown = (await board.get("/providers")).json()
    metrics = await board.get("/metrics")

    assert [provider["state"] for provider in shown["providers"]] == ["paused", "healthy"]
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'balancer_provider_state{provider="a"} 4' in metrics.text
    assert 'balancer_provider_state{provider="b"} 0' in metrics.text


LIMITS = {"1": 1, "1000": 1000, None: None}
WRONG_LIMITS = ["0", "1001", "-1", "x", "", "1e3", "\u0661", "9" * 30]


@pytest.mark.parametrize(("limit", "asked"), LIMITS.items())
async def test_a_page_of_models_is_asked_for_as_the_client_says(limit: str | None, asked: int | None) -> None:
    board = Board()
    query = "?after_id=x&before_id=y" + (f"&limit={limit}" if limit else "")
    answer = await board.get(f"/v1/models{query}")

    assert (answer.status_code, board.asked) == (200, [(asked, "x", "y")])
    assert answer.headers["x-balancer-request-id"].startswith("req_")


@pytest.mark.parametrize("limit", WRONG_LIMITS)
async def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    board = Board()
    answer = await board.request("GET", "/v1/models", params={"limit": limit})

    assert (answer.status_code, board.asked) == (400, [])
    assert answer.json()["error"]["message"] == "limit: must be a number from 1 to 1000"


async def test_one_model_by_its_name_whatever_that_holds() -> None:
    board = Board()
    board.listed = {"data": [{"id": "vendor/model:free"}]}
    found, missing = await board.get("/v1/models/vendor/model:free"), await board.get("/v1/models/other")
    version = {"anthropic-version": "2023-06-01"}

    assert (found.status_code, found.json()["id"]) == (200, "vendor/model:free")
    assert (await board.get("/v1/models/vendor/model:free", headers=version)).json() == {"id": "vendor/model:free"}
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    assert missing.json()["error"]["code"] == "model_not_found"
    assert "code" not in (await board.get("/v1/models/other", headers=version)).json()["error"]


# Refusals


REFUSED: dict[str, tuple[str, str, dict[str, Any], int, str]] = {
    "an unknown path": ("GET", "/nope", {}, 404, "there is no /nope here"),
    "a slash at the end": ("GET", "/providers/", {}, 404, "there is no /providers/ here"),
    "a wrong method": ("DELETE", "/providers", {}, 405, "DELETE is not allowed here"),
    "an order by GET": ("GET", "/admin/wake", {}, 405, "GET is not allowed here"),
    "a form": ("POST", "/admin/pause", {"data": {"provider": "a"}}, 415, "send content-type: application/json"),
    "plain text": ("POST", "/admin/drill", {"headers": {"content-type": "text/plain"}}, 415, "send content-type"),
    "a reload as a form": ("POST", "/providers/reload", {"data": {"x": "y"}}, 415, "send content-type"),
    "what another host does": ("POST", "/v1/files", {}, 501, "/v1/files is not supported by this balancer"),
}  # fmt: skip


async def test_a_long_path_is_quoted_cut() -> None:
    for path, status in (("/" + "x" * 300, 404), ("/v1/files/" + "x" * 300, 501), ("/v1/models/" + "x" * 300, 404)):
        answer = await Board().get(path)

        assert answer.status_code == status
        assert "x" * 180 in answer.json()["error"]["message"]
        assert "x" * 201 not in answer.json()["error"]["message"]


@pytest.mark.parametrize(("method", "path", "more", "status", "words"), REFUSED.values(), ids=REFUSED)
async def test_every_refusal_has_the_shape_of_the_api(
    method: str, path: str, more: dict[str, Any], status: int, words: str
) -> None:
    answer = await Board().request(method, path, **more)
    said = answer.json()

    assert (answer.status_code, said["type"]) == (status, "error")
    assert said["error"]["message"].startswith(words)
    assert said["request_id"] == answer.headers["x-balancer-request-id"]


async def test_a_fault_of_an_endpoint_has_that_shape_too() -> None:
    board = Board()
    board.uptime_s = None  # type: ignore[assignment,method-assign]
    answer = await board.get("/")

    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "api_error")
    assert answer.json()["error"]["message"] == "this endpoint failed; the log says where"


# Reload


async def test_a_reload_says_what_changed() -> None:
    board = Board()
    board.changes = ("provider 'a' changed",)
    board.fleet.needs_restart = ("port",)

    assert (await board.post("/providers/reload")).json() == {
        "status": "ok", "generation": 0, "providers": 2, "changes": ["provider 'a' changed"], "needs_restart": ["port"],
        "warnings": [],
    }  # fmt: skip


async def test_a_reload_that_is_refused_names_every_problem() -> None:
    board = Board()
    board.problems = [Problem("p.yaml", 3, "bad"), Problem("p.yaml", 5, "worse")]
    answer = await board.post("/providers/reload")

    assert answer.status_code == 400
    assert answer.json() == {
        "status": "error",
        "problems": [
            {"file": "p.yaml", "line": 3, "message": "bad"},
            {"file": "p.yaml", "line": 5, "message": "worse"},
        ],
    }


# Orders


async def test_the_orders_are_carried_out_and_answered_with_the_state() -> None:
    board = Board()
    board.world.fail("a", 0.0)
    board.at = 1.0
    told = []
    for order in ("wake", "pause", "wake", "resume"):
        answer = await board.post(f"/admin/{order}", {"provider": "a"})
        assert answer.status_code == 200
        told.append(answer.json())

    assert told == [
        {"status": "ok", "provider": "a", "state": state, "applies_to": "all"}
        for state in ("healthy", "paused", "paused", "healthy")
    ]
    assert board.world.told[1:] == [
        ProviderWoken(1001.0, "a", "operator"),
        ProviderPaused(1001.0, "a"),
        ProviderWoken(1001.0, "a", "operator"),
        ProviderResumed(1001.0, "a"),
    ]
    assert board.world.order(1.0) == "ab"


async def test_orders_need_no_drills() -> None:
    board = Board("drills: false")

    assert [(await board.post(f"/admin/{order}", {"provider": "a"})).status_code for order in ORDERS] == [200] * 3


@pytest.mark.parametrize("order", [*ORDERS, "drill"])
async def test_an_order_about_nobody_names_those_there_are(order: str) -> None:
    board = Board("drills: true")
    answer = await board.post(f"/admin/{order}", {"provider": "z" * 500})

    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"
    assert answer.json()["error"]["message"] == f"there is no provider '{'z' * 100}'; there are: a, b"
    assert board.world.told == []


WRONG = {
    "no body": (b"", "body: "),
    "no JSON": (b"{", "body: "),
    "no object": (b"[]", "body: "),
    "no provider": (b"{}", "provider: Field required"),
    "a number": (b'{"provider": 7}', "provider: "),
    "another key": (b'{"provider": "a", "for": 3}', "for: Extra inputs are not permitted"),
}


@pytest.mark.parametrize(("body", "words"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("order", [*ORDERS, "drill"])
async def test_an_order_that_is_none_says_where(order: str, body: bytes, words: str) -> None:
    board = Board("drills: true")
    answer = await board.request("POST", f"/admin/{order}", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(words)
    assert board.world.told == []


@pytest.mark.parametrize("order", [*ORDERS, "drill"])
async def test_one_of_several_workers_says_that_the_order_reached_it_alone(order: str) -> None:
    board = Board("drills: true")
    board.one_of_several = True
    body = {"provider": "a"} | ({"fault": "529"} if order == "drill" else {})

    assert (await board.post(f"/admin/{order}", body)).json()["applies_to"] == "this worker"


# A rolling restart


@pytest.mark.parametrize(
    ("failure", "status", "words"),
    [("", 200, "ok"), ("a new worker ended", 503, "the old processes go on: a new worker ended")],
)
async def test_a_restart_is_answered_when_it_is_over(failure: str, status: int, words: str) -> None:
    board = Board()

    async def restart() -> str:
        return failure

    board.restart = restart
    answer = await board.post("/admin/restart", {})

    assert answer.status_code == status
    assert words in answer.text


async def test_what_another_program_has_started_is_restarted_by_that_one() -> None:
    answer = await Board().post("/admin/restart", {})

    assert answer.status_code == 501
    assert "not started by `balancer serve`" in answer.json()["error"]["message"]


# Injected faults


async def test_a_fault_is_injected_and_called_off() -> None:
    board = Board("drills: true")
    board.at = 10.0
    ordered = await board.post("/admin/drill", {"provider": "a", "fault": "529", "for_s": 30, "requests": 3})
    assert ordered.json() == {
        "status": "ok", "provider": "a", "fault": "529", "until": "for 3 requests or for 30 s", "applies_to": "all",
    }  # fmt: skip
    assert board.fleet.stats("a").drill == Drill("a", "529", 3, 40.0)
    off = await board.post("/admin/drill", {"provider": "a", "fault": None})
    assert off.json() == {"status": "ok", "provider": "a", "fault": None, "until": "off", "applies_to": "all"}

    assert board.fleet.stats("a").drill is None
    assert board.world.told == [
        Drilled(1010.0, "a", "529", "for 3 requests or for 30 s"),
        Drilled(1010.0, "a", "", "off"),
    ]


@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_every_fault_can_be_injected(fault: str) -> None:
    board = Board("drills: true")

    assert (await board.post("/admin/drill", {"provider": "a", "fault": fault})).status_code == 200
    assert board.fleet.stats("a").drill == Drill("a", fault)


async def test_an_unknown_fault_is_refused_with_the_names_there_are() -> None:
    answer = await Board("drills: true").post("/admin/drill", {"provider": "a", "fault": "sneeze"})

    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"unknown fault 'sneeze'; there are: {', '.join(FAULTS)}"


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({"for_s": 0}, 400), ({"for_s": 0.1}, 200), ({"for_s": 86400}, 200), ({"for_s": 86400.1}, 400),
        ({"requests": 0}, 400), ({"requests": 1}, 200), ({"requests": 1_000_000}, 200), ({"requests": 1_000_001}, 400),
    ],
    ids=json.dumps,
)  # fmt: skip
async def test_a_fault_has_bounds(limits: dict[str, float], status: int) -> None:
    answer = await Board("drills: true").post("/admin/drill", {"provider": "a", "fault": "529", **limits})

    assert answer.status_code == status


async def test_faults_are_injected_only_where_the_configuration_allows_it() -> None:
    board = Board()
    answer = await board.post("/admin/drill", {"provider": "a", "fault": "529"})

    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")
    assert board.fleet.stats("a").drill is None
