"""`balancer explain --error FILE`: how a provider's answer would be classed, by which row, and what follows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from balancer import dialects
from balancer.commands import reading
from balancer.config import Config, ConfigError
from balancer.config.inventory import without_secrets
from balancer.dialect import Ask, TypedState
from balancer.model import Candidate, Fault, Operation, Origin, Provider, RefusalClass, Refused, Reply, Request, Stage
from balancer.policy import circuit, exhausted, refusals
from balancer.policy.classify import judge_of
from balancer.policy.refusal_rows import ROWS
from balancer.policy.verdicts import Mark, Proof, Scope, Verdict
from balancer.redact import scrub, secrets_of
from balancer.wire.errors import STATUS_OF

FILE_MAX_BYTES = 1024 * 1024
"""A refusal is smaller; what is more is not read."""

MODEL = "MODEL"
"""Stands for the model that a client asked for."""

CLASSES = {
    RefusalClass.REQUEST: "the request's own fault",
    RefusalClass.CAPABILITY: "this provider can't do it, another may",
    RefusalClass.ACCOUNT: "the account or the key, which only a person can mend",
    RefusalClass.LIMIT: "a limit that resets by itself",
    RefusalClass.MODEL: "the model is missing or in trouble there",
    RefusalClass.PROVIDER: "the provider is in trouble",
    RefusalClass.INTERMEDIARY: "somebody between the balancer and the provider has answered",
}


class Unreadable(Exception):
    """What was given is no answer that can be explained; `str(error)` says what is missing."""


def run(args: argparse.Namespace) -> int:
    """Return 0 if the answer was explained, 2 if it, or the configuration, can't be read."""
    try:
        config = _configuration(args)
        provider = _provider(args.provider, config)
        reply = answer_of(_read(args.error), args.status)
    except (ConfigError, Unreadable) as error:
        print(error, file=sys.stderr)
        return 2
    text = "\n".join(explained(provider, reply, config))
    print(text if config is None else without_secrets(text, config))
    return 0


def _configuration(args: argparse.Namespace) -> Config | None:
    """Return the configuration in force; None: there is none, and none is needed."""
    if args.config is None and args.provider is None and reading.found(None) is None:
        return None
    return reading.read(args.config)


def _provider(name: str | None, config: Config | None) -> Provider:
    """Return the provider whose answer it is; without a name one of type anthropic, with the rules of the settings."""
    if name is not None and config is not None:
        if name not in config.providers:
            raise Unreadable(f"there is no provider '{name}'; there are: {', '.join(config.providers)}")
        return config.providers[name]
    every = config.providers.values() if config is not None else ()
    shared = [rule for one in every for rule in one.error_rules if rule.name.startswith("settings.")]
    rules = tuple(dict.fromkeys(shared))
    origin = Origin(tls=False, host="127.0.0.1", port=9)
    return Provider("the provider", "anthropic", "http://127.0.0.1:9", origin, "", error_rules=rules)


def _read(file: str) -> bytes:
    """Return what a file, or `-` for standard input, holds."""
    try:
        if file == "-":
            return sys.stdin.buffer.read(FILE_MAX_BYTES)
        with Path(file).open("rb") as opened:
            return opened.read(FILE_MAX_BYTES)
    except (OSError, ValueError) as error:
        raise Unreadable(f"{file[:200]}: {getattr(error, 'strerror', None) or error}") from None


def answer_of(raw: bytes, status: int | None) -> Reply:
    """Return the answer that `raw` is: as `curl -i` prints it, or a body alone, whose status is given or named in it.

    Raises `Unreadable`.
    """
    raw, headers, said = raw.replace(b"\r\n", b"\n"), [], None
    while raw.startswith(b"HTTP/"):  # there may be several: of a proxy, of `100 Continue`
        head, _, raw = raw.partition(b"\n\n")
        lines = head.split(b"\n")
        number = lines[0].split(b" ")[1:2]
        if not number or not number[0].isdigit():
            raise Unreadable(f"this is no status line: {lines[0][:100].decode(errors='replace')}")
        said = int(number[0])
        pairs = [line.partition(b":") for line in lines[1:]]
        headers = [(name.strip().lower(), value.strip()) for name, colon, value in pairs if colon]
    status = status or said or _status_in(raw)
    if status is None:
        raise Unreadable("which status did it have? Give the answer as `curl -i` prints it, or --status N")
    return Reply(status, tuple(headers), raw.strip())


