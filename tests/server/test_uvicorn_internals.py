"""What the balancer takes for granted of uvicorn is there."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest
from client_side import Front, chunked
from uvicorn.supervisors import multiprocess
from virtual_time import in_virtual_time

from balancer.server import uvicorn_internals as internals
from balancer.server.exchange import Exchange

SOURCE = Path(__file__).resolve().parents[2] / "src" / "balancer"


@pytest.mark.parametrize("name", sorted(internals.PROTOCOL_METHODS))
def test_the_protocol_has_the_method(name: str) -> None:
    assert callable(getattr(internals.HttpToolsProtocol, name))


@in_virtual_time
async def test_a_connection_and_what_it_answers_have_the_attributes() -> None:
    wire = Front().connect(plain=True)
    wire.says(chunked()[:-9])
    connection, cycle = wire.connection, wire.connection.cycle

    assert {name for name in internals.PROTOCOL_ATTRIBUTES if not hasattr(connection, name)} == set()
    assert {name for name in internals.CYCLE_ATTRIBUTES if not hasattr(cycle, name)} == set()
    assert {name for name in internals.EXCHANGE_ATTRIBUTES if not hasattr(cycle, name)} == set()
    wire.leaves()
    await asyncio.sleep(0)


def test_an_exchange_has_what_uvicorn_asks_of_a_cycle() -> None:
    assert {name for name in internals.EXCHANGE_ATTRIBUTES if not hasattr(Exchange, name)} == set()


def test_the_list_is_whole() -> None:
    """What `http11` uses of its base, and does not define itself, stands in the list."""
    tree = ast.parse((SOURCE / "server" / "http11.py").read_text())
    connection = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "ClientConnection")
    used: set[str] = set()
    own: set[str] = set()
    for node in ast.walk(connection):
        if isinstance(node, ast.FunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "super()"):
            (own if isinstance(node.ctx, ast.Store) else used).add(node.attr)
    methods = {name for name in used if hasattr(internals.HttpToolsProtocol, name)}

    assert methods - {"__init__", "on_header"} <= internals.PROTOCOL_METHODS
    assert used - own <= internals.PROTOCOL_METHODS | internals.PROTOCOL_ATTRIBUTES | {"__init__"}


def test_nothing_else_imports_them() -> None:
    importing = {
        str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if "uvicorn.protocols" in path.read_text()
    }

    assert importing == {"server/uvicorn_internals.py"}


def test_a_worker_keeps_its_server_where_uvicorn_does() -> None:
    assert "_server" in multiprocess.Process.__init__.__code__.co_names


def test_another_server_has_no_connection_to_show() -> None:
    async def send(message: object) -> None:
        return

    assert internals.connection_of(send) == (None, None)
