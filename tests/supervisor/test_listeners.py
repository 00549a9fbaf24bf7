"""What workers listen on."""

from __future__ import annotations

import socket

import pytest

from balancer.supervisor.listeners import Listeners


def test_workers_have_a_socket_each_over_which_connections_are_spread() -> None:
    with Listeners.opened("127.0.0.1", 0, 4, reuse_port=False) as listeners:
        assert len({listeners.own(number) for number in (1, 2, 3, 4)}) == 4
        clients = [socket.create_connection(("127.0.0.1", listeners.port)) for _ in range(200)]
        copies = listeners.copies()
        taken = []
        for sock in copies:
            sock.setblocking(False)
            count = 0
            while True:
                try:
                    sock.accept()[0].close()
                except BlockingIOError:
                    break
                count += 1
            taken.append(count)
        for sock in (*clients, *copies):
            sock.close()

    assert sum(taken) == 200
    assert min(taken) >= 25, "half of even"
    assert max(taken) <= 100, "twice of even"


@pytest.mark.parametrize("workers", [1, 3])
def test_a_port_that_another_has_is_refused_unless_both_share_it(workers: int) -> None:
    with Listeners.opened("127.0.0.1", 0, workers, reuse_port=True) as first:
        with pytest.raises(OSError):
            Listeners.opened("127.0.0.1", first.port, 2, reuse_port=False)
        with Listeners.opened("127.0.0.1", first.port, 2, reuse_port=True) as second:
            assert second.port == first.port
    with Listeners.opened("127.0.0.1", 0, workers, reuse_port=False) as first, pytest.raises(OSError):
        Listeners.opened("127.0.0.1", first.port, 1, reuse_port=False)


def test_the_address_of_sockets_that_were_handed_over_is_the_one_that_others_reach() -> None:
    inside, outside = socket.create_server(("127.0.0.1", 0)), socket.create_server(("0.0.0.0", 0))
    with Listeners([inside, outside], each=False) as listeners:
        assert listeners.host == "0.0.0.0"
        assert listeners.own(1) is None
