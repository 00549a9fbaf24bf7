"""Certificates that the configuration names: each file looked at, and what they say."""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Any

from balancer.config.checking import Checker
from balancer.config.document import Path
from balancer.config.model import ProviderTlsEntry, ServerTlsEntry
from balancer.config.paths import open_to_others

FILE_MAX_BYTES = 1024 * 1024
"""Bundles of all public authorities are a quarter of that."""

SOON_S = 14 * 86_400
"""A certificate that ends so soon should have been renewed."""

_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, for which `ssl` has no name."""

_REASONS = {
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "EE_KEY_TOO_SMALL": "the key is too short to be safe",
    "CA_MD_TOO_WEAK": "the certificate is signed with a hash that is no longer safe",
    "BAD_DECRYPT": "the key has a passphrase",
}


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What connections of clients are encrypted with."""

    context: ssl.SSLContext = field(repr=False, compare=False)
    digest: str
    """Of what the files hold."""
    cert: FilePath
    names: tuple[str, ...] = ()
    """The hosts and addresses that the certificate is for."""
    expires: float | None = None
    """When it ends, in seconds since the epoch; None: not known."""
    asks_clients: bool = False
    """Clients must show a certificate."""


@dataclass(frozen=True, slots=True)
class ProviderTls:
    """The files for connections to one provider."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    digest: str = ""


class Certificates:
    """Reads the files of `settings.tls`, and of the providers' `tls` and `ca_file`."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    def of_server(self, entry: ServerTlsEntry | None, at: Path) -> ServerTls | None:
        """Return what clients are served with; None: nothing, or something is wrong with it, which was told."""
        if entry is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        digest = self._pair(context, entry, at)
        cert = self._file(entry.cert)
        told = {} if self._checker.problems else _described(context, cert)
        if entry.client_ca is not None:
            digest += self._authorities(context, entry.client_ca, (*at, "client_ca"), "tls.client_ca")
            context.verify_mode = ssl.CERT_REQUIRED
        if self._checker.problems:
            return None
        names = tuple(str(name) for _, name in told.get("subjectAltName", ()))
        expires = ssl.cert_time_to_seconds(told["notAfter"]) if "notAfter" in told else None
        if expires is not None:
            self._look_at_end(expires, (*at, "cert"))
        return ServerTls(context, _joined(digest), cert, names, expires, entry.client_ca is not None)

    def of_provider(self, entry: ProviderTlsEntry | None, ca_file: str | None, at: Path) -> ProviderTls:
        """Return the files for one provider. `ca_file`: its key of that name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca_file is not None:
            digest = self._authorities(context, ca_file, (*at, "ca_file"), "ca_file", FilePath(ca_file))
            if entry is not None and entry.ca is not None:
                self._checker.tell((*at, "tls", "ca"), "the same is said by ca_file; remove one of them")
            if entry is None:
                return ProviderTls(ca_file, digest=digest)
        else:
            digest = ""
        if entry is None:
            return ProviderTls()
        if entry.ca is not None:
            digest += self._authorities(context, entry.ca, (*at, "tls", "ca"), "tls.ca")
            ca_file = str(self._file(entry.ca))
        if entry.cert is None:
            return ProviderTls(ca_file, digest=_joined(digest))
        digest += self._pair(context, entry, (*at, "tls"))
        key = None if entry.key is None else str(self._file(entry.key))
        return ProviderTls(ca_file, str(self._file(entry.cert)), key, _joined(digest))

    def _file(self, name: str) -> FilePath:
        """Return where a file is: relative names begin in the folder of the configuration."""
        return self._checker.document.folder / FilePath(name).expanduser()

    def _pair(self, context: ssl.SSLContext, entry: ServerTlsEntry | ProviderTlsEntry, at: Path) -> str:
        """Load a certificate and its key, and return a digest of both; what is wrong is told."""
        place: Path = (*at, "cert" if entry.key is None else "key")
        cert = self._read(str(entry.cert), (*at, "cert"), "tls.cert")
        key = cert if entry.key is None else self._read(entry.key, place, "tls.key")
        if cert is None or key is None:
            return ""
        cert_file = self._file(str(entry.cert))
        key_file = cert_file if entry.key is None else self._file(entry.key)
        if b"-----BEGIN CERTIFICATE-----" not in cert and b"-----BEGIN TRUSTED CERTIFICATE-----" not in cert:
            swapped = "; cert and key are exchanged" if b"PRIVATE KEY-----" in cert and key != cert else ""
            self._checker.tell((*at, "cert"), f"tls.cert holds no certificate in PEM form{swapped}")
        elif b"PRIVATE KEY-----" not in key:
            said = (
                "tls.cert holds no key, so key is needed" if entry.key is None else "tls.key holds no key in PEM form"
            )
            self._checker.tell(place, said)
        elif b"ENCRYPTED" in key:
            said = "the key has a passphrase, which a server can't type; remove it: openssl pkey -in KEY -out NEW"
            self._checker.tell(place, said)
        elif _is_open_to_others(key_file):
            self._checker.tell(place, "others on this machine can read the key of the certificate; run chmod 600 on it")
        else:
            self._load(context, cert_file, key_file, place)
        return hashlib.sha256(cert).hexdigest() + hashlib.sha256(key).hexdigest()

    def _load(self, context: ssl.SSLContext, cert: FilePath, key: FilePath, at: Path) -> None:
        try:
            context.load_cert_chain(cert, key, password=lambda: b"")
        except ssl.SSLError as error:
            reason = error.reason or "not PEM"
            said = _REASONS.get(reason) or f"certificate and key can't be used: {reason.lower().replace('_', ' ')}"
            self._checker.tell(at, said)
        except OSError as error:
            self._checker.tell(at, f"certificate and key can't be read: {error.strerror}")

    def _authorities(self, context: ssl.SSLContext, name: str, at: Path, key: str, file: FilePath | None = None) -> str:
        """Trust the authorities of a file, and return its digest; what is wrong is told. `key`: what names the file."""
        data = self._read(name, at, key, file)
        if data is None:
            return ""
        try:
            context.load_verify_locations(cafile=file or self._file(name))
        except ssl.SSLError:
            self._checker.tell(at, f"{key} is not a PEM file of certificates")
        except OSError as error:
            self._checker.tell(at, f"{key} can't be read: {error.strerror}")
        else:
            path = file or self._file(name)
            if open_to_others(path.stat().st_mode, path, secret=False):  # they say whom keys are sent to
                self._checker.warn(at, f"others on this machine can change {key}; run chmod go-w on it")
        return hashlib.sha256(data).hexdigest()

    def _read(self, name: str, at: Path, key: str, file: FilePath | None = None) -> bytes | None:
        """Return what a file holds; None: it can't be read, which was told."""
        if "\0" in name:
            self._checker.tell(at, f"{key} is not the name of a file")
            return None
        path = file or self._file(name)
        self._checker.document.files.append(path)
        try:
            if path.is_fifo():
                self._checker.tell(at, f"{key} is not the name of a file")
                return None
            with path.open("rb") as opened:
                data = opened.read(FILE_MAX_BYTES + 1)
        except OSError as error:
            beside = file is None and isinstance(error, FileNotFoundError) and not FilePath(name).is_absolute()
            where = "; its name begins in the folder of this file" if beside else ""
            self._checker.tell(at, f"{key} can't be read: {error.strerror}{where}")
            return None
        except ValueError:
            self._checker.tell(at, f"{key} is not the name of a file")
            return None
        if len(data) > FILE_MAX_BYTES:
            self._checker.tell(at, f"{key} is larger than any file of certificates")
            return None
        self._checker.document.expanded.append(hashlib.sha256(data).hexdigest())
        return data

    def _look_at_end(self, expires: float, at: Path) -> None:
        left_s = expires - time.time()
        day = datetime.fromtimestamp(expires, UTC).date()
        if left_s <= 0:
            self._checker.warn(at, f"the certificate ended on {day}, so clients refuse it; renew it")
        elif left_s < SOON_S:
            self._checker.warn(at, f"the certificate ends on {day}; renew it")


def _joined(digest: str) -> str:
    return hashlib.sha256(digest.encode()).hexdigest()


def _is_open_to_others(file: FilePath) -> bool:
    """Say whether others can read a key, or change it. A group may read it where its owner is somebody else.

    So keys are kept for services that run without rights of their own: owner root, group ssl-cert.
    """
    if os.name != "posix":
        return False
    status = file.stat()
    shared = stat.S_IRWXO | stat.S_IWGRP | (stat.S_IRGRP if status.st_uid == os.geteuid() else 0)
    return bool(status.st_mode & shared & ~(stat.S_IXOTH))


def _described(server: ssl.SSLContext, cert: FilePath) -> Mapping[str, Any]:
    """Return what the server's own certificate says, in the form of `SSLSocket.getpeercert`; empty: it is not known.

    Python reads only certificates that a peer has shown: so one side of a handshake in memory shows it to the other.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(OSError):  # of which ssl.SSLError is one
        client.load_verify_locations(cafile=cert)
        asking = client.wrap_bio(to_client, to_server, server_side=False)
        showing = server.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(3):
            for side in (asking, showing):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
            if asking.cipher() is not None:
                break
        return asking.getpeercert() or {}
    return {}
