"""What stands around our containers in a deployment, here on loopback: compose's broker, authorities, an issuer."""

from __future__ import annotations

import json
import re
import select
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
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

    def __init__(self, folder: Path, url: str, port: int, tls: tuple[str, str] | None = None) -> None:
        """Answers at ``port``. With ``tls``, certificate and key, it is an HTTPS proxy behind which everything is it,

        so that an issuer of any name can be asked here.
        """
        folder.mkdir(parents=True, exist_ok=True)
        issuer = Issuer(folder, url, "maru", 1)
        configuration = {"issuer": url, "jwks_uri": f"{url}/jwks"}
        answers: dict[str, object] = {"/.well-known/openid-configuration": configuration, "/jwks": issuer.key_set}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if tls is not None:
            (folder / "server.pem").write_text("".join(tls))
            context.load_cert_chain(folder / "server.pem")

        class Answer(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.rfile.close()
                with context.wrap_socket(self.connection, server_side=True) as inner:
                    self.connection = self.request = inner
                    self.setup()
                    self.handle_one_request()

            def do_GET(self) -> None:
                found = next((body for path, body in answers.items() if f"{url}{path}".endswith(self.path)), None)
                self.send_response(404 if found is None else 200)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the tests' output is for the tests."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()


class PostgresDoor:
    """TLS before a PostgreSQL that was built without: the wire protocol's SSLRequest, then all of it passed on.

    Whoever asks for no TLS is turned away.
    """

    _TLS, _GSS = 80877103, 80877104
    """Codes of the requests with which a client may begin (PostgreSQL 18, section 54.7: SSLRequest, GSSENCRequest)."""

    def __init__(self, folder: Path, tls: tuple[str, str], target: tuple[str, int]) -> None:
        """``tls``: certificate and key, PEM; ``target``: the server."""
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (folder / "postgres.pem").write_text("".join(tls))
        self._context.load_cert_chain(folder / "postgres.pem")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            code = self._begin(client)
            if code == self._GSS:
                client.sendall(b"N")
                code = self._begin(client)
            if code != self._TLS:
                return
            client.sendall(b"S")
            with (
                self._context.wrap_socket(client, server_side=True) as inner,
                socket.create_connection(self._target) as server,
            ):
                while True:
                    ready = [inner] if inner.pending() else select.select([inner, server], [], [])[0]
                    for one in ready:
                        data = one.recv(65536)
                        if not data:
                            return
                        (server if one is inner else inner).sendall(data)

    @staticmethod
    def _begin(client: socket.socket) -> int:
        _, code = struct.unpack("!ii", client.recv(8, socket.MSG_WAITALL).ljust(8, b"\0"))
        return int(code)

    def close(self) -> None:
        """Let nobody else in."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
