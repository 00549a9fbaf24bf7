"""Certificates that the configuration names: real ones, of an authority of the test's own."""

from __future__ import annotations

import datetime
import os
import ssl
from pathlib import Path

import pytest
import trustme

from balancer.config import Config, ConfigError, changes, load

AUTHORITY = trustme.CA()

CONFIG = """\
providers:
  - name: a
    type: anthropic
    base_url: https://api.example.com
    auth_value: none
    tls: {provider}
model_routes: {{"*": [{{provider: a}}]}}
settings:
  tls: {server}
"""
SERVER, PROVIDER = "{cert: cert.pem, key: key.pem}", "{cert: cert.pem, key: key.pem, ca: ca.pem}"


def put(
    folder: Path, *, names: tuple[str, ...] = ("box.example", "127.0.0.1"), ends: datetime.datetime | None = None
) -> None:
    issued = AUTHORITY.issue_cert(*names, not_after=ends)
    files = {
        "cert.pem": b"".join(pem.bytes() for pem in issued.cert_chain_pems),
        "key.pem": issued.private_key_pem.bytes(),
        "ca.pem": AUTHORITY.cert_pem.bytes(),
        "both.pem": issued.private_key_and_cert_chain_pem.bytes(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)


def read(folder: Path, server: str = "null", provider: str = "null") -> Config:
    path = folder / "providers.yaml"
    path.write_text(CONFIG.format(server=server, provider=provider))
    return load(path, {})


def problems(folder: Path, server: str = "null", provider: str = "null") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, server, provider)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path)
    return tmp_path


def test_what_clients_are_served_with(folder: Path) -> None:
    config = read(folder, SERVER)

    assert config.tls is not None
    assert set(config.tls.names) == {"box.example", "127.0.0.1"}
    assert config.tls.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert config.tls.expires is not None
    assert not config.tls.asks_clients
    assert config.warnings == ()
    assert set(config.watched) == {folder / "cert.pem", folder / "key.pem"}


@pytest.mark.parametrize("server", ["{cert: both.pem}", f"{{cert: {'{folder}'}/cert.pem, key: {'{folder}'}/key.pem}}"])
def test_a_key_may_stand_in_the_file_of_the_certificate_and_a_name_may_be_whole(folder: Path, server: str) -> None:
    assert read(folder, server.replace("{folder}", str(folder))).tls is not None


def test_clients_are_asked_for_a_certificate(folder: Path) -> None:
    config = read(folder, "{cert: cert.pem, key: key.pem, client_ca: ca.pem}")

    assert config.tls is not None
    assert config.tls.asks_clients
    assert config.tls.context.verify_mode is ssl.CERT_REQUIRED
    assert set(config.tls.names) == {"box.example", "127.0.0.1"}


def test_a_provider_has_certificates_and_an_authority_of_its_own(folder: Path) -> None:
    origin = read(folder, provider=PROVIDER).providers["a"].origin

    assert (origin.ca_file, origin.cert_file, origin.key_file) == tuple(
        str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem")
    )
    assert origin.tls_digest
    assert "key.pem" not in repr(origin)


def test_other_certificates_are_another_configuration(folder: Path) -> None:
    old = read(folder, SERVER, PROVIDER)
    same = read(folder, SERVER, PROVIDER)
    put(folder)
    new = read(folder, SERVER, PROVIDER)

    assert (old.digest, old.providers) == (same.digest, same.providers)
    assert list(changes(old, same)) == []
    assert new.digest != old.digest
    assert new.providers["a"].origin != old.providers["a"].origin
    assert list(changes(old, new)) == ["provider 'a' changed", "settings.tls: other certificates"]


def test_what_is_wrong_with_an_authority_in_ca_file_is_told_too(folder: Path) -> None:
    (folder / "text").write_text("hello")
    path = folder / "providers.yaml"
    for file, said in (
        (folder / "text", "is not a PEM file of certificates"),
        (folder / "no", "can't be read: No such file"),
    ):
        path.write_text(CONFIG.format(server="null", provider="null").replace("    tls: null", f"    ca_file: {file}"))
        with pytest.raises(ConfigError, match=said):
            load(path, {})


