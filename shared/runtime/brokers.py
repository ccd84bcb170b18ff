"""Where Kafka is and how it is spoken to: what every client of ours, and Faust, is given."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from shared.runtime.settings import Settings, bad

SCRAM = "SCRAM-SHA-512"
"""The only mechanism of ``sasl_ssl``: the strongest that Kafka keeps by itself."""


@dataclass(frozen=True)
class Brokers:
    """Bootstrap servers, and the credentials for them."""

    bootstrap: str
    protocol: str = "plaintext"
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, settings: Settings, *, wanted_by: str = "this command") -> Brokers:
        """As the settings say. Raises ``BadSetting`` where they name no servers."""
        if settings.kafka is None:
            raise bad("kafka", f"{wanted_by} needs Kafka's bootstrap servers, as host:port")
        password = settings.kafka_password
        return cls(
            settings.kafka,
            settings.kafka_protocol,
            settings.kafka_ca,
            settings.kafka_cert,
            settings.kafka_key,
            settings.kafka_user,
            "" if password is None else password.get_secret_value(),
        )

    @classmethod
    def at(cls, place: Brokers | str) -> Brokers:
        """These, or plaintext at bootstrap servers."""
        return cls(place) if isinstance(place, str) else place

    def __str__(self) -> str:
        return self.bootstrap

    def tls(self) -> ssl.SSLContext | None:
        """What to verify brokers with and to show them; ``None`` over plaintext.

        Made anew for each client, so that one that is made after the files were renewed has the new ones. The broker's
        name must stand in its certificate. Raises ``OSError`` where a file cannot be read.
        """
        if self.protocol == "plaintext":
            return None
        context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key, password="")
        return context
