"""Secrets are found in every spelling, and plain words are none."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import provider

from balancer.model import Origin
from balancer.redact.inventory import Inventory, secrets_in, secrets_of, shown_url, undone

KEY = "Zk7canary/with+odd=chars<99>"

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": json.dumps,
    "in JSON with escaped slashes": lambda text: text.replace("/", "\\/"),
    "in JSON for HTML": lambda text: "".join(f"\\u{ord(c):04X}" if c in "<>&+=/" else c for c in text),
    "in JSON, all of it": lambda text: "".join(f"\\u{ord(c):04x}" for c in text),
    "in JSON in JSON": lambda text: json.dumps(json.dumps("".join(f"\\u{ord(c):04x}" for c in text))),
    "in a URL": lambda text: quote(text, safe=""),
    "in a URL, in small letters": lambda text: quote(text, safe="").lower().replace(text.lower(), text),
    "in a URL, all of it": lambda text: "".join(f"%{ord(c):02x}" for c in text),
    "in a URL in a URL": lambda text: quote(quote(text, safe=""), safe=""),
    "in HTML": lambda text: html.escape(text),
    "in HTML by numbers": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "in HTML by hexadecimal numbers": lambda text: "".join(f"&#x{ord(c):x};" for c in text),
    "in base64": lambda text: base64.b64encode(text.encode()).decode(),
    "in base64 behind a name": lambda text: base64.b64encode(f"user:{text}".encode()).decode(),
    "in base64 of URLs": lambda text: base64.urlsafe_b64encode(f"u:{text}".encode()).decode(),
}


@pytest.mark.parametrize("way", [way for way in SPELLINGS if "small letters" not in way])
def test_a_secret_is_found_in_every_spelling(way: str) -> None:
    spelt = SPELLINGS[way](KEY)
    inner = spelt[4:-8] if "base64" in way else spelt.strip('"\\')

    shown = Inventory([KEY]).without(f"bad key {spelt}, go".encode()).decode()

    assert inner not in shown
    assert "[redacted]" in shown
    assert shown.startswith("bad key")
    assert shown.endswith(", go")


@given(
    st.text(alphabet=st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=8, max_size=40), st.data()
)
def test_a_secret_is_found_whichever_of_its_characters_are_escaped(secret: str, data: st.DataObject) -> None:
    ways = [
        lambda c: c if c.isalnum() else f"\\u{ord(c):04x}",
        lambda c: f"\\u{ord(c):04X}",
        lambda c: f"%{ord(c):02X}",
        lambda c: f"&#{ord(c)};",
    ]
    spelt = "".join(data.draw(st.sampled_from(ways))(c) for c in secret)

    shown = Inventory([secret]).without(f"[{spelt}]".encode())

    assert secret.encode() not in undone(shown) or secret in "[redacted]"


def test_a_text_without_a_secret_is_the_very_same_object() -> None:
    text = b'{"message": "50% of \\"it\\" & more"}'
    lines = [(b"request-id", b"req_1"), (b"anthropic-x", b"5%")]

    assert Inventory([KEY]).without(text) is text
    assert Inventory([KEY]).lines(lines) == lines


def test_a_value_of_a_header_that_shows_a_secret_is_blotted_out() -> None:
    lines = [(b"request-id", b"req_" + KEY.encode()), (b"anthropic-debug", quote(KEY, safe="").encode()), (b"a", b"b")]

    assert Inventory([KEY]).lines(lines) == [
        (b"request-id", b"req_[redacted]"),
        (b"anthropic-debug", b"[redacted]"),
        (b"a", b"b"),
    ]


def test_what_is_a_name_in_the_configuration_is_no_secret() -> None:
    assert Inventory(["ollama", "sk-real-key"], public=["ollama-2", "gpt"]).secrets == ("sk-real-key",)


@pytest.mark.parametrize(
    "value",
    [
        "7c1e9f04bb5d4aCANARYteam66",
        "7f3a9c1e-55aa-4b1d-9c3e-canary000001",
        "a-long-passphrase-of-words",
        "tenant-12345678",
    ],
)
def test_a_configured_header_is_a_secret_whatever_its_name(value: str) -> None:
    assert value in secrets_of(provider(secret="", headers=((b"x-team", value.encode()),)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-team", "blue"),
        ("x-team", "blue-and-green"),
        ("x-region", "us-east-1"),
        ("x-day", "2026-11-28"),
        ("x-flag", "1"),
        ("x-build", "rev-20261128"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "context-management-2025-06-27"),
        ("accept", "application/json, text/event-stream"),
        ("user-agent", "our-company-tool/12.5.1"),
        ("http-referer", "https://example.com/of/ours"),
    ],
)
def test_plain_words_of_configured_headers_are_no_secrets(name: str, value: str) -> None:
    assert secrets_of(provider(secret="", headers=((name.encode(), value.encode()),))) == ()


def test_the_credentials_of_a_proxy_are_secrets_also_as_they_go_over_the_wire() -> None:
    asked = provider(secret="", origin=Origin(tls=False, host="h", port=1, proxy="http://svc-user-7:p%40ss@proxy:3128"))

    found = secrets_of(asked)

    assert {"svc-user-7", "p@ss", "p%40ss", "svc-user-7:p@ss"} <= set(found)
    assert base64.b64encode(b"svc-user-7:p@ss").decode() in found


def test_a_key_in_the_path_of_an_address_is_a_secret_and_not_shown() -> None:
    asked = provider(secret="", base_url="https://h/v1/k3y7f3a9c1e55aa4b1d9c3e/gpt-4o-mini-20240718/openai")

    assert secrets_of(asked) == ("k3y7f3a9c1e55aa4b1d9c3e",)
    assert shown_url(asked) == "https://h/v1/[redacted]/gpt-4o-mini-20240718/openai"


def test_what_a_client_came_in_with_is_a_secret_of_its_request() -> None:
    token, basic = "7f3a9c1e-55aa-4b1d-9c3e", base64.b64encode(b"me:longpassword").decode()
    headers = (
        (b"authorization", f"Bearer {token}".encode()),
        (b"x-api-key", b"dummy"),
        (b"cookie", b"a=1; session=0123456789abcdef"),
        (b"x-goog-api-key", b"AIza-0123456789"),
        (b"proxy-authorization", f"Basic {basic}".encode()),
        (b"anthropic-auth-hint", b"harmless-words"),
        (b"user-agent", b"claude-cli/2.0.1"),
    )

    found = set(secrets_in(headers))

    assert {token, "0123456789abcdef", "AIza-0123456789", basic, "longpassword"} <= found
    assert not {"dummy", "harmless-words", "claude-cli/2.0.1", "1"} & found
