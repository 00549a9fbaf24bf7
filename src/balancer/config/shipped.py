"""Files that come with the program: the example configuration and the schema for editors.

In a checkout they stand where people look for them (the root, `docs/`); an installed package carries
copies of them inside (`pyproject.toml`, `force-include`).
"""

from __future__ import annotations

from pathlib import Path

EXAMPLE = "providers.example.yaml"
SCHEMA = "providers.schema.json"

_PACKAGE = Path(__file__).resolve().parents[1]


def path(name: str, package: Path = _PACKAGE) -> Path:
    """Return where the file `name` (`EXAMPLE`, `SCHEMA`) is. Raises `FileNotFoundError` if the installation lacks it.

    `package` is the folder of the installed package.
    """
    checkout = package.parents[1]
    places = (package / "shipped" / name, checkout / name, checkout / "docs" / name)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{name} is missing from this installation of the balancer: install it again")
    return found


def read(name: str) -> str:
    """Return the text of the file `name`. Raises `FileNotFoundError` if the installation lacks it."""
    return path(name).read_text(encoding="utf-8")