def _status_in(body: bytes) -> int | None:
    """Return the status that an error's type or code stands for."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return None
    stated = [error.get("status"), error.get("code"), value.get("status"), value.get("code")]
    numbers = [number for number in stated if isinstance(number, int) and 400 <= number < 600]
    return numbers[0] if numbers else STATUS_OF.get(str(error.get("type")))


def explained(provider: Provider, reply: Reply, config: Config | None) -> Iterator[str]:
    """Yield the lines of the explanation of one provider's answer."""
    candidate = Candidate(provider, MODEL)
    fault = _fault(candidate, reply)
    if fault is None:
        yield f"{reply.status}: this is no refusal, and no error is in it."
        return
    outcome = Refused(fault, Stage.WAIT)
    verdict = judge_of(candidate, outcome)
    found = refusals.find(fault, provider.error_rules)
    secrets = secrets_of(provider)
    yield f"Answer:    {reply.status} {fault.kind}: {scrub(fault.message, secrets) or '(no words)'}"
    if machine := ", ".join(dict.fromkeys(filter(None, (fault.type, fault.code, *fault.marks)))):
        yield f"           its type, code and the like: {scrub(machine, secrets)}"
    yield f"Class:     {found.row.refusal.value} ({CLASSES[found.row.refusal]})"
    by = f"row {ROWS.index(found.row) + 1} of {len(ROWS)}, '{found.row.name}'" if found.row in ROWS else found.row.name
    yield f"Row:       {by}" + (f", by the words '{scrub(found.evidence, secrets)}'" if found.evidence else "")
    yield f"Next:      {_next(verdict)}"
    yield f"Cooldown:  {_cooldown(verdict, provider, config)}"
    yield f"Client:    {_told(candidate, outcome, verdict)}"


def _fault(candidate: Candidate, reply: Reply) -> Fault | None:
    """Return the fault that an answer stands for, also one inside a 200; None: there is none."""
    dialect = dialects.get(candidate.provider.type)
    headers = ((b"content-type", b"application/json"),)
    streamed = reply.body.startswith((b"event:", b"data:"))
    request = Request("explained", Operation.MESSAGES, b"", headers, b"{}", MODEL, streamed)
    ask = Ask(request, candidate, Operation.MESSAGES, TypedState(), 0.0, "explained")
    if not 200 <= reply.status < 300:
        return dialect.fault(ask, reply)
    decoder = dialect.decoder(ask, reply)
    pieces = [*decoder.feed(reply.body + b"\n\n" * streamed), *decoder.end()]
    return next((piece.error for piece in pieces if piece.error), None)


def _next(verdict: Verdict) -> str:
    if not verdict.retry_elsewhere:
        return "no other provider is asked"
    return "the next provider is asked"


def _cooldown(verdict: Verdict, provider: Provider, config: Config | None) -> str:
    """Say who cools down, and for how long."""
    if verdict.client_only:
        return "none: it is about the client's own credential, and counts for that client alone"
    if verdict.mark is not Mark.BAD and verdict.proof is not Proof.UNSURE:
        return "none: it says nothing about the provider"
    who = {
        Scope.PROVIDER: f"{provider.name} as a whole",
        Scope.MODEL: f"this model of {provider.name}",
        Scope.COUNTING: f"counting of tokens by {provider.name}",
    }[verdict.scope]
    said = f"{who}, {_how_long(verdict, config)}"
    if verdict.proof is Proof.UNSURE:
        return f"none, until a second, different request is refused alike; then {said}"
    if verdict.proof is Proof.LIKELY:
        return f"{said}; not where the same request has failed alike at another provider"
    if verdict.refusal is RefusalClass.PROVIDER and verdict.scope is Scope.MODEL:
        return f"{said}; {provider.name} as a whole once a second model is refused alike"
    return said


def _how_long(verdict: Verdict, config: Config | None) -> str:
    if verdict.needs_operator:
        first, most = circuit.OPERATOR_COOLDOWN_S / 60, circuit.OPERATOR_COOLDOWN_MAX_S / 60
        return f"{first:g} minutes, doubling up to {most:g} minutes, and reported: NEEDS YOU"
    most_s = config.settings.cooldown_s if config is not None else circuit.CooldownPolicy().max_s
    named = f"at least {verdict.cooldown_s:g} s, which the answer asks for; else " if verdict.cooldown_s else ""
    if config is not None and config.settings.cooldown_constant:
        return f"{named}{most_s:g} s"
    return f"{named}{min(circuit.FIRST_COOLDOWN_S, most_s):g} s, doubling up to {most_s:g} s"


def _told(candidate: Candidate, outcome: Refused, verdict: Verdict) -> str:
    """Say what a client gets where nobody else answers."""
    recovery_s = verdict.cooldown_s or (circuit.FIRST_COOLDOWN_S if verdict.mark is Mark.BAD else None)
    told = exhausted.answer(MODEL, [(candidate, outcome, verdict)], [], recovery_s, overloaded=False)
    when = "at once" if not verdict.retry_elsewhere else "if nobody else answers"
    if told.reply is not None:
        return f"{when}, this answer as it came: {told.reply.status}, body unchanged"
    wait = f", retry-after: {told.retry_after_s}" if told.retry_after_s is not None else ""
    final = "" if told.retrying_helps else ", x-should-retry: false"
    return f"{when}, {told.status} {told.kind}{wait}{final}: {scrub(told.message, secrets_of(candidate.provider))}"
