"""`zed_config`: what can be set for a provider of the type `zed`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_CONTEXT_TOKENS = 120_000
THREAD_TTL_S = 3600.0

Trigger = Literal["complex_coding_task", "multi_step_analysis", "agent_panel_usage"]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ContextManagement(_Group):
    """When a conversation has grown too long, and what is done then."""

    max_context_tokens: int | None = Field(default=None, ge=1000, description="Window in normal mode, in tokens.")
    burn_context_tokens: int = Field(default=200_000, ge=1000, description="Window in burn mode, in tokens.")
    rotation_threshold: float = Field(default=0.8, gt=0, le=1, description="Share of the window that rotates a thread.")
    summarization_method: Literal["ai", "truncate", "none"] = Field(
        default="ai", description="What becomes of the cut part: summarised, left out, or nothing is cut."
    )
    keep_last_turns: int = Field(default=4, ge=1, description="How many turns of the user are kept as they are.")
    summary_max_tokens: int = Field(default=2000, ge=100, description="Length of a summary, in tokens.")
    summary_model: str | None = Field(default=None, description="Who summarises; default: the service's fast model.")


class ThreadManagement(_Group):
    """How requests are told apart as threads."""

    ttl: float | None = Field(default=None, ge=0, description="Idle seconds after which a thread is new; 0: never.")
    auto_rotate: bool = Field(default=True, description="Whether a thread is rotated at the threshold.")
    task_based_isolation: bool = Field(default=True, description="Whether subagents get threads of their own.")
    max_threads: int = Field(default=1000, ge=1, description="How many threads are remembered.")
    max_tool_calls_per_prompt: int = Field(
        default=25, ge=1, description="Legacy plans: tool calls that one prompt buys."
    )


class Price(_Group):
    """US dollars per million tokens, and per prompt or request on legacy plans."""

    input: float = Field(default=3.3, ge=0, description="Dollars per million input tokens.")
    output: float = Field(default=16.5, ge=0, description="Dollars per million output tokens.")
    cache_write: float = Field(default=4.125, ge=0, description="Dollars per million tokens written to the cache.")
    cache_read: float = Field(default=0.33, ge=0, description="Dollars per million tokens read from the cache.")
    prompt: float = Field(default=0.04, ge=0, description="Legacy: dollars per prompt in normal mode.")
    burn_request: float = Field(default=0.05, ge=0, description="Legacy: dollars per request in burn mode.")


class CostControl(_Group):
    """What may be spent, as far as this process knows."""

    pricing: dict[str, Price] = Field(default_factory=dict, description="Prices by (the beginning of) a model's name.")
    daily_usd: float | None = Field(default=None, ge=0, description="Budget of a day (UTC).")
    monthly_usd: float | None = Field(default=None, ge=0, description="Budget of a month (UTC).")
    per_prompt_usd: float | None = Field(default=None, ge=0, description="Budget of one prompt.")
    on_exceed: Literal["failover", "reject", "force_normal"] = Field(
        default="failover", description="Another provider, error 402, or only burn mode is denied."
    )


class BurnThresholds(_Group):
    """From where on the triggers call for burn mode."""

    tokens: int = Field(default=40_000, ge=1, description="`complex_coding_task`: estimated tokens.")
    edited_files: int = Field(default=3, ge=1, description="`complex_coding_task`: files edited in this prompt.")
    thinking_budget: int = Field(default=16_000, ge=1, description="`complex_coding_task`: thinking budget, in tokens.")
    tool_calls: int = Field(default=15, ge=1, description="`complex_coding_task`: tool calls in this prompt.")
    analysis_tool_calls: int = Field(default=20, ge=1, description="`multi_step_analysis`: tool calls in this prompt.")
    open_items: int = Field(default=5, ge=1, description="`multi_step_analysis`: open items of a plan.")
    numbered_steps: int = Field(default=3, ge=1, description="`multi_step_analysis`: numbered steps in your text.")


class Options(_Group):
    """`zed_config`: flat keys and groups may be mixed; a group's key wins."""

    wire_profile: Literal["current", "legacy"] = Field(
        default="current", description="`legacy` sends `mode` and counts prompts, as until January 2026."
    )
    default_mode: Literal["normal", "burn"] = Field(default="normal", description="The mode where nothing else says.")
    auto_burn_mode_triggers: tuple[Trigger, ...] = Field(default=(), description="What calls for burn mode.")
    burn_thresholds: BurnThresholds = Field(default=BurnThresholds(), description="From where on triggers fire.")
    mode_header: bool = Field(
        default=True, description="Whether a client may choose the mode with `x-balancer-zed-mode`."
    )
    max_context_tokens: int | None = Field(
        default=None, ge=1000, description=f"As in `context_management`; default {MAX_CONTEXT_TOKENS}."
    )
    thread_ttl: float | None = Field(
        default=None, ge=0, description="As `thread_management.ttl`; default 3600 seconds."
    )
    context_management: ContextManagement = Field(default=ContextManagement(), description="Windows and rotation.")
    thread_management: ThreadManagement = Field(default=ThreadManagement(), description="Threads.")
    cost_control: CostControl = Field(default=CostControl(), description="Budgets and prices.")
    organization_id: str | None = Field(default=None, description="The organization that pays.")
    client_version: str | None = Field(default=None, description="Sent as `x-zed-version`; default: not sent.")
    max_concurrency: int | None = Field(
        default=4, ge=1, description="The most requests at once, where `max_in_flight` says nothing; null: any number."
    )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What whoever wrote the file should be told at start."""
        if self.wire_profile == "current" and (self.default_mode == "burn" or self.auto_burn_mode_triggers):
            return (
                "Zed removed burn mode on 2026-01-17; mode has no server effect: burn only means the larger window "
                "(context_management.burn_context_tokens)",
            )
        return ()

    @property
    def window(self) -> int:
        """The window in normal mode, in tokens."""
        return self.context_management.max_context_tokens or self.max_context_tokens or MAX_CONTEXT_TOKENS

    @property
    def ttl_s(self) -> float:
        for value in (self.thread_management.ttl, self.thread_ttl):
            if value is not None:
                return value
        return THREAD_TTL_S
