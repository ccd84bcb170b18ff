"""What stands around our containers in a deployment, here on loopback: compose's broker, authorities, an issuer."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.local_processes import free_port
from services.local_servers import Kafka, class_path, java
from shared.runtime.access import Issuer
from tests.deploy.manifests import compose


class AsInCompose(Kafka):
    """The broker with the settings of the compose file: TLS, and rights for nobody until they are granted.

    What differs: addresses and folders of this machine, and one listener more in plain text, by which the broker is
    known to be up.
    """

    def __init__(self, folder: Path, secrets: Path) -> None:
        """``secrets``: what compose mounts for the broker."""
        super().__init__(folder)
        self.tls = free_port()
        self._secrets = secrets

    def _configure(self, data: Path) -> Path:
        path = super()._configure(data)
        given: Mapping[str, object] = compose()["services"]["kafka"]["environment"]
        settings = {name.removeprefix("KAFKA_").lower().replace("_", "."): str(value) for name, value in given.items()}
        here = {"/run/secrets/maru": str(self._secrets), "/var/lib/kafka/data": str(data)}
        here |= {"TLS://0.0.0.0:9092": f"TLS://127.0.0.1:{self.tls}", "TLS://kafka:9092": f"TLS://localhost:{self.tls}"}
        here |= {"localhost:9093": f"127.0.0.1:{self._controller}", "localhost:9094": f"127.0.0.1:{self.port}"}
        lines = []
        for name, value in settings.items():
            for there, instead in here.items():
                value = value.replace(there, instead)
            lines.append(f"{name}={value}\n")
        path.write_text("".join(lines))
        return path

    def grant(self, rights: Iterable[Sequence[str]], operations: Path) -> None:
        """Rights, each as the arguments of ``kafka-acls.sh --add``, given with the certificate of ``operations``."""
        client, store = self.folder / "client.properties", self.folder / "store.pem"
        store.write_text((operations / "client.key").read_text() + (operations / "client.pem").read_text())
        client.write_text(
            f"security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location={operations}/ca.pem\n"
            f"ssl.keystore.type=PEM\nssl.keystore.location={store}\n"
        )
        jars = class_path(self.folder, "org.apache.kafka:kafka-tools:4.3.1")
        command = [java(), "-XX:TieredStopAtLevel=1", "-cp", jars, "org.apache.kafka.tools.AclCommand"]
        command += ["--bootstrap-server", f"localhost:{self.tls}", "--command-config", str(client), "--add"]
        for right in rights:
            done = subprocess.run([*command, *right], capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


def rights_in_compose(user: str | None = None) -> list[list[str]]:
    """What the one-shot service ``acls`` grants, to one user or to all."""
    (script,) = compose()["services"]["acls"]["command"]
    granted: list[list[str]] = [line.split() for line in re.findall(r"^\s*grant (--.*)$", script, re.MULTILINE)]
    return [words for words in granted if user is None or f"User:CN={user}" in words]


class Authority:
    """Somebody who signs certificates, as an operator of a cluster does."""

    def __init__(self, name: str) -> None:
        """Makes its key and its own certificate."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(self._name, self._key, ca=True)

    def issue(self, common: str, names: Sequence[str] = ()) -> tuple[str, str]:
        """Certificate and key, PEM: of a client ``common``, or of a server with these names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._signed(subject, key, names), secret.decode()

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, names: Sequence[str] = (), *, ca: bool = False
    ) -> str:
        now = datetime.now(UTC)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(hours=1),
            not_valid_after=now + timedelta(days=2),
        ).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if ca:
            builder = builder.add_extension(identifier, critical=False)
        else:
            above = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
            builder = builder.add_extension(above, critical=False)
        if names:
            general = [x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


class IssuerStandIn:
    """The keys of an OpenID Connect issuer, on loopback: what a gateway asks for before it is ready."""

    def __init__(self, folder: Path, url: str, port: int, tls: tuple[Path, Path] | None = None) -> None:
        """``url``: the issuer's name, whose path it is asked at; ``tls``: certificate and key of the server."""
        folder.mkdir(parents=True, exist_ok=True)
        issuer = Issuer(folder, url, "maru", 1)
        configuration = {"issuer": url, "jwks_uri": f"{url}/jwks"}
        answers: dict[str, object] = {"/.well-known/openid-configuration": configuration, "/jwks": issuer.key_set}

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = next((body for path, body in answers.items() if self.path.endswith(path)), None)
                self.send_response(404 if found is None else 200)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the tests' output is for the tests."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()