WRONG = {
    "no certificate": ("{cert: no.pem, key: key.pem}", "tls.cert can't be read: No such file or directory; its name begins in"),
    "no key": ("{cert: cert.pem, key: no.pem}", "tls.key can't be read: No such file or directory"),
    "a folder": ("{cert: ., key: key.pem}", "tls.cert can't be read: Is a directory"),
    "exchanged": ("{cert: key.pem, key: cert.pem}", "tls.cert holds no certificate in PEM form; cert and key are exchanged"),
    "a key that stands nowhere": ("{cert: cert.pem}", "tls.cert holds no key, so key is needed"),
    "no key in its file": ("{cert: cert.pem, key: ca.pem}", "tls.key holds no key in PEM form"),
    "another's key": ("{cert: cert.pem, key: other.pem}", "the key does not belong to the certificate"),
    "with a passphrase": ("{cert: cert.pem, key: locked.pem}", "the key has a passphrase, which a server can't type"),
    "readable by others": ("{cert: cert.pem, key: open.pem}", "others on this machine can read the key of the certificate"),
    "readable by others, in one file": ("{cert: open-both.pem}", "others on this machine can read the key"),
    "damaged": ("{cert: damaged.pem, key: key.pem}", "certificate and key can't be used"),
    "an unknown key": ("{cert: cert.pem, key: key.pem, cafile: x}", "unknown key 'cafile'"),
    "not a name of a file": ('{cert: "a\\0b", key: key.pem}', "tls.cert is not the name of a file"),
}  # fmt: skip


@pytest.mark.parametrize("where", ["server", "provider"])
@pytest.mark.parametrize("case", WRONG)
def test_a_pair_that_can_not_be_used_is_told_with_place_and_remedy(folder: Path, case: str, where: str) -> None:
    given, said = WRONG[case]
    key = (folder / "key.pem").read_bytes()
    (folder / "other.pem").write_bytes(AUTHORITY.issue_cert("x.example").private_key_pem.bytes())
    (folder / "locked.pem").write_bytes(
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    (folder / "open.pem").write_bytes(key)
    (folder / "open-both.pem").write_bytes((folder / "both.pem").read_bytes())
    (folder / "damaged.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for name in ("other.pem", "locked.pem"):
        (folder / name).chmod(0o600)
    for name in ("open.pem", "open-both.pem"):
        (folder / name).chmod(0o644)

    told = problems(folder, **{where: given})

    assert len(told) == 1
    assert said in told[0]
    assert told[0].startswith("providers.yaml:9: " if where == "server" else "providers.yaml:6: ")


def test_a_group_may_read_a_key_that_is_another_users(folder: Path) -> None:
    (folder / "key.pem").chmod(0o640)
    assert "can read the key" in problems(folder, SERVER)[0]
    if os.geteuid() == 0:
        os.chown(folder / "key.pem", 65534, 0)
        assert read(folder, SERVER).tls is not None


def test_what_is_wrong_with_the_authority_for_clients_is_told(folder: Path) -> None:
    told = problems(folder, "{cert: cert.pem, key: key.pem, client_ca: key.pem}")

    assert told == ["providers.yaml:9: tls.client_ca is not a PEM file of certificates"]


def test_two_authorities_for_one_provider_are_one_too_many(folder: Path) -> None:
    path = folder / "providers.yaml"
    text = CONFIG.format(server="null", provider="{ca: ca.pem}")
    path.write_text(text.replace("    tls:", f"    ca_file: {folder}/ca.pem\n    tls:"))
    with pytest.raises(ConfigError, match="the same is said by ca_file"):
        load(path, {})


def test_a_provider_that_is_off_needs_no_files(folder: Path) -> None:
    path = folder / "providers.yaml"
    text = CONFIG.format(server="null", provider="{ca: no.pem}").replace("    tls:", "    enabled: false\n    tls:")
    path.write_text(
        text.replace("model_routes", "  - {name: b, type: simulated}\nmodel_routes").replace("r: a}", "r: b}")
    )

    assert load(path, {}).providers["a"].enabled is False


@pytest.mark.parametrize(("days", "said"), [(-1, "the certificate ended on"), (3, "the certificate ends on")])
def test_a_certificate_that_ends_is_warned_of(tmp_path: Path, days: int, said: str) -> None:
    put(tmp_path, ends=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days))

    warnings = [str(warning) for warning in read(tmp_path, SERVER).warnings]

    assert len(warnings) == 1
    assert warnings[0].startswith(f"providers.yaml:9: warning: {said}")


def test_files_are_named_also_where_the_configuration_can_not_be_used(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(folder, "{cert: cert.pem, key: ca.pem}")

    assert set(caught.value.watched) == {folder / "cert.pem", folder / "ca.pem"}
