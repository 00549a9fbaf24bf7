"""`balancer key new` prints a key that the balancer itself calls good."""

from __future__ import annotations

import pytest

from balancer.cli import main
from balancer.config.credentials import gate_oddity


def test_every_key_is_another_one_and_good(capsys: pytest.CaptureFixture[str]) -> None:
    keys = set()
    for _ in range(3):
        assert main(["key", "new"]) == 0
        out, err = capsys.readouterr()
        keys.add(out.strip())
        assert "auth: {keys:" in err
        assert out.strip() not in err

    assert len(keys) == 3
    assert [gate_oddity(key) for key in keys] == [None] * 3
