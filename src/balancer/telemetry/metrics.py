"""`GET /metrics`: what happened, counted, in Prometheus' text format 0.0.4.

Counters come from events; what is true at the moment (states, in flight) from the snapshot that
`render` is given. Labels are bounded: no number of strange model names can fill the memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from balancer import __version__
from balancer.events import (
    CooldownStarted,
    Event,
    ProviderRecovered,
    ProviderWoken,
    Reloaded,
    ReloadRefused,
    RequestEnded,
)
from balancer.model import Usage

BATCH = 128
"""So many events are counted in one go."""

MAX_MODELS = 100
"""Names of models beyond so many are counted together as `other`."""

DURATION_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_TOKEN_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 60.0)
QUEUE_BUCKETS_S = (0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Labels: TypeAlias = tuple[str, ...]

_CLASSES = {number: f"{number}xx" for number in range(1, 6)}

_WORDS = {True: "true", False: "false"}

_STATES = {"healthy": 0, "probing": 1, "resting": 2, "disabled": 3, "paused": 4}

_COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "requests_total": ("Requests that ended.", ("operation", "model", "status_class", "outcome")),
    "requests_by_key_total": ("Requests that ended, by the name of the balancer's key.", ("key", "outcome")),
    "attempts_total": ("Times that a provider was asked.", ("provider", "outcome", "status")),
    "failovers_total": ("Times that another provider took over.", ("from", "to", "phase")),
    "tokens_total": ("Tokens as the providers reported them.", ("provider", "type")),
    "input_transformations_total": (
        "Blocks of thinking that a provider dropped or doubted.",
        ("provider",),
    ),
    "stream_truncations_total": ("Answers that broke after content had been sent.", ("provider",)),
    "client_disconnects_total": ("Requests whose client left before the end.", ()),
    "dedup_hits_total": ("Requests that shared the answer to an identical request in flight.", ()),
    "provider_rests_total": ("Cooldowns that began after a failure.", ("provider", "long")),
    "provider_recoveries_total": ("Times that a provider answered again.", ("provider",)),
    "provider_wakes_total": ("Times that a provider's cooldowns were ended before their time.", ("provider", "by")),
    "config_reloads_total": ("Changed configurations.", ("result",)),
}

_HISTOGRAMS: dict[str, tuple[str, tuple[str, ...], tuple[float, ...]]] = {
    "request_duration_seconds": ("From a request's arrival to its end.", ("operation", "stream"), DURATION_BUCKETS_S),
    "time_to_first_token_seconds": (
        "From a request's arrival to the first content of its answer.",
        ("provider",),
        FIRST_TOKEN_BUCKETS_S,
    ),
    "queue_wait_seconds": ("How long requests waited for a free place.", (), QUEUE_BUCKETS_S),
    "event_loop_lag_seconds": (
        "How much too late the event loop came to a timer that is due four times a second.",
        (),
        LAG_BUCKETS_S,
    ),
}


class _Histogram:
    """Counts per bucket, not yet added up; the last one is for what is above all of them."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0


