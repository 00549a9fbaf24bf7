"""A base URL with a slip in it still leads to the Messages API, and to nothing else."""

from __future__ import annotations

import pytest

from balancer.server.paths import PATH_MAX, canonical

MESSAGES, COUNT, MODELS = "/v1/messages", "/v1/messages/count_tokens", "/v1/models"


@pytest.mark.parametrize("wanted", [MESSAGES, COUNT, MODELS, "/v1/models/claude-opus-5-5"])
@pytest.mark.parametrize("slip", ["{}", "/{}", "//{}", "/v1{}", "/v1/v1{}", "{}/", "{}//", "/v1/{}/"])
def test_what_can_mean_only_one_thing_is_that(wanted: str, slip: str) -> None:
    assert canonical(slip.format(wanted)) == wanted


@pytest.mark.parametrize(
    ("path", "wanted"), [("/messages", MESSAGES), ("/messages/count_tokens/", COUNT), ("/models", MODELS)]
)
def test_the_version_may_be_missing(path: str, wanted: str) -> None:
    assert canonical(path) == wanted


@pytest.mark.parametrize(
    "path",
    ["/", "", "/v1", "/v2/messages", "//admin/drill", "/v1/admin/drill", "//providers/reload", "/v1/messages/batches",
     "/v1/messages/../messages", "/v1/Messages", "/v1/messages%2f", "//metrics", "/" * (PATH_MAX + 1) + "v1/messages"],
)  # fmt: skip
def test_everything_else_is_left_as_it_is(path: str) -> None:
    assert canonical(path) == path
