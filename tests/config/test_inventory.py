"""What of a configuration must never be shown, and texts without it."""

from __future__ import annotations

from balancer.config import parse
from balancer.config.inventory import public, secrets, without_secrets

TEXT = """
providers:
  - {name: a, type: anthropic, base_url: "https://a.example.com/k3y7f3a9c1e55acanarypath", auth_value: sk-canary-of-a-12345,
     proxy: "http://user:pw-canary@10.0.0.1:8080", headers: {x-team-token: team-canary}}
model_routes: {"*sonnet*": [{provider: a, model: a-model}]}
settings: {auth: {keys: [gate-canary-0123456789, {name: team, key: named-canary-0123456789}], admin_keys: [admin-canary-0123456789]}, usage: "postgresql+psycopg://db-user:db-canary-1@10.0.0.1/b"}
"""


def test_every_secret_of_a_file_is_known_and_no_name_is_one() -> None:
    config = parse(TEXT, "p.yaml", {})
    known = set(secrets(config))

    assert {
        "sk-canary-of-a-12345", "pw-canary", "team-canary", "k3y7f3a9c1e55acanarypath",
        "db-canary-1", "gate-canary-0123456789", "named-canary-0123456789", "admin-canary-0123456789",
    } <= known  # fmt: skip
    assert {"a", "a-model", "*sonnet*"} <= set(public(config))


def test_a_text_loses_the_secrets_and_nothing_else() -> None:
    config = parse(TEXT, "p.yaml", {})

    shown = without_secrets(
        "GET https://a.example.com/k3y7f3a9c1e55acanarypath/v1/models: no sk%2Dcanary%2Dof%2Da%2D12345", config
    )
    assert shown == "GET https://a.example.com/[redacted]/v1/models: no [redacted]"
    assert without_secrets("a-model of a is well", config) == "a-model of a is well"
