"""Writes what is generated from the models: the reference and the JSON schema for editors.

`make docs` runs it; tests/config/test_model.py checks that both are current.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema

from balancer import dialects
from balancer.config.model import ProviderEntry, Settings, TargetEntry

DOCS = Path(__file__).resolve().parents[1] / "docs"

_INTRO = """\
# Configuration

Generated from the models in `src/balancer/config/model.py` and the provider types; `make docs` writes it again.

A `providers.yaml` has three sections: who answers, who gets which request, and how.

```yaml
providers:
  - name: "anthropic"
    type: "anthropic"
    auth_value: "${ANTHROPIC_API_KEY}"

model_routes:
  default:
    - {provider: "anthropic", model: "passthrough"}

settings:
  failure_cooldown: 60
```

`balancer init` and `balancer add` write it for the usual services ([Providers](providers.md)); `providers.example.yaml`
has a section for each.

| | |
|---|---|
| which file | `--config`, else `BALANCER_CONFIG`, else `providers.yaml` in the working directory, else beside the project |
| which value wins | a flag, then the environment (`LOG_LEVEL`, `LOG_COLOR`, `BALANCER_HOST` or `HOST`, `BALANCER_PORT` or `PORT`), then the file, then the default |
| variables | every string may hold `${NAME}` or `${NAME:-default}`; `$${` stands for `${` |
| unknown keys | are errors; the message names the key that is meant |
| changes | are noticed within two or three seconds, by every worker; `POST /providers/reload` applies them at once, whole or not at all |
| needs a restart | `host`, `port`, `reuse_port`, `log_file`, `usage`: a reload names them in `needs_restart` |

`balancer check` names every mistake as `providers.yaml:LINE: message`, and what can be lived with as `providers.yaml:LINE:
warning: message`. It ends with 0, or with 2 where the configuration can't be used, as `balancer serve` does. With
`--live` it also asks each provider for its list of models and compares the routes with it (1: a provider does not
answer); `--live=message` sends each one tiny message. No message quotes what may be a key.

For completion in an editor, put this line first in the file:

```yaml
# yaml-language-server: $schema=docs/providers.schema.json
```

## .env

A file `.env` beside the configuration holds variables for `${NAME}`, so that keys stand neither in the configuration nor
in a shell's history:

```
ANTHROPIC_API_KEY='sk-ant-...'
```

A variable of the real environment wins over one in the file. The file is watched as the configuration is: a changed key
ends the cooldown of its provider. It fills references only (`PORT=1` in it changes nothing) and reaches no other
program. Keep it readable by its owner alone (`chmod 600 .env`); `check` warns otherwise, and names lines that can't be
read as `.env:LINE`.
"""

_ROUTES = """\
## model_routes

A mapping from a pattern to a list of targets. An exact name wins over patterns; among patterns (`*` and `?`, the
whole name, case-sensitive) the one with the most literal characters wins, and among equals the first in the file. A
name with a suffix like `[1m]` is looked up as it is, then without the suffix; `passthrough` sends it as the client
wrote it.

| short form | stands for |
|---|---|
| `opus` | `"*opus*"` |
| `sonnet` | `"*sonnet*"` |
| `haiku` | `"*haiku*"` |
| `default` | `"*"` |

A pattern in its long form stands in quotes: a bare `*` means something else in YAML.

Each target:
"""


def reference() -> str:
    """Return docs/configuration.md."""
    parts = [_INTRO, "## providers\n\nA list; each entry:\n", _table(ProviderEntry)]
    parts += [_ROUTES, _table(TargetEntry), "## settings\n", *_tables(Settings)]
    for name in dialects.names():
        options = dialects.get(name).Options
        if options.model_fields:
            parts += [f"## {name}_config\n\nBelongs to an entry of `providers` of type `{name}`.\n", *_tables(options)]
    return "\n".join(parts)


def _tables(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Return the table of `model`, and those of the parts inside it."""
    yield _table(model, path)
    for key, info in model.model_fields.items():
        inner = _inner(info)
        if inner is not None:
            yield f"#### {path}{key}\n"
            yield from _tables(inner, f"{path}{key}.")


def _inner(info: FieldInfo) -> type[BaseModel] | None:
    return next(_parts_in(info.annotation), None)


def _parts_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Return the parts of the file inside an annotation, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _parts_in(inner)


def _table(model: type[BaseModel], path: str = "") -> str:
    schema = model.model_json_schema()
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for key, info in model.model_fields.items():
        key = info.alias or key
        spec = schema["properties"][key]
        values = "number or mapping" if key == "failure_cooldown" else _values(spec)
        default = "required" if info.is_required() else f"`{_default(info)}`"
        words = " ".join((info.description or "").split())
        rows.append(f"| `{path}{key}` | {values} | {default} | {words} |".replace("||", "\\|\\|"))
    return "\n".join(rows) + "\n"


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value, default=str)


def _values(spec: dict[str, Any]) -> str:
    if "$ref" in spec or "allOf" in spec:
        return "mapping"
    if "enum" in spec:
        return ", ".join(f"`{value}`" for value in spec["enum"])
    if "anyOf" in spec:
        return " or ".join(dict.fromkeys(_values(choice) for choice in spec["anyOf"]))
    kind = {"array": "list", "object": "mapping", "null": "null"}.get(spec.get("type", ""), spec.get("type", "any"))
    bounds = [
        f"{word} {spec[key]:g}"
        for key, word in (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"))
        if key in spec
    ]
    return " ".join([kind, *bounds])


def _named(kind: str) -> Any:
    """Return the options of a type under the type's own name, wherever their module stands."""
    return create_model(f"{kind.capitalize()}Config", __base__=dialects.get(kind).Options)


def schema() -> dict[str, Any]:
    """Return docs/providers.schema.json."""
    options: dict[str, Any] = {f"{name}_config": (_named(name) | None, None) for name in dialects.names()}
    provider = create_model("Provider", __base__=ProviderEntry, **options)
    _, defined = models_json_schema(
        [(provider, "validation"), (TargetEntry, "validation"), (Settings, "validation")],
        ref_template="#/$defs/{model}",
    )
    defs = defined["$defs"]
    defs["Provider"]["properties"]["type"]["enum"] = list(dialects.names())
    cooldown = defs["Settings"]["properties"]["failure_cooldown"]
    defs["Settings"]["properties"]["failure_cooldown"] = {
        "anyOf": [{"type": "number", "minimum": 0}, {"$ref": "#/$defs/Cooldown"}],
        **{key: value for key, value in cooldown.items() if key in ("default", "description")},
    }
    for part in defs.values():  # ${NAME} may stand for any value
        for spec in part.get("properties", {}).values():
            if spec.get("type") in ("integer", "number", "boolean"):
                plain = {key: spec.pop(key) for key in list(spec) if key not in ("default", "description", "title")}
                spec["anyOf"] = [plain, {"type": "string", "pattern": r"\$\{"}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "providers.yaml of the Claude Code provider balancer",
        "type": "object",
        "additionalProperties": False,
        "required": ["providers", "model_routes"],
        "properties": {
            "providers": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Provider"}},
            "model_routes": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "anyOf": [
                        {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/TargetEntry"}},
                        {"$ref": "#/$defs/TargetEntry"},
                    ]
                },
            },
            "settings": {"$ref": "#/$defs/Settings"},
        },
        "$defs": defs,
    }


def main() -> int:
    """Write both files."""
    (DOCS / "configuration.md").write_text(reference())
    (DOCS / "providers.schema.json").write_text(json.dumps(schema(), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
