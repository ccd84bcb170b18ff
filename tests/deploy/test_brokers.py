"""What reaches the clients of Kafka: ours, and Faust's."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import faust
import pytest

from services.demonstration import make
from shared.runtime import kafka, observer
from shared.runtime.brokers import Brokers
from shared.runtime.settings import BadSetting, load

PASSWORD = "9vQ2-long-and-random-Zk41"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets") / "all"
    make(folder, ["issues"])
    return folder / "issues"


@pytest.fixture
def by_certificate(made: Path) -> Brokers:
    return Brokers.of(
        load(
            kafka="kafka:9092",
            kafka_protocol="ssl",
            kafka_ca=made / "ca.pem",
            kafka_cert=made / "client.pem",
            kafka_key=made / "client.key",
        )
    )


@pytest.fixture
def by_password(made: Path) -> Brokers:
    return Brokers.of(
        load(
            kafka="kafka:9092",
            kafka_protocol="sasl_ssl",
            kafka_ca=made / "ca.pem",
            kafka_user="issues",
            kafka_password=PASSWORD,
        )
    )


def _verifies(context: object) -> bool:
    return (
        isinstance(context, ssl.SSLContext)
        and context.verify_mode is ssl.CERT_REQUIRED
        and context.check_hostname
        and len(context.get_ca_certs()) == 1
    )


def test_plaintext_brings_no_credentials() -> None:
    given = kafka.client_settings("127.0.0.1:9092", "x")
    assert given["bootstrap_servers"] == "127.0.0.1:9092"
    assert not {name for name in given if name.startswith(("ssl", "sasl", "security"))}
    assert observer.credentials(Brokers("127.0.0.1:9092")) is None


def test_a_certificate_reaches_our_clients(by_certificate: Brokers) -> None:
    given = kafka.client_settings(by_certificate, "x")
    assert given["security_protocol"] == "SSL"
    assert _verifies(given["ssl_context"])
    assert "sasl_mechanism" not in given


def test_a_user_reaches_our_clients(by_password: Brokers) -> None:
    given = kafka.client_settings(by_password, "x")
    assert (given["security_protocol"], given["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (given["sasl_plain_username"], given["sasl_plain_password"]) == ("issues", PASSWORD)
    assert _verifies(given["ssl_context"])
    assert PASSWORD not in repr(by_password)


def test_every_client_takes_them(by_certificate: Brokers, by_password: Brokers) -> None:
    """The client library knows each of these names, and refuses what it does not."""

    async def opened() -> None:
        for brokers in (by_certificate, by_password):
            for client in (kafka.Producer(brokers, "x"), kafka.Consumer(brokers, "x")):
                await client.stop()

    asyncio.run(opened())


def test_faust_is_given_the_same(by_certificate: Brokers, by_password: Brokers) -> None:
    certificate, user = observer.credentials(by_certificate), observer.credentials(by_password)
    assert isinstance(certificate, faust.SSLCredentials)
    assert certificate.protocol.value == "SSL"
    assert _verifies(certificate.context)
    assert isinstance(user, faust.SASLCredentials)
    assert (user.protocol.value, user.mechanism.value) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (user.username, user.password) == ("issues", PASSWORD)
    assert _verifies(user.ssl_context)


def test_renewed_files_reach_the_next_client(made: Path, by_certificate: Brokers) -> None:
    first = by_certificate.tls()
    for path in made.parent.rglob("*.pem"):
        path.unlink()
    make(made.parent, ["issues"])
    second = by_certificate.tls()
    assert first is not None
    assert second is not None
    assert first.get_ca_certs()[0]["serialNumber"] != second.get_ca_certs()[0]["serialNumber"]


def test_without_servers_it_says_who_needs_them() -> None:
    with pytest.raises(BadSetting, match="a relay needs"):
        Brokers.of(load(), wanted_by="a relay")


def test_secrets_are_kept_and_certificates_renewed_together(tmp_path: Path) -> None:
    first = make(tmp_path / "all", ["issues"])
    assert {"issues/maru_database", "operations/postgres_password"} <= set(first.passwords)
    again = make(tmp_path / "all", ["issues"])
    assert (again.passwords, again.certificates) == ([], [])
    (tmp_path / "all" / "observer" / "client.key").unlink()
    renewed = make(tmp_path / "all", ["issues"])
    assert renewed.passwords == []
    assert set(renewed.certificates) == set(first.certificates)
