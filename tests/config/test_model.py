"""What is generated from the models is current, and valid files satisfy the schema."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml
from reference_pages import DOCS, reference, schema

from balancer.config import EMBEDDED

SEED = """\
providers:
  - name: "provider_name"
    type: "anthropic"  # or "openai" or "zed"
    base_url: "https://api.example.com"
    auth_type: "api_key"  # or "auth_token"
    auth_value: "your-api-key"
    enabled: true
    proxy: "http://proxy:8080"  # optional
model_routes:
  "*sonnet*":  # wildcard matching
    - provider: "provider_name"
      model: "passthrough"  # use original model name
      priority: 1
settings:
  selection_strategy: "priority"  # priority | round_robin | random
  failure_cooldown: 60  # seconds
"""


def test_the_reference_is_current() -> None:
    assert (DOCS / "configuration.md").read_text() == reference(), "run: make docs"


def test_the_schema_is_current() -> None:
    assert json.loads((DOCS / "providers.schema.json").read_text()) == schema(), "run: make docs"


@pytest.mark.parametrize("text", [SEED, EMBEDDED, (DOCS.parent / "providers.example.yaml").read_text()])
def test_valid_files_satisfy_the_schema(text: str) -> None:
    jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load(text))


def test_the_schema_refuses_what_is_wrong() -> None:
    wrong = yaml.safe_load(SEED.replace("auth_type", "auth_typ"))

    assert not jsonschema.Draft202012Validator(schema()).is_valid(wrong)
