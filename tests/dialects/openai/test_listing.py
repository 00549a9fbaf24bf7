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


NO_LISTS = {
    "nothing": (b"", "nothing"),
    "a page": (b"<html>", "an HTML page"),
    "no data": (b"{}", "JSON"),
    "no models": (b'{"data":[1]}', "JSON"),
    "a model without an id": (b'{"data":[{"name":"a"}]}', "JSON"),
    "bytes": (b"\xff", "text"),
}


@pytest.mark.parametrize(("body", "sort"), NO_LISTS.values(), ids=NO_LISTS)
def test_no_list(body: bytes, sort: str) -> None:
    decoder = ModelsDecoder()
    decoder.feed(body)
    (piece,) = decoder.end()

    assert piece.error is not None
    assert (piece.error.status, piece.error.message) == (502, f"{sort} where a list of models was expected")
    assert not decoder.complete
    assert decoder.end() == [], "it is told once"


def test_a_list_up_to_the_limit_is_read_and_no_longer_one() -> None:
    body = b'{"data":[{"id":"a"}]}'
    decoder = ModelsDecoder(len(body))
    assert decoder.feed(body) == []
    assert decoder.end()[0].error is None

    decoder = ModelsDecoder(len(body) - 1)
    (piece,) = decoder.feed(body)
    assert piece.error is not None
    assert piece.error.message == f"an answer of more than {len(body) - 1} bytes"
    assert decoder.feed(body) == decoder.end() == []
