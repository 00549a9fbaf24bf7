"""What options, address and model come to together."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from balancer.dialects.openai.options import Options, for_api, settled
from balancer.dialects.openai.profiles import PROFILES, Profile

HOSTS: dict[str, Profile] = {
    "https://api.openai.com/v1": "openai",
    "https://r.openai.azure.com/openai/v1": "azure",
    "https://r.services.ai.azure.com/openai/v1": "azure",
    "https://openrouter.ai/api/v1": "openrouter",
    "https://api.deepseek.com": "deepseek",
    "https://api.moonshot.ai/v1": "moonshot",
    "https://api.moonshot.cn/v1": "moonshot",
    "https://api.mistral.ai/v1": "mistral",
    "https://generativelanguage.googleapis.com/v1beta/openai": "gemini",
    "https://api.groq.com/openai/v1": "groq",
    "https://api.x.ai/v1": "xai",
    "https://dashscope-intl.aliyuncs.com/compatible-mode/v1": "qwen",
    "https://api.z.ai/api/paas/v4": "zai",
    "https://open.bigmodel.cn/api/paas/v4": "zai",
    "https://api.minimax.io/v1": "minimax",
    "https://api.githubcopilot.com": "copilot",
    "https://models.github.ai/inference": "github_models",
    "http://127.0.0.1:11434/v1": "ollama",
    "http://127.0.0.1:1234/v1": "lmstudio",
    "http://127.0.0.1:8000/v1": "compat",
    "https://notopenrouter.ai/v1": "compat",
    "https://openrouter.ai.evil.example/v1": "compat",
}


@pytest.mark.parametrize(("base_url", "profile"), HOSTS.items())
def test_the_address_picks_the_profile(base_url: str, profile: Profile) -> None:
    assert settled(Options(), base_url, "m").profile == profile
    assert settled(Options(profile="vllm"), base_url, "m").profile == "vllm"


MODELS = {
    "gpt-5.6": "responses", "gpt-5-mini": "responses", "o3": "responses", "o4-mini": "responses", "gpt-5-codex": "responses",
    "gpt-6": "responses", "gpt-4.1": "chat", "gpt-4o": "chat", "gpt-5-chat-latest": "chat", "up-model": "chat", "omni": "chat",
}  # fmt: skip


@pytest.mark.parametrize(("model", "api"), MODELS.items())
def test_openais_models_with_reasoning_are_asked_by_the_responses_api(model: str, api: str) -> None:
    found = settled(Options(profile="openai"), "https://api.openai.com/v1", model)

    assert found.api == api
    assert (found.can.reasoning == "effort") is (api == "responses")
    assert settled(Options(profile="openai", api="chat"), "https://api.openai.com/v1", model).api == "chat"


def test_a_deployment_of_azure_has_chat_only_and_a_header_of_its_own_for_the_key() -> None:
    found = settled(Options(), "https://r.openai.azure.com/openai/deployments/x?api-version=1", "gpt-5.6")

    assert (found.profile, found.api, found.key_header) == ("azure", "chat", "api-key")


def test_what_the_responses_api_lacks() -> None:
    can = for_api(PROFILES["openrouter"], "responses")

    assert (can.stop, can.top_k, can.cache_marks) == (0, False, "none")
    assert for_api(PROFILES["openrouter"], "chat") is PROFILES["openrouter"]


@pytest.mark.parametrize("name", ["", "x y", "x:y", "-x", "x\r\ny", "x" * 65])
def test_a_header_has_a_name(name: str) -> None:
    with pytest.raises(ValidationError):
        Options(key_header=name)


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("kimi", "moonshot"),
        ("GLM", "zai"),
        ("github-models", "github_models"),
        ("llama.cpp", "llamacpp"),
        ("DashScope", "qwen"),
        ("openai-reasoning", "openai_reasoning"),
    ],
)
def test_a_profile_goes_by_the_names_of_its_service(name: str, profile: str) -> None:
    assert Options.model_validate({"profile": name}).profile == profile
