"""Passwords and certificates for a demonstration on one machine: what ``docker-compose.yml`` starts with.

A deployment takes its own from where the ministry keeps secrets. Everything here is random, made once and kept; the
authority's key is kept nowhere, so certificates are renewed all together.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = timedelta(days=825)
"""Of a certificate; what some clients refuse beyond it."""
RENEWED = timedelta(days=30)
"""How long before their end certificates are made anew."""
CA, CERT, KEY = "ca.pem", "client.pem", "client.key"
BROKER = "kafka"
BROKER_STORE = "server.pem"
"""The broker's key and certificate in one file, as Kafka wants its PEM key store."""
OPERATIONS = "operations"
"""Whoever makes tables, topics and rights."""


@dataclass
class Made:
    """What a call has written, by name below the folder."""

    passwords: list[str] = field(default_factory=list)
    certificates: list[str] = field(default_factory=list)


def make(folder: Path, services: Sequence[str], *, postgres: str = "postgres:5432") -> Made:
    """Make what is missing: a folder for each service, the observer, operations and the broker.

    Services get the URL of their database (at the server ``postgres``), a key for cursors and a client certificate;
    operations the owner's URL and password. What is there stays; certificates near their end are made anew, all of
    them. Raises ``OSError`` where the folder cannot be written.
    """
    made = Made()
    folder.mkdir(parents=True, exist_ok=True)
    owner = _password(folder, OPERATIONS, "postgres_password", made)
    _keep(folder, OPERATIONS, "maru_database_admin", f"postgresql://postgres:{owner}@{postgres}/postgres", made)
    for service in services:
        if not (folder / service / "maru_database").exists():
            url = f"postgresql://{service}:{secrets.token_urlsafe(24)}@{postgres}/{service}"
            _keep(folder, service, "maru_database", url, made)
        _password(folder, service, "maru_cursor_key", made)
    clients = (*services, "observer", OPERATIONS)
    if not _all_last(folder, clients):
        _certify(folder, clients, made)
    return made


def _password(folder: Path, reader: str, name: str, made: Made) -> str:
    _keep(folder, reader, name, secrets.token_urlsafe(32), made)
    return (folder / reader / name).read_text()


def _keep(folder: Path, reader: str, name: str, content: str, made: Made) -> None:
    if not (folder / reader / name).exists():
        _write(folder / reader / name, content.encode())
        made.passwords.append(f"{reader}/{name}")


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all. Every user may read it: the folder above, or the volume, is what keeps others out."""
    path.parent.mkdir(exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.chmod(0o444)
    new.replace(path)


def _all_last(folder: Path, clients: Sequence[str]) -> bool:
    """Whether every certificate is there and lasts for a while yet."""
    wanted = [folder / client / name for client in clients for name in (CA, CERT, KEY)]
    wanted += [folder / BROKER / name for name in (CA, BROKER_STORE)]
    if not all(path.exists() for path in wanted):
        return False
    ends = x509.load_pem_x509_certificate((folder / BROKER / CA).read_bytes()).not_valid_after_utc
    return ends - datetime.now(UTC) > RENEWED


def _certify(folder: Path, clients: Sequence[str], made: Made) -> None:
    now = datetime.now(UTC)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _name("Maru demonstration")
    # A renewal is told from the authority before it, which has the same name, by the key's identifier.
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())

    def signed(
        subject: x509.Name, key: ec.EllipticCurvePublicKey, *extensions: tuple[x509.ExtensionType, bool]
    ) -> bytes:
        builder = x509.CertificateBuilder(
            issuer_name=authority,
            subject_name=subject,
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(hours=1),
            not_valid_after=now + LIFE,
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ca = signed(
        authority,
        authority_key.public_key(),
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (identifier, False),
        (_usage(signs=True), True),
    )
    for client in clients:
        key = ec.generate_private_key(ec.SECP256R1())
        use = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        cert = signed(_name(client), key.public_key(), (_usage(), True), (use, False))
        for name, content in ((CERT, cert), (KEY, _pem(key)), (CA, ca)):
            _write(folder / client / name, content)
            made.certificates.append(f"{client}/{name}")
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName(BROKER), x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    cert = signed(
        _name(BROKER), key.public_key(), (_usage(), True), (both, False), (x509.SubjectAlternativeName(names), False)
    )
    # The authority last: its date says that all of them are there.
    for name, content in ((BROKER_STORE, _pem(key) + cert), (CA, ca)):
        _write(folder / BROKER / name, content)
        made.certificates.append(f"{BROKER}/{name}")


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, signs: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or it can be made itself."""
    there = folder
    while not there.exists():
        there = there.parent
    return there.is_dir() and os.access(there, os.W_OK)
