"""The paths of batches, files and skills. How they are served stands in `live/test_resources.py`."""

from __future__ import annotations

import pytest

from balancer.model import Operation
from balancer.server.resources import Asked, asked, is_resource

BATCHES, FILES, SKILLS = Operation.BATCHES, Operation.FILES, Operation.SKILLS
PATHS = {
    "/v1/files": Asked(FILES, "/v1/files", None, content=False),
    "/v1/files/": Asked(FILES, "/v1/files", None, content=False),
    "/v1/files/file_1": Asked(FILES, "/v1/files/file_1", "file_1", content=False),
    "/v1/files/file_1/content": Asked(FILES, "/v1/files/file_1/content", "file_1", content=True),
    "/v1/messages/batches": Asked(BATCHES, "/v1/messages/batches", None, content=False),
    "/v1/messages/batches/b/cancel": Asked(BATCHES, "/v1/messages/batches/b/cancel", "b", content=False),
    "/v1/messages/batches/b/results": Asked(BATCHES, "/v1/messages/batches/b/results", "b", content=True),
    "/v1/skills/s/versions/1.2": Asked(SKILLS, "/v1/skills/s/versions/1.2", "s", content=False),
}


@pytest.mark.parametrize(("path", "meant"), PATHS.items())
def test_what_a_path_asks_for(path: str, meant: Asked) -> None:
    assert asked(path) == meant
    assert is_resource(path)


ODD = (
    "/v1/files/../models",
    "/v1/files/.",
    "/v1/files/a/..",
    "/v1/files//a",
    "/v1/files/a b",
    "/v1/files/a?b",
    "/v1/files/a\r\nx",
    "/v1/files/" + "a" * 257,
    "/v1/files/a/b/c/d/e/f",
    "/v1/files/\u00e9",
    "/v1/filesystem",
    "/v1/messages",
    "/v1/messages/batchesx",
)


@pytest.mark.parametrize("path", ODD)
def test_what_is_none_of_these_paths(path: str) -> None:
    assert asked(path) is None


def test_a_path_that_only_begins_alike_is_another() -> None:
    assert not is_resource("/v1/filesystem")
    assert not is_resource("/v1/messages/count_tokens")
