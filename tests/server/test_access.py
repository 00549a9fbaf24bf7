"""Who may come in: keys, loopback, Host, Origin, and spellings of paths."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.headers import Headers
from balancer.policy.grants import KeyGrant, KeyUse
from balancer.server.access import FORWARDING, HOSTS_MAX, NAMES_MAX, Admitted, Denied, Gate

KEY = "gate-key-of-some-length"
ADMIN = "admin-key-of-some-length"
NAMED = b"named-key-of-some-length"
LOCAL, REMOTE = ("127.0.0.1", 5), ("203.0.113.9", 5)


def gate(
    keys: tuple[str, ...] = (), admin_keys: tuple[str, ...] = (), hosts: tuple[str, ...] = (), **more: Any
) -> Gate:
    return Gate(keys, admin_keys, hosts, b"seed", **more)


def check(
    gate: Gate, path: str = "/v1/messages", method: str = "POST", client: Any = LOCAL, headers: Headers = ()
) -> Admitted | Denied:
    return gate.check(path, method, client, headers)


def status(result: Admitted | Denied) -> int:
    return result.status if isinstance(result, Denied) else 200


CLIENTS = {
    "loopback": (LOCAL, 200),
    "IPv6": (("::1", 1), 200),
    "mapped": (("::ffff:127.0.0.1", 1), 200),
    "remote": (REMOTE, 401),
}


@pytest.mark.parametrize(("client", "expected"), CLIENTS.values(), ids=CLIENTS)
def test_without_keys_only_loopback_is_served(client: Any, expected: int) -> None:
    assert status(check(gate(), client=client)) == expected


ADMIN_ONLY = {
    "a request of this machine": ("/v1/messages", LOCAL, (), 200),
    "a request of another machine": ("/v1/messages", REMOTE, (), 401),
    "one with an admin key": ("/v1/messages", REMOTE, ((b"x-api-key", ADMIN.encode()),), 401),
    "a look at the state": ("/providers", LOCAL, (), 401),
    "a look with the admin key": ("/providers", REMOTE, ((b"x-api-key", ADMIN.encode()),), 200),
}


@pytest.mark.parametrize(("path", "client", "headers", "expected"), ADMIN_ONLY.values(), ids=ADMIN_ONLY)
def test_admin_keys_alone_open_no_hot_path_to_other_machines(
    path: str, client: Any, headers: Headers, expected: int
) -> None:
    assert status(check(gate((), (ADMIN,)), path, client=client, headers=headers)) == expected


def test_a_unix_socket_is_on_this_machine() -> None:
    assert status(check(gate(), client=None)) == 200
    assert status(check(gate((KEY,)), client=None)) == 401


@pytest.mark.parametrize(
    ("keys", "admin_keys", "path", "words"),
    [
        ((), (), "/v1/messages", "has no auth.keys"),
        ((KEY,), (ADMIN,), "/v1/messages", "a key of this balancer is needed"),
        ((KEY,), (), "/providers/reload", "a key of this balancer is needed"),
        ((KEY,), (ADMIN,), "/providers/reload", "an admin key is needed"),
    ],
)
def test_a_refusal_says_what_is_missing(
    keys: tuple[str, ...], admin_keys: tuple[str, ...], path: str, words: str
) -> None:
    denied = check(gate(keys, admin_keys), path, client=REMOTE)

    assert isinstance(denied, Denied)
    assert (denied.status, denied.kind) == (401, "authentication_error")
    assert words in denied.message


CREDENTIALS: dict[str, tuple[Headers, int]] = {
    "none": ((), 401),
    "x-api-key": (((b"x-api-key", KEY.encode()),), 200),
    "bearer": (((b"authorization", b"Bearer " + KEY.encode()),), 200),
    "bearer in small letters": (((b"authorization", b"bearer " + KEY.encode()),), 200),
    "its own header": (((b"x-balancer-key", KEY.encode()),), 200),
    "an admin key": (((b"x-api-key", ADMIN.encode()),), 200),
    "a wrong key": (((b"x-api-key", b"wrong"),), 401),
    "a prefix of the key": (((b"x-api-key", KEY[:-1].encode()),), 401),
    "a wrong and a right one": (((b"x-api-key", b"x"), (b"authorization", b"Bearer " + KEY.encode())), 200),
    "an empty one": (((b"x-api-key", b""),), 401),
}


@pytest.mark.parametrize(("headers", "expected"), CREDENTIALS.values(), ids=CREDENTIALS)
@pytest.mark.parametrize("client", [LOCAL, REMOTE])
def test_with_keys_a_key_is_needed_wherever_one_is(headers: Headers, expected: int, client: Any) -> None:
    assert status(check(gate((KEY,), (ADMIN,)), client=client, headers=headers)) == expected


def test_the_gate_key_goes_no_further_and_other_credentials_do() -> None:
    headers = ((b"x-api-key", KEY.encode()), (b"authorization", b"Bearer own"), (b"x-app", b"cli"))

    admitted = check(gate((KEY,)), headers=headers)

    assert isinstance(admitted, Admitted)
    assert admitted.headers == headers[1:]


def test_clients_are_told_apart_without_naming_their_keys() -> None:
    one, two = (check(gate(), headers=((b"x-api-key", key),)) for key in (b"one", b"two"))

    assert isinstance(one, Admitted)
    assert isinstance(two, Admitted)
    assert one.client != two.client
    assert "one" not in one.client


HOSTS = {
    b"localhost:8080": 200,
    b"127.0.0.1:8080": 200,
    b"[::1]:8080": 200,
    b"192.168.1.5": 200,
    b"[2001:db8::1]": 200,
    b"2001:db8::1": 200,
    b"balancer.lan": 200,
    b"BALANCER.lan:80": 200,
    b"app.localhost:8080": 200,
    b"localhost.": 200,
    b" localhost ": 200,
    b"evil.example": 421,
    b"evil.example:8080": 421,
    b"localhost.evil.example": 421,
    b"notlocalhost": 421,
    b":8080": 421,
    b"a" * 245 + b".localhost": 200,
    b"a" * 246 + b".localhost": 421,
    b"": 421,
}


@pytest.mark.parametrize(
    ("host", "expected"), HOSTS.items(), ids=[f"{host.decode()[:20]} {len(host)}" for host in HOSTS]
)
def test_host(host: bytes, expected: int) -> None:
    assert status(check(gate(hosts=("balancer.lan",)), headers=((b"host", host),))) == expected


HOST = (b"host", b"localhost:8080")
ORIGINS = {
    b"http://localhost:8080": 200, b"HTTP://LocalHost:8080": 200, b"https://dash.example": 200, b"https://dash.example:8443": 403,
    b"https://evil.example": 403, b"null": 403, b"http://[": 403, b"": 403, b"http://localhost": 403, b"http://localhost:3000": 403,
    b"https://localhost:8080": 403, b"http://127.0.0.1:8080": 403, b"http://evil.localhost:8080": 403, b"http://203.0.113.7": 403,
    b"http://localhost:8080.evil.example": 403, b"http://localhost:8080/": 403, b"file://": 403, b"http://": 403,
}  # fmt: skip


@pytest.mark.parametrize("path", ["/providers/reload", "/v1/messages", "/admin/drill"])
@pytest.mark.parametrize(("origin", "expected"), ORIGINS.items(), ids=[origin.decode() or "none" for origin in ORIGINS])
def test_only_pages_of_exactly_the_own_origin_and_listed_ones_are_served(
    origin: bytes, expected: int, path: str
) -> None:
    ours = gate(allowed_origins=("https://dash.example/",))

    for _ in range(2):
        assert status(check(ours, path, headers=(HOST, (b"origin", origin)))) == expected


def test_behind_tls_of_a_proxy_the_configured_name_is_the_own_origin() -> None:
    headers = ((b"host", b"balancer.example"), (b"origin", b"https://balancer.example"), (b"x-api-key", KEY.encode()))

    assert status(check(gate((KEY,), hosts=("balancer.example",)), headers=headers)) == 200
    assert status(check(gate(), headers=((b"host", b"127.0.0.1"), (b"origin", b"https://127.0.0.1")))) == 403


NAVIGATED = ((b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document"))
SITES: dict[str, tuple[str, str, Headers, int]] = {
    "another site": ("/v1/messages", "POST", ((b"sec-fetch-site", b"cross-site"),), 403),
    "another port": ("/providers/reload", "POST", ((b"sec-fetch-site", b"same-site"),), 403),
    "a look from another site": ("/providers", "GET", ((b"sec-fetch-site", b"cross-site"),), 403),
    "a link on another site": ("/providers", "GET", NAVIGATED, 200),
    "a form on another site": ("/providers/reload", "POST", NAVIGATED, 403),
    "a frame on another site": ("/providers", "GET", (*NAVIGATED[:2], (b"sec-fetch-dest", b"iframe")), 403),
    "the own page": ("/v1/messages", "POST", ((b"sec-fetch-site", b"same-origin"),), 200),
    "typed by the user": ("/providers", "GET", ((b"sec-fetch-site", b"none"),), 200),
}


@pytest.mark.parametrize(("path", "method", "headers", "expected"), SITES.values(), ids=SITES)
def test_what_a_browser_says_of_the_page_is_believed(path: str, method: str, headers: Headers, expected: int) -> None:
    assert status(check(gate(), path, method, headers=(HOST, *headers))) == expected


@pytest.mark.parametrize("name", sorted(FORWARDING))
@pytest.mark.parametrize("value", [b"203.0.113.9", b"127.0.0.1", b"for=127.0.0.1", b""])
def test_without_keys_whoever_comes_through_a_proxy_is_not_of_this_machine(name: bytes, value: bytes) -> None:
    ours, keyed = gate(), gate((KEY,))
    assert status(check(ours, headers=(HOST,))) == 200

    denied = check(ours, headers=(HOST, (name, value)))
    assert isinstance(denied, Denied)
    assert (denied.status, denied.kind) == (403, "permission_error")
    assert name.decode() in denied.message
    assert "settings.trusted_proxies" in denied.message
    assert status(check(ours, "/providers/reload", headers=(HOST, (name, value)))) == 403
    assert status(check(ours, "/health", "GET", headers=(HOST, (name, value)))) == 200
    assert status(check(keyed, headers=(HOST, (name, value), (b"x-api-key", KEY.encode())))) == 200


def test_without_keys_http_1_0_may_be_a_proxys() -> None:
    ours = gate()
    for version, expected in (("1.1", 200), ("1.0", 403), ("1.1", 200)):
        assert status(ours.check("/v1/messages", "POST", LOCAL, (HOST,), version=version)) == expected


BEHIND = {
    "a client of this machine": ("127.0.0.1", b"127.0.0.1", 200),
    "a client of another machine": ("127.0.0.1", b"203.0.113.9", 401),
    "a client that claims to be of this machine": ("127.0.0.1", b"127.0.0.1, 203.0.113.9", 401),
    "two trusted proxies": ("127.0.0.1", b"::1, 10.1.2.3", 200),
    "a mapped address": ("::ffff:127.0.0.1", b"[::1]", 200),
    "nothing is told": ("127.0.0.1", b"", 200),
    "no address": ("127.0.0.1", b"unknown", 401),
    "a proxy that is not trusted": ("192.168.1.1", b"127.0.0.1", 403),
}


@pytest.mark.parametrize(("proxy", "told", "expected"), BEHIND.values(), ids=BEHIND)
def test_a_trusted_proxy_tells_who_asks(proxy: str, told: bytes, expected: int) -> None:
    ours = gate(trusted_proxies=("127.0.0.1", "10.0.0.0/8"))

    assert status(check(ours, client=(proxy, 1), headers=(HOST, (b"x-forwarded-for", told)))) == expected


TYPES = {b"application/json": 200, b"application/json; charset=utf-8": 200, b"text/plain": 415, b"": 415}


@pytest.mark.parametrize(("kind", "expected"), TYPES.items(), ids=[kind.decode() or "none" for kind in TYPES])
def test_a_body_for_the_control_endpoints_is_declared_as_json(kind: bytes, expected: int) -> None:
    headers: Headers = (HOST, (b"content-length", b"9"), *(((b"content-type", kind),) if kind else ()))
    known = gate()
    check(known, "/v1/messages", headers=(HOST,))  # a name that was answered before is known

    assert status(check(gate(), "/admin/drill", headers=headers)) == expected
    assert status(check(known, "/admin/drill", headers=headers)) == expected
    assert (
        status(check(gate(), "/admin/drill", headers=(HOST, (b"transfer-encoding", b"chunked"), *headers[2:])))
        == expected
    )
    assert status(check(gate(), "/providers/reload", headers=(HOST, (b"content-length", b"0")))) == 200


def test_without_admin_keys_only_this_machine_changes_anything_and_no_key_of_a_client() -> None:
    keyed, key = gate((KEY,)), (b"x-api-key", KEY.encode())
    for path in ("/providers/reload", "/admin/drill", "/admin/wake"):
        assert status(check(keyed, path, headers=(HOST,))) == 200
        assert status(check(keyed, path, headers=(HOST, key))) == 403
        assert status(check(keyed, path, headers=(HOST, (b"x-api-key", b"wrong")))) == 401
        assert status(check(keyed, path, client=REMOTE, headers=(HOST,))) == 401
        assert status(check(keyed, path, headers=(HOST, (b"x-real-ip", b"127.0.0.1")))) == 401
    assert status(check(keyed, "/api/event_logging/batch", headers=(HOST, key))) == 200


def test_a_host_that_is_ours_is_ours_again_and_one_that_is_not_is_not() -> None:
    """What was found out about a name is remembered, within a bound."""
    ours = gate()
    for number in range(2 * HOSTS_MAX):
        for _ in range(2):
            assert status(check(ours, headers=((b"host", b"localhost:%d" % number),))) == 200
            assert status(check(ours, headers=((b"host", b"evil-%d.example" % number),))) == 421

    assert len(ours._hosts) == HOSTS_MAX


VALUES = {
    b"host": [b"localhost", b"127.0.0.1:80", b"evil.example"],
    b"origin": [b"http://localhost", b"https://evil.example"],
    b"x-forwarded-for": [b"203.0.113.9"],
    b"sec-fetch-site": [b"same-origin", b"cross-site"],
    b"x-api-key": [b"own", KEY.encode(), ADMIN.encode(), b""],
    b"authorization": [b"Bearer own", b"Bearer " + KEY.encode(), b"own"],
    b"x-balancer-key": [b"wrong", KEY.encode()],
    b"x-a": [b"1", b"2"],
}
LINES = [(name, value) for name, values in VALUES.items() for value in values]


@given(
    st.lists(st.sampled_from(LINES), max_size=6).map(tuple),
    st.sampled_from([LOCAL, REMOTE, ("::1", 1), None]),
    st.sampled_from([(), (KEY,)]),
    st.sampled_from([(), (ADMIN,)]),
    st.sampled_from(
        [("/v1/messages", "POST"), ("/providers/reload", "POST"), ("/providers", "GET"), ("/health", "GET")]
    ),
)
def test_what_is_remembered_changes_no_answer(
    headers: Headers, client: Any, keys: tuple[str, ...], admin_keys: tuple[str, ...], asked: tuple[str, str]
) -> None:
    """Hosts and clients that were seen before take a short way: it has to come to the same."""
    fresh, used = gate(keys, admin_keys), gate(keys, admin_keys)
    for line in LINES:
        for host in VALUES[b"host"]:
            check(used, headers=((b"host", host), line))
    answers = [one.check(*asked, client, headers) for one in (fresh, used)]

    assert answers[0] == answers[1]
    if isinstance(answers[0], Admitted) and asked[0] != "/health":
        first: dict[bytes, bytes] = {}
        for name, value in answers[0].headers:
            first.setdefault(name, value)
        assert answers[0].first == first
        assert b"x-balancer-key" not in first
        shown = {value.removeprefix(b"Bearer ") for _, value in answers[0].headers}
        assert shown.isdisjoint(key.encode() for key in (*keys, *admin_keys))


@pytest.mark.parametrize(("path", "method"), [("/v1/messages", "POST"), ("/providers/reload", "POST"), ("/x", "GET")])
def test_no_key_of_the_balancer_goes_on_whatever_let_the_request_in(path: str, method: str) -> None:
    named = {hashlib.sha256(NAMED).digest(): KeyGrant("team", KeyUse(), expires=1.0)}
    ours = gate((KEY,), (ADMIN,), named=named)
    shown = ((b"x-api-key", ADMIN.encode()), (b"authorization", b"Bearer " + KEY.encode()), (b"x-a", NAMED))

    for headers in (shown, ((b"x-api-key", ADMIN.encode()), (b"authorization", NAMED), (b"x-a", NAMED))):
        admitted = check(ours, path, method, headers=(HOST, *headers))

        assert isinstance(admitted, Admitted)
        assert admitted.headers == (HOST, (b"x-a", NAMED))


def keyed(**more: Any) -> Gate:
    """Return a gate with one named key, whose wall clock shows 100."""
    grant = KeyGrant("team", KeyUse(), **more)
    return gate(named={hashlib.sha256(NAMED).digest(): grant}, wall=lambda: 100.0)


ASKED = {"messages": ("/v1/messages", "POST"), "read": ("/providers", "GET"), "admin": ("/admin/wake", "POST")}


@pytest.mark.parametrize("held", [*ASKED, ""])
@pytest.mark.parametrize("needed", ASKED)
def test_a_named_key_may_do_what_its_rights_name_and_nothing_else(held: str, needed: str) -> None:
    ours = keyed(rights=frozenset({held}))
    path, method = ASKED[needed]

    answer = check(ours, path, method, REMOTE, (HOST, (b"x-api-key", NAMED)))

    assert status(answer) == (200 if held == needed else 403)
    if isinstance(answer, Denied):
        assert (answer.kind, answer.name) == ("permission_error", "team")
        assert f"needs the right {needed}" in answer.message
    else:
        assert answer.grant is not None
        assert answer.grant.name == "team"
    assert status(check(ours, path, method, REMOTE, (HOST,))) == 401
    assert status(check(ours, path, method, REMOTE, (HOST, (b"x-api-key", b"wrong")))) == 401


def test_whoever_only_reads_sees_the_models_too() -> None:
    headers = (HOST, (b"x-api-key", NAMED))
    for rights, expected in (("read", 200), ("messages", 200), ("admin", 403)):
        assert status(check(keyed(rights=frozenset({rights})), "/v1/models", "GET", REMOTE, headers)) == expected


def test_only_who_has_an_expired_key_learns_that_it_has() -> None:
    for expires, expected in ((99.0, 401), (101.0, 200)):
        ours = keyed(expires=expires)
        answer = check(ours, headers=(HOST, (b"authorization", b"Bearer " + NAMED)))
        assert status(answer) == expected
    late = check(keyed(expires=99.0), headers=(HOST, (b"x-api-key", NAMED)))
    other = check(keyed(expires=99.0), headers=(HOST, (b"x-api-key", b"wrong")))

    assert isinstance(late, Denied)
    assert "'team' has expired (1970-01-01 00:01:39 UTC)" in late.message
    assert isinstance(other, Denied)
    assert "expired" not in other.message
    assert other.key == hashlib.sha256(b"wrong").hexdigest()[:8]


def test_a_named_key_with_the_admin_right_takes_it_from_whoever_is_on_this_machine() -> None:
    for rights, expected in (({"messages"}, 200), ({"messages", "admin"}, 401)):
        assert status(check(keyed(rights=frozenset(rights)), "/admin/wake", headers=(HOST,))) == expected


def test_a_client_has_the_same_name_on_every_way() -> None:
    """The short way is for requests that nothing has to be found out about any more."""
    ours, shown = gate(), ((b"host", b"localhost"), (b"x-api-key", b"k"), (b"authorization", b"Bearer b"))
    first = check(ours, headers=shown)
    names = {check(ours, headers=shown).client for _ in range(3)}  # type: ignore[union-attr]
    twice = check(ours, headers=(*shown, (b"x-a", b"1"), (b"x-a", b"2")))

    assert isinstance(first, Admitted)
    assert isinstance(twice, Admitted)
    assert names == {first.client} == {twice.client}


def test_names_of_clients_are_remembered_within_a_bound() -> None:
    ours = gate()
    names = []
    for number in (*range(2 * NAMES_MAX), *range(2 * NAMES_MAX)):
        admitted = check(ours, headers=((b"host", b"localhost"), (b"x-api-key", b"%d" % number)))
        assert isinstance(admitted, Admitted)
        names.append(admitted.client)

    assert names[: 2 * NAMES_MAX] == names[2 * NAMES_MAX :]
    assert len(set(names)) == 2 * NAMES_MAX
    assert len(ours._names) == NAMES_MAX


def test_a_client_that_shows_nothing_has_no_name() -> None:
    for headers in ((), ((b"host", b"localhost"),), ((b"host", b"localhost"), (b"x-api-key", b""))):
        ours = gate()
        for _ in range(2):
            admitted = check(ours, headers=headers)
            assert isinstance(admitted, Admitted)
            assert admitted.client == ""


SPELLINGS = [
    "//v1/messages",
    "/v1/../admin",
    "/health/",
    "/HEALTH",
    "/health;x",
    "/metrics",
    "//dashboard",
    "/dashboard/",
    "/dashboard/app.js/../../providers",
    "/dashboard/x.js",
    "/providers",
    "/x",
]


@pytest.mark.parametrize("path", SPELLINGS)
def test_no_spelling_of_a_path_is_open(path: str) -> None:
    assert status(check(gate((KEY,)), path, "GET")) == 401


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/api/hello", "/dashboard", "/dashboard/app.js"])
def test_probes_and_the_page_without_its_numbers_are_open(path: str) -> None:
    assert status(check(gate((KEY,)), path, "HEAD", client=REMOTE)) == 200
    assert status(check(gate((KEY,)), path, "POST", client=REMOTE)) == 401


def test_changes_need_an_admin_key_where_there_is_one() -> None:
    both = gate((KEY,), (ADMIN,))

    assert status(check(both, "/providers/reload", headers=((b"x-api-key", KEY.encode()),))) == 401
    assert status(check(both, "/providers/reload", headers=((b"x-api-key", ADMIN.encode()),))) == 200
    assert status(check(both, "/providers", "GET", headers=((b"x-api-key", KEY.encode()),))) == 200


def test_two_hosts_are_one_too_many() -> None:
    headers = ((b"host", b"localhost"), (b"x-a", b"1"), (b"host", b"evil.example"))

    assert status(check(gate(), headers=headers)) == 400
    assert status(check(gate(), headers=((b"accept", b"a"), (b"accept", b"b"), (b"host", b"localhost")))) == 200


@pytest.mark.parametrize(
    ("keys", "name"), [((), b"x-balancer-key"), ((KEY,), b"x-balancer-key"), ((KEY,), b"x-api-key")]
)
def test_the_first_values_are_in_the_order_of_the_headers_though_a_key_stood_there_twice(
    keys: tuple[str, ...], name: bytes
) -> None:
    """What a provider may see of the headers is told by their names, in this order."""
    twice = (name, KEY.encode())
    others = ((b"host", b"localhost"), (b"authorization", b"Bearer own"), (b"x-a", b"1"))

    admitted = check(gate(keys), headers=(twice, *others, twice))

    assert isinstance(admitted, Admitted)
    assert (admitted.headers, tuple(admitted.first.items())) == (others, others)
