"""The files that come with the program are found in a checkout; tests/test_setup.py installs the wheel and looks there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import reference_pages as reference

from balancer.config import shipped
from balancer.config.reading import parse


def test_the_example_is_found_in_a_checkout_and_is_valid() -> None:
    parse(shipped.read(shipped.EXAMPLE).encode(), shipped.EXAMPLE, {"ANTHROPIC_API_KEY": "sk-ant-0123456789"})


def test_the_schema_is_found_in_a_checkout() -> None:
    assert json.loads(shipped.read(shipped.SCHEMA)) == reference.schema()


def test_an_installation_that_lacks_a_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="install it again"):
        shipped.path(shipped.SCHEMA, tmp_path / "lib" / "python" / "balancer")
