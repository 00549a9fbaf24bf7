"""How hard a model shall think: `thinking` and `output_config.effort` as a server's own fields."""

from __future__ import annotations

from typing import Any

from balancer.dialects.openai.profiles import EFFORTS, Capabilities
from balancer.wire.loose import object_of

_BUDGETS = ((4096, "low"), (16384, "medium"), (31999, "high"))
"""Below so many thinking tokens, so much effort."""


def fields(request: dict[str, Any], can: Capabilities) -> dict[str, Any]:
    """Return what goes into the body; empty: the model's default."""
    if can.reasoning == "none" and can.effort is None:
        return {}
    thinking = object_of(request.get("thinking"))
    budget = thinking.get("budget_tokens")
    off = thinking.get("type") == "disabled"
    match can.reasoning:
        case "deepseek":
            return _deepseek(request, thinking, can)
        case "thinking":
            on = _switched(thinking, can)
            return {} if on is None else {"thinking": {"type": "enabled" if on else "disabled"}}
        case "qwen":
            return _qwen(thinking, can)
    counts = can.reasoning == "openrouter" and can.effort is None and not off and _stated(request) is None
    if counts and isinstance(budget, int):
        return {"reasoning": {"max_tokens": budget}}
    effort = wanted(request, can)
    if effort is None:
        return {}
    return {"reasoning": {"effort": effort}} if can.reasoning == "openrouter" else {"reasoning_effort": effort}


def is_on(request: dict[str, Any], fields: dict[str, Any]) -> bool:
    """Say whether the model will reason, as far as request and `fields` tell: no sampling goes along then."""
    kind = object_of(request.get("thinking")).get("type")
    if fields.get("reasoning_effort") == "none" or fields.get("thinking") == {"type": "disabled"}:
        return False
    return kind in ("enabled", "adaptive") or (bool(fields) and kind != "disabled")


def is_asked(request: dict[str, Any]) -> bool:
    """Say whether the request asks for more than the model's default."""
    return _stated(request) is not None or object_of(request.get("thinking")).get("type") == "enabled"


def wanted(request: dict[str, Any], can: Capabilities) -> str | None:
    """Return the effort to ask for, among those that the model knows; None: say nothing."""
    thinking = object_of(request.get("thinking"))
    if can.effort is not None:
        return can.effort if can.effort == "none" or can.reasoning == "none" else _known(can.effort, can)
    if thinking.get("type") == "disabled":
        return next((effort for effort in ("none", "minimal") if effort in can.efforts), None)
    if (stated := _stated(request)) is not None:
        return _known(stated, can)
    budget = thinking.get("budget_tokens")
    if thinking.get("type") != "enabled" or not isinstance(budget, int):
        return None
    return _known(next((effort for limit, effort in _BUDGETS if budget < limit), "xhigh"), can)


def _stated(request: dict[str, Any]) -> str | None:
    effort = object_of(request.get("output_config")).get("effort")
    return effort if effort in EFFORTS else None


def _known(effort: str, can: Capabilities) -> str | None:
    """Clamp down to what the model knows; up to its least where it knows nothing that low."""
    rank = EFFORTS.index(effort)
    known = [known for known in EFFORTS if known in can.efforts]
    return next((known for known in reversed(known) if EFFORTS.index(known) <= rank), known[0] if known else None)


def _deepseek(request: dict[str, Any], thinking: dict[str, Any], can: Capabilities) -> dict[str, Any]:
    kind = thinking.get("type")
    if can.effort == "none" or (kind == "disabled" and can.effort is None):
        return {"thinking": {"type": "disabled"}}
    effort = wanted(request, can)
    said = {"reasoning_effort": effort} if effort else {}
    return {"thinking": {"type": "enabled"}, **said} if kind in ("enabled", "adaptive") else said


def _switched(thinking: dict[str, Any], can: Capabilities) -> bool | None:
    """Return whether thinking is to be on; None: what the model does by itself."""
    if can.effort is not None:
        return can.effort != "none"
    return {"disabled": False, "enabled": True, "adaptive": True}.get(str(thinking.get("type")))


def _qwen(thinking: dict[str, Any], can: Capabilities) -> dict[str, Any]:
    on = _switched(thinking, can)
    if on is None:
        return {}
    budget = thinking.get("budget_tokens")
    return {"enable_thinking": on, **({"thinking_budget": budget} if on and isinstance(budget, int) else {})}
