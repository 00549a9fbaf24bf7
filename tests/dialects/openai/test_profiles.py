"""Every profile makes requests that the SDK's types accept."""

from __future__ import annotations

import pytest
from conversion import assistant, chat, messages_request, result, text, use, user

from balancer.dialects.openai.profiles import EFFORTS, PROFILES, Profile

FULL = messages_request(
    "go", assistant({"type": "thinking", "thinking": "hm", "signature": "s"}, text("so"), use("t1", "t")),
    user(result("t1")), {"role": "system", "content": "brief"}, "and?",
    system="Be good.", stream=True, temperature=1, top_p=1, top_k=3, stop_sequences=["x"],
    metadata={"user_id": "u"}, thinking={"type": "enabled", "budget_tokens": 5000},
    tools=[{"name": "t", "input_schema": {"type": "object"}}],
    tool_choice={"type": "any", "disable_parallel_tool_use": True},
    output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
)  # fmt: skip


@pytest.mark.parametrize("profile", PROFILES)
def test_a_full_request(profile: Profile) -> None:
    assert chat(FULL, profile)["messages"]


@pytest.mark.parametrize("profile", PROFILES)
def test_efforts_are_words_that_exist(profile: Profile) -> None:
    assert set(PROFILES[profile].efforts) <= set(EFFORTS)