class Metrics:
    """A listener that counts."""

    KINDS = (RequestEnded, CooldownStarted, ProviderRecovered, ProviderWoken, Reloaded, ReloadRefused)
    """What it listens to."""

    def __init__(self, restarts: Mapping[str, int] = MappingProxyType({})) -> None:
        """`restarts` says, at any moment, how often workers were started again, by reason."""
        self._restarts = restarts
        self._counters: dict[str, Counter[Labels]] = {name: Counter() for name in _COUNTERS}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {name: {} for name in _HISTOGRAMS}
        self._models: set[str] = set()
        self._waiting: list[Event] = []
        """What is not counted yet."""

    def take(self, event: Event) -> None:
        """Take an event. Many are counted in one go: by itself each costs three times as much, its code gone cold."""
        self._waiting.append(event)
        if len(self._waiting) >= BATCH:
            self._count()

    def _count(self) -> None:
        waiting, self._waiting, known = self._waiting, [], self._models
        alike: defaultdict[tuple[str, tuple[object, ...]], list[RequestEnded]] = defaultdict(list)
        for event in waiting:
            if isinstance(event, RequestEnded):
                model = event.model if event.model in known else self._named(event)
                what = (
                    event.operation,
                    event.stream,
                    event.provider,
                    event.dedup,
                    event.status,
                    event.outcome,
                    event.key,
                )
                alike[model, what].append(event)
            else:
                self._told(event)
        for (model, _), events in alike.items():
            self._ended(model, events)

    def _told(self, event: Event) -> None:
        match event:
            case CooldownStarted(provider=provider, needs_operator=long):
                self._counters["provider_rests_total"][provider, str(long).lower()] += 1
            case ProviderRecovered(provider=provider):
                self._counters["provider_recoveries_total"][(provider,)] += 1
            case ProviderWoken(provider=provider, by=by):
                self._counters["provider_wakes_total"][provider, by] += 1
            case Reloaded():
                self._counters["config_reloads_total"][("ok",)] += 1
            case ReloadRefused():
                self._counters["config_reloads_total"][("refused",)] += 1
            case _:
                return

    def lagged(self, lag_s: float) -> None:
        """Count how late the event loop was."""
        self._observe("event_loop_lag_seconds", (), [lag_s])

    def render(self, view: Mapping[str, Any], others: Iterable[Mapping[str, list[float]]] = ()) -> str:
        """Return everything as text, with the counters of `others`. `view` is what `control.status.moment` returns."""
        whole = self
        if others := list(others):
            whole = Metrics(self._restarts)
            for counters in (self.counters(), *others):
                whole.add(counters)
        return "".join(whole.pieces(view))

    def pieces(self, view: Mapping[str, Any]) -> Iterator[str]:
        """Return the text of `render` in small pieces. Between them other things may be done, and counted."""
        self._count()
        for line in self._lines():
            yield f"{line}\n"
        for line in (*_worker_restarts(self._restarts), *_gauges(view)):
            yield f"{line}\n"

    def counters(self) -> dict[str, list[float]]:
        """Return all that is counted: numbers that only grow, by name and labels."""
        self._count()
        known: dict[str, list[float]] = {}
        for name, counts in self._counters.items():
            for labels, count in counts.items():
                known[_joined(name, labels)] = [count]
        for name, histograms in self._histograms.items():
            for labels, histogram in histograms.items():
                known[_joined(name, labels)] = [*histogram.counts, histogram.total]
        return known

    def add(self, counters: Mapping[str, list[float]]) -> None:
        """Add what another worker has counted (`counters`). What is not known is passed over."""
        for key, numbers in counters.items():
            name, *labels = key.split(_SEPARATOR)
            if name in _COUNTERS and len(labels) == len(_COUNTERS[name][1]):
                self._counters[name][tuple(labels)] += int(numbers[0])
            elif name in _HISTOGRAMS and len(labels) == len(_HISTOGRAMS[name][1]):
                bounds = _HISTOGRAMS[name][2]
                if len(numbers) != len(bounds) + 2:
                    continue
                histogram = self._histograms[name].setdefault(tuple(labels), _Histogram(bounds))
                histogram.counts = [one + int(other) for one, other in zip(histogram.counts, numbers, strict=False)]
                histogram.total += numbers[-1]

    def _ended(self, model: str, events: list[RequestEnded]) -> None:
        """Count requests that ended alike."""
        counters, one, count = self._counters, events[0], len(events)
        status_class = _CLASSES.get(one.status // 100, "none")
        counters["requests_total"][one.operation, model, status_class, one.outcome] += count
        if one.key:
            counters["requests_by_key_total"][one.key, one.outcome] += count
        self._observe(
            "request_duration_seconds", (one.operation, _WORDS[one.stream]), [event.duration_s for event in events]
        )
        first = [event.first_content_s for event in events if event.first_content_s is not None]
        self._observe("time_to_first_token_seconds", (one.provider,), first)
        self._observe("queue_wait_seconds", (), [event.queued_s for event in events if event.queued_s > 0])
        if one.outcome == "abandoned":
            counters["client_disconnects_total"][()] += count
        elif one.outcome == "broken_stream":
            counters["stream_truncations_total"][(one.provider,)] += count
        if one.dedup == "follower":
            counters["dedup_hits_total"][()] += count
            return  # the leader's attempts and tokens are counted once, with the leader
        self._attempts(events)
        if one.provider:
            self._tokens(one.provider, [event.usage for event in events])

    def _attempts(self, events: list[RequestEnded]) -> None:
        asked, failovers = self._counters["attempts_total"], self._counters["failovers_total"]
        for event in events:
            previous = None
            for attempt in event.attempts:
                status = "" if attempt.status is None else str(attempt.status)
                asked[attempt.provider, attempt.outcome, status] += 1
                if previous is not None and previous.provider != attempt.provider:
                    failovers[previous.provider, attempt.provider, previous.stage] += 1
                previous = attempt

    def _tokens(self, provider: str, usages: list[Usage]) -> None:
        tokens = self._counters["tokens_total"]
        for kind, count in (
            ("input", sum([usage.input_tokens or 0 for usage in usages])),
            ("output", sum([usage.output_tokens or 0 for usage in usages])),
            ("cache_read", sum([usage.cache_read_tokens or 0 for usage in usages])),
            ("cache_creation", sum([usage.cache_creation_tokens or 0 for usage in usages])),
        ):
            if count:
                tokens[provider, kind] += count
        if changed := sum([usage.input_transformations or 0 for usage in usages]):
            self._counters["input_transformations_total"][(provider,)] += changed

    def _named(self, event: RequestEnded) -> str:
        """Return what a model is counted under that was not named yet."""
        if not event.attempts or len(self._models) >= MAX_MODELS:  # a name that no route knows says nothing
            return "other"
        self._models.add(event.model)
        return event.model

    def _observe(self, name: str, labels: Labels, values: list[float]) -> None:
        if not values:
            return
        histograms = self._histograms[name]
        histogram = histograms.get(labels)
        if histogram is None:
            histogram = histograms[labels] = _Histogram(_HISTOGRAMS[name][2])
        bounds, counts = histogram.bounds, histogram.counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        histogram.total += sum(values)

    def _lines(self) -> Iterator[str]:
        for name, (words, names) in _COUNTERS.items():
            yield from _heading(name, words, "counter")
            counts: Mapping[Labels, int] = self._counters[name] or ({(): 0} if not names else {})
            for labels, count in list(counts.items()):
                yield _sample(name, zip(names, labels, strict=True), count)
        for name, (words, names, _) in _HISTOGRAMS.items():
            yield from _heading(name, words, "histogram")
            for labels, histogram in list(self._histograms[name].items()):
                yield "\n".join(_buckets(name, list(zip(names, labels, strict=True)), histogram))


_SEPARATOR = "\x1f"


def _joined(name: str, labels: Labels) -> str:
    """Return the name of a counter with its labels, as one text."""
    return _SEPARATOR.join((name, *(label.replace(_SEPARATOR, " ") for label in labels)))


def _buckets(name: str, labels: list[tuple[str, str]], histogram: _Histogram) -> Iterator[str]:
    below = 0
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        below += count
        yield _sample(f"{name}_bucket", [*labels, ("le", bound)], below)
    yield _sample(f"{name}_sum", labels, round(histogram.total, 6))
    yield _sample(f"{name}_count", labels, below)


def _worker_restarts(by_reason: Mapping[str, int]) -> Iterator[str]:
    """The supervisor counts these, for all workers together."""
    if by_reason:
        yield from _heading("worker_restarts_total", "Times that a worker was started again.", "counter")
        for reason, count in by_reason.items():
            yield _sample("worker_restarts_total", [("reason", reason)], count)


def _gauges(view: Mapping[str, Any]) -> Iterator[str]:
    yield from _heading("build_info", "The version that runs.", "gauge")
    yield _sample("build_info", [("version", __version__)], 1)
    for name, words, key in (
        ("inflight_requests", "Requests under way.", "in_flight"),
        ("retry_budget_tokens", "Retries that an outage may still cost.", "retry_budget"),
        ("config_generation", "How many configurations came into force since the start.", "generation"),
    ):
        if key in view:
            yield from _heading(name, words, "gauge")
            yield _sample(name, [], view[key])
    yield from _of_this_machine(view)
    if workers := view.get("workers"):
        yield from _heading("workers", "Workers that answered this.", "gauge")
        yield _sample("workers", [], workers["answered"])
        yield from _heading("sharing_ok", "1: the workers share what they know; 0: this one is on its own.", "gauge")
        yield _sample("sharing_ok", [], 0 if workers["trouble"] else 1)
    providers = view.get("providers", [])
    for name, words, value_of in (
        (
            "provider_state",
            "0 healthy, 1 probing, 2 resting, 3 disabled, 4 paused.",
            lambda p: _STATES.get(p.get("state"), 2),
        ),
        (
            "provider_cooldown_seconds",
            "Seconds until a provider's cooldown ends.",
            lambda p: p.get("resting_for_s"),
        ),
        ("inflight", "Requests that a provider works on.", lambda p: p.get("in_flight")),
        ("provider_failures", "Failures in a row.", lambda p: p.get("failure_count")),
    ):
        yield from _heading(name, words, "gauge")
        for provider in providers:
            yield _sample(name, [("provider", provider["name"])], value_of(provider) or 0)


def _of_this_machine(view: Mapping[str, Any]) -> Iterator[str]:
    """What is counted elsewhere: by threads, or below where events are made."""
    if "local_faults" in view:
        yield from _heading("local_faults_total", "What failed because this machine is short of something.", "counter")
        for kind, count in view["local_faults"].items():
            yield _sample("local_faults_total", [("kind", kind)], count)
    if "log_lines_lost" in view:
        yield from _heading("log_lines_lost_total", "Lines that the log file lacks.", "counter")
        yield _sample("log_lines_lost_total", [], view["log_lines_lost"])


def _heading(name: str, words: str, kind: str) -> tuple[str, str]:
    return f"# HELP balancer_{name} {words}", f"# TYPE balancer_{name} {kind}"


def _sample(name: str, labels: Any, value: float) -> str:
    told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return f"balancer_{name}{{{told}}} {value}" if told else f"balancer_{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
