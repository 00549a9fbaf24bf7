"""An address that is shown is one that is answered."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from balancer.commands import addresses
from balancer.config import Settings, parse
from balancer.config.tls import ServerTls

URLS = {
    "127.0.0.1": "http://127.0.0.1:8080",
    "0.0.0.0": "http://127.0.0.1:8080",
    "": "http://127.0.0.1:8080",
    "::": "http://[::1]:8080",
    "::1": "http://[::1]:8080",
    "box.local": "http://box.local:8080",
}


@pytest.mark.parametrize(("host", "url"), URLS.items())
def test_the_address_for_clients(host: str, url: str) -> None:
    assert addresses.url(host, 8080) == url


def test_a_name_that_is_let_in_is_shown() -> None:
    assert addresses.reached(Settings(host="localhost"), 9) == "http://localhost:9"
    named = Settings(host="box.example", allowed_hosts=("box.example",))
    assert addresses.reached(named) == "http://box.example:8080"


def test_a_name_that_is_not_let_in_is_shown_as_a_number() -> None:
    name = socket.gethostname()
    shown = addresses.reached(Settings(host=name))

    try:
        number = socket.getaddrinfo(name, 8080)[0][4][0]
    except OSError:
        number = name
    assert shown == addresses.url(str(number), 8080)


USABLE = {
    "loopback": Settings(host="127.0.0.1"),
    "every address": Settings(host="0.0.0.0"),
    "IPv6": Settings(host="::1"),
    "the network, with keys": Settings(host="192.0.2.7", auth={"keys": ["a-key-of-ours"]}),
}


@pytest.mark.parametrize("settings", USABLE.values(), ids=USABLE)
def test_somebody_can_use_it(settings: Settings) -> None:
    assert addresses.unusable(settings) is None


def test_an_address_of_the_network_without_keys_is_of_use_to_nobody() -> None:
    assert "nobody can use it on 192.0.2.7" in (addresses.unusable(Settings(host="192.0.2.7")) or "")


NAMED = {
    "its own address": (("127.0.0.1", "box.example"), "127.0.0.1", "127.0.0.1"),
    "in another way of writing": (("0:0:0:0:0:0:0:1",), "::1", "[::1]"),
    "localhost": (("box.example", "localhost"), "127.0.0.1", "localhost"),
    "the first name": (("*.example", "box.example", "other.example"), "127.0.0.1", "box.example"),
    "no name that could be called": (("*.example",), "127.0.0.1", "127.0.0.1"),
    "no name at all": ((), "127.0.0.1", "127.0.0.1"),
}


@pytest.mark.parametrize("case", NAMED)
def test_clients_call_it_by_a_name_of_its_certificate(case: str) -> None:
    names, host, shown = NAMED[case]
    config = parse("providers: [{name: a, type: simulated}]\nmodel_routes: {'*': [{provider: a}]}", "p", {})
    tls = ServerTls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "d", Path("cert.pem"), names)
    settings = Settings.model_validate({"host": host, "tls": {"cert": "cert.pem"}})

    assert addresses.for_clients(replace(config, settings=settings, tls=tls), 9) == f"https://{shown}:9"
