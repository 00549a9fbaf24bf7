"""A server's list of models in the Messages API's shape."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from balancer.model import Fault, Piece
from balancer.wire.decoder import BaseDecoder
from balancer.wire.errors import broken, sort_of
from balancer.wire.whole import Whole

MAX_LISTING_BYTES = 16 * 1024 * 1024


class _Model(msgspec.Struct):
    id: str
    name: Any = None
    created: Any = None


class _Listing(msgspec.Struct):
    data: list[_Model]


class ModelsDecoder(BaseDecoder):
    """Reads the answer to `GET /models` whole."""

    def __init__(self, max_bytes: int = MAX_LISTING_BYTES) -> None:
        self._whole: Whole | None = Whole(max_bytes)
        """None: the answer is over."""

    def feed(self, data: bytes) -> list[Piece]:
        fault = self._whole.add(data) if self._whole else None
        return [self._fail(fault)] if fault else []

    def end(self) -> list[Piece]:
        if self._whole is None:
            return []
        body = self._whole.joined()
        try:
            models = msgspec.json.decode(body, type=_Listing).data
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return [self._fail(broken(f"{sort_of(body)} where a list of models was expected"))]
        self._whole, self.complete = None, True
        return [Piece(_encoded(models), has_content=True)]

    def _fail(self, fault: Fault) -> Piece:
        self._whole = None
        return Piece(b"", error=fault)


def _encoded(models: list[_Model]) -> bytes:
    data = [
        {
            "type": "model",
            "id": model.id,
            "display_name": model.name if isinstance(model.name, str) else model.id,
            "created_at": _date(model.created),
            "lifecycle": "active",
        }
        for model in models
    ]
    ends = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return msgspec.json.encode({"data": data, "has_more": False, "first_id": ends[0], "last_id": ends[1]})


def _date(created: Any) -> str:
    seconds = created if isinstance(created, int | float) and 0 <= created < 4e9 else 0
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
