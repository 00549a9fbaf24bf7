"""What is counted, and how it is told."""

from __future__ import annotations

import re

from balancer.events import Attempt, CooldownStarted, ProviderRecovered, Reloaded, ReloadRefused, RequestBegan
from balancer.model import Usage
from balancer.telemetry.metrics import MAX_MODELS, Metrics

from .conftest import ended

VIEW = {
    "generation": 2,
    "in_flight": 3,
    "retry_budget": 9.5,
    "local_faults": {"descriptors": 2, "disk": 0},
    "log_lines_lost": 5,
    "providers": [
        {"name": "a", "state": "resting", "resting_for_s": 4.5, "in_flight": 0, "failure_count": 2},
        {"name": "b", "state": "healthy", "resting_for_s": 0.0, "in_flight": 3, "failure_count": 0},
    ],
}


def counted(*events: object) -> list[str]:
    metrics = Metrics()
    for event in events:
        metrics.take(event)  # type: ignore[arg-type]
    return metrics.render(VIEW).splitlines()


def test_a_request_with_a_failover() -> None:
    lines = counted(RequestBegan("r", 0, "messages", "m", True, 1), ended(), ended())

    for line in (
        'balancer_requests_total{operation="messages",model="claude-x",status_class="2xx",outcome="ok"} 2',
        'balancer_attempts_total{provider="a",outcome="refused",status="529"} 2',
        'balancer_attempts_total{provider="b",outcome="completed",status="200"} 2',
        'balancer_failovers_total{from="a",to="b",phase="wait"} 2',
        'balancer_tokens_total{provider="b",type="input"} 200',
        'balancer_tokens_total{provider="b",type="cache_read"} 10',
        'balancer_request_duration_seconds_bucket{operation="messages",stream="true",le="2.5"} 0',
        'balancer_request_duration_seconds_bucket{operation="messages",stream="true",le="5.0"} 2',
        'balancer_request_duration_seconds_bucket{operation="messages",stream="true",le="+Inf"} 2',
        'balancer_request_duration_seconds_sum{operation="messages",stream="true"} 6.5',
        'balancer_request_duration_seconds_count{operation="messages",stream="true"} 2',
        'balancer_time_to_first_token_seconds_bucket{provider="b",le="0.5"} 2',
    ):
        assert line in lines


def test_a_retry_of_the_same_provider_is_no_failover() -> None:
    again = tuple(Attempt("a", "m", "refused", "wait", 0.1, 500) for _ in range(2))

    assert not [line for line in counted(ended(attempts=again)) if line.startswith("balancer_failovers_total{")]


def test_what_befalls_providers_and_configurations() -> None:
    lines = counted(
        CooldownStarted(0, "a", 1, "529", 1),
        CooldownStarted(0, "a", 600, "401", 1, needs_operator=True),
        ProviderRecovered(0, "a"),
        Reloaded(0, 1),
        ReloadRefused(0, ("x",)),
        ended(outcome="abandoned", status=0),
        ended(outcome="broken_stream"),
        ended(dedup="follower", queued_s=0.05),
    )

    for line in (
        'balancer_provider_rests_total{provider="a",long="false"} 1',
        'balancer_provider_rests_total{provider="a",long="true"} 1',
        'balancer_provider_recoveries_total{provider="a"} 1',
        'balancer_config_reloads_total{result="ok"} 1',
        'balancer_config_reloads_total{result="refused"} 1',
        "balancer_client_disconnects_total 1",
        'balancer_stream_truncations_total{provider="b"} 1',
        "balancer_dedup_hits_total 1",
        'balancer_attempts_total{provider="b",outcome="completed",status="200"} 2',
        'balancer_queue_wait_seconds_bucket{le="0.1"} 1',
    ):
        assert line in lines


def test_what_is_true_at_the_moment() -> None:
    lines = counted()

    for line in (
        'balancer_provider_state{provider="a"} 2',
        'balancer_provider_state{provider="b"} 0',
        'balancer_provider_cooldown_seconds{provider="a"} 4.5',
        'balancer_inflight{provider="b"} 3',
        "balancer_inflight_requests 3",
        "balancer_retry_budget_tokens 9.5",
        "balancer_client_disconnects_total 0",
        'balancer_local_faults_total{kind="descriptors"} 2',
        'balancer_local_faults_total{kind="disk"} 0',
        "balancer_log_lines_lost_total 5",
    ):
        assert line in lines


def test_every_line_is_of_the_format() -> None:
    nasty = ended(model='m"\\\n')
    sample = re.compile(r'balancer_\w+(\{(\w+="([^"\\\n]|\\\\|\\n|\\")*",?)*\})? (\d+(\.\d+)?)')
    comment = re.compile(r"# (HELP|TYPE) balancer_\w+ .+")

    for line in counted(nasty):
        assert sample.fullmatch(line) or comment.fullmatch(line), line


def test_the_names_of_models_are_bounded() -> None:
    told = "\n".join(counted(*(ended(model=f"m{n}") for n in range(MAX_MODELS + 50))))

    assert told.count("balancer_requests_total{") == MAX_MODELS + 1
    assert 'model="other",status_class="2xx",outcome="ok"} 50' in told


def test_a_model_has_its_name_from_the_first_time_that_anybody_was_asked_for_it() -> None:
    """Whatever is counted together with what."""
    unasked = {"model": "m", "attempts": (), "provider": ""}
    told = "\n".join(
        counted(
            ended(**unasked),
            ended(model="m", status=400, outcome="client_error"),
            ended(**unasked),
            ended(**unasked, status=404, outcome="client_error"),
        )
    )

    for sample in (
        'model="other",status_class="2xx",outcome="ok"} 1',
        'model="m",status_class="4xx",outcome="client_error"} 2',
        'model="m",status_class="2xx",outcome="ok"} 1',
    ):
        assert sample in told


def test_a_model_that_no_route_knows_is_not_named() -> None:
    told = "\n".join(counted(ended(model="strange", attempts=(), provider="")))

    assert "strange" not in told


def test_blocks_of_thinking_that_did_not_count() -> None:
    lines = counted(ended(usage=Usage(input_transformations=3)), ended())

    assert 'balancer_input_transformations_total{provider="b"} 3' in lines


def test_what_is_counted_while_the_text_is_made_does_no_harm() -> None:
    metrics = Metrics()
    metrics.take(ended())
    text = ""
    for number, piece in enumerate(metrics.pieces(VIEW)):
        text += piece
        metrics.take(ended(model=f"m{number}", status=number))
        metrics._count()
    assert 'balancer_requests_total{operation="messages",model="claude-x",status_class="2xx",outcome="ok"} 1\n' in text
    assert text.endswith("\n")
