"""The services that `balancer add` knows: where each is reached, how it is asked, which models it has.

The one place for these facts: `providers.example.yaml` and the documentation are checked against it. Models and
addresses are those of November 2026, as the services document them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from balancer.config.addresses import is_plain_to_others
from balancer.config.words import PASSTHROUGH


@dataclass(frozen=True, slots=True)
class Preset:
    """One service."""

    title: str
    """As the service calls itself."""
    type: str
    base_url: str | None
    """None: the type knows it."""
    key_env: str | None
    """The usual variable for its key; None: no key of its own is needed."""
    models: Mapping[str, str] = field(default_factory=lambda: {"default": PASSTHROUGH})
    """The model for each tier, `default` for all others."""
    auth_type: str | None = None
    auth_value: str | None = None
    """In the place of a key."""
    options: Mapping[str, object] = field(default_factory=dict)
    """What stands in `<type>_config`."""
    more: Mapping[str, object] = field(default_factory=dict)
    """Further keys of the provider."""
    name: str = ""
    """What the provider is called; empty: as the preset."""
    key_url: str = ""
    """Where a key is to be had."""
    hint: str = ""
    """What to know or to do before it works."""
    aliases: tuple[str, ...] = ()


PRESETS: Mapping[str, Preset] = {
    "anthropic": Preset(
        title="Anthropic API key",
        type="anthropic",
        base_url="https://api.anthropic.com",
        auth_type="api_key",
        key_env="ANTHROPIC_API_KEY",
        key_url="https://platform.claude.com/settings/keys",
        aliases=("claude", "anthropic-api"),
    ),
    "claude-subscription": Preset(
        title="Claude subscription",
        type="anthropic",
        base_url="https://api.anthropic.com",
        auth_value=PASSTHROUGH,
        key_env=None,
        name="subscription",
        hint="log in with Claude Code (/login) and set only ANTHROPIC_BASE_URL, no token: its own login is passed on",
        aliases=("subscription", "pro", "max"),
    ),
    "openrouter": Preset(
        title="OpenRouter",
        type="openai",
        base_url="https://openrouter.ai/api/v1",
        key_env="OPENROUTER_API_KEY",
        options={"profile": "openrouter"},
        models={
            "opus": "anthropic/claude-opus-5.5",
            "haiku": "deepseek/deepseek-v4-flash",
            "default": "anthropic/claude-sonnet-5.5",
        },
        key_url="https://openrouter.ai/settings/keys",
        hint="hundreds of models: choose yours in model_routes",
    ),
    "deepseek": Preset(
        title="DeepSeek",
        type="anthropic",
        base_url="https://api.deepseek.com/anthropic",
        auth_type="api_key",
        key_env="DEEPSEEK_API_KEY",
        models={"haiku": "deepseek-v4-flash", "default": "deepseek-v4-pro"},
        key_url="https://platform.deepseek.com/api_keys",
    ),
    "zai": Preset(
        title="Z.AI (GLM)",
        type="anthropic",
        base_url="https://api.z.ai/api/anthropic",
        auth_type="auth_token",
        key_env="ZAI_API_KEY",
        models={"haiku": "glm-4.5-air", "default": "glm-5.3"},
        key_url="https://z.ai/manage-apikey/apikey-list",
        hint="in mainland China: --base-url https://open.bigmodel.cn/api/anthropic",
        aliases=("z.ai", "glm", "zhipu", "bigmodel"),
    ),
    "moonshot": Preset(
        title="Moonshot (Kimi)",
        type="anthropic",
        base_url="https://api.moonshot.ai/anthropic",
        auth_type="auth_token",
        key_env="MOONSHOT_API_KEY",
        models={"default": "kimi-k2.6"},
        key_url="https://platform.moonshot.ai/console/api-keys",
        hint="in mainland China: --base-url https://api.moonshot.cn/anthropic",
        aliases=("kimi", "moonshot-ai"),
    ),
    "minimax": Preset(
        title="MiniMax",
        type="anthropic",
        base_url="https://api.minimax.io/anthropic",
        auth_type="auth_token",
        key_env="MINIMAX_API_KEY",
        models={"default": "MiniMax-M3"},
        key_url="https://platform.minimax.io/user-center/basic-information/interface-key",
        hint="in mainland China: --base-url https://api.minimaxi.com/anthropic",
    ),
    "openai": Preset(
        title="OpenAI",
        type="openai",
        base_url="https://api.openai.com/v1",
        key_env="OPENAI_API_KEY",
        options={"profile": "openai"},
        models={"haiku": "gpt-5-mini", "default": "gpt-5.5"},
        key_url="https://platform.openai.com/api-keys",
        aliases=("gpt", "chatgpt"),
    ),
    "gemini": Preset(
        title="Google Gemini",
        type="openai",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_env="GEMINI_API_KEY",
        options={"profile": "gemini"},
        models={"haiku": "gemini-2.5-flash", "default": "gemini-2.5-pro"},
        key_url="https://aistudio.google.com/apikey",
        aliases=("google",),
    ),
    "ollama": Preset(
        title="Ollama",
        type="openai",
        base_url="http://127.0.0.1:11434/v1",
        key_env=None,
        options={"profile": "ollama"},
        models={"default": "qwen3-coder"},
        more={"request_timeout": 300, "max_in_flight": 1},
        hint="start it with a context of 64k tokens or more, and load the model: ollama pull qwen3-coder",
    ),
    "lmstudio": Preset(
        title="LM Studio",
        type="openai",
        base_url="http://127.0.0.1:1234/v1",
        key_env=None,
        models={"default": "openai/gpt-oss-20b"},
        more={"request_timeout": 300, "max_in_flight": 1},
        hint="start its server, load a model with a context of 64k tokens or more, and name it in model_routes",
        aliases=("lm-studio", "lm_studio"),
    ),
    "vllm": Preset(
        title="vLLM",
        type="openai",
        base_url="http://127.0.0.1:8000/v1",
        key_env=None,
        options={"profile": "vllm"},
        models={"default": "gpt-oss"},
        hint="serve a model that uses tools, under the name in model_routes (--served-model-name gpt-oss)",
    ),
    "zed": Preset(
        title="Zed",
        type="zed",
        base_url=None,
        key_env="ZED_ACCOUNT",
        options={"default_mode": "normal"},
        hint='the variable holds "<user id> <access token>" of your own account: docs/zed-provider-support.md',
    ),
}


def find(word: str) -> str | None:
    """Return the name of the preset that `word` means, in whatever case; None: there is none."""
    folded = word.lower()
    return next((name for name, preset in PRESETS.items() if folded == name or folded in preset.aliases), None)


def words() -> Iterable[str]:
    """Return every name and other name of a preset."""
    return (word for name, preset in PRESETS.items() for word in (name, *preset.aliases))


def entry(preset: Preset, name: str, key_env: str | None, base_url: str | None) -> dict[str, object]:
    """Return a provider as it stands in the file. `key_env` and `base_url` go over what the preset says."""
    variable = key_env or preset.key_env
    found: dict[str, object] = {"name": name, "type": preset.type}
    if where := base_url or preset.base_url:
        found["base_url"] = where
        if is_plain_to_others(where):
            found["allow_http"] = True  # whoever types such an address means it
    if preset.auth_type:
        found["auth_type"] = preset.auth_type
    if preset.auth_value and not key_env:
        found["auth_value"] = preset.auth_value
    elif variable:
        found["auth_value"] = f"${{{variable}}}"
    if preset.options:
        found[f"{preset.type}_config"] = dict(preset.options)
    return {**found, **preset.more}


def model_for(preset: Preset, pattern: str, model: str | None = None) -> str:
    """Return which model the service is asked for in the route of `pattern`; `model`: in all of them."""
    if model is not None:
        return model
    tier = next((tier for tier in ("opus", "sonnet", "haiku") if tier in pattern), "default")
    return preset.models.get(tier, preset.models["default"])
