"""`balancer key new` prints a key that the balancer itself calls good."""

from __future__ import annotations

import hashlib

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


def test_its_hash_is_printed_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "new", "--hash"]) == 0
    out, err = capsys.readouterr()
    key, hashed = out.split()

    assert hashlib.sha256(key.encode()).hexdigest() == hashed
    assert "key_sha256" in err
