"""Models in the Messages API's shape."""

from __future__ import annotations

import json

import pytest
from anthropic.types import ModelInfo

from balancer.dialects.openai.listing import ModelsDecoder


def test_a_list() -> None:
    decoder = ModelsDecoder()
    decoder.feed(b'{"object":"list","data":[{"id":"a","created":0},{"id":"b","name":"Bee"}]}')
    (piece,) = decoder.end()
    listing = json.loads(piece.data)
    models = [ModelInfo.model_validate(model) for model in listing["data"]]

    assert decoder.complete
    assert [(model.id, model.display_name) for model in models] == [("a", "a"), ("b", "Bee")]
    assert (listing["first_id"], listing["last_id"], listing["has_more"]) == ("a", "b", False)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"data":[1]}'])
def test_no_list(body: bytes) -> None:
    decoder = ModelsDecoder()
    decoder.feed(body)
    (piece,) = decoder.end()

    assert piece.error is not None
    assert piece.error.status == 502
