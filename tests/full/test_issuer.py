"""The issuer as a process of its own: discovery, keys, tokens; and verifiers that find their keys there."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.responses import RedirectResponse, Response

from services.local_processes import free_port
from shared.runtime import keys
from shared.runtime.access import Issuer, Unauthenticated, Verifier
from shared.runtime.directory import Directory
from shared.runtime.issuer import application
from shared.runtime.keys import check_issuer
from shared.runtime.problems import Stop
from shared.runtime.settings import BadSetting
from shared.runtime.web import HttpServer
from tests.runtime.pair import body, holder, office

AUDIENCE = "maru"


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "BACK_OFF", (0.02, 0.05))


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@contextmanager
def serving(app: Any, port: int) -> Iterator[None]:
    server = HttpServer(app, "127.0.0.1", port)
    server.start()
    try:
        yield
    finally:
        server.stop()


@pytest.fixture
def directory() -> Directory:
    return Directory(
        [body("council-gangwon"), office("gangwon.secretary", "council-gangwon"), holder("u-1", "gangwon.secretary")]
    )


@pytest.fixture
def issuer(tmp_path: Path, url: str) -> Issuer:
    return Issuer(tmp_path, url, AUDIENCE, 1)


@pytest.fixture
def running(issuer: Issuer, url: str, port: int, directory: Directory) -> Iterator[httpx.Client]:
    with serving(application(issuer, url, lambda: directory), port), httpx.Client(base_url=url) as http:
        yield http


@pytest.fixture
def verifier(url: str) -> Iterator[Verifier]:
    made = Verifier.discovering(url, AUDIENCE)
    yield made
    made.close()


def until(what: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "the state did not come"
        time.sleep(0.01)


def asked(verifier: Verifier, token: str) -> str:
    """The subject, or why there is none."""
    try:
        return verifier.subject(f"Bearer {token}")
    except Unauthenticated:
        return "401"
    except Stop as stop:
        return f"{stop.status}" if stop.headers.get("Retry-After") == "1" else "no Retry-After"


# The issuer


def test_its_configuration_is_that_of_openid_connect(running: httpx.Client, url: str) -> None:
    found = running.get("/.well-known/openid-configuration").json()
    assert (found["issuer"], found["jwks_uri"]) == (url, f"{url}/jwks")


def test_its_key_is_public_and_named_by_its_thumbprint(running: httpx.Client) -> None:
    (key,) = running.get("/jwks").json()["keys"]
    members = json.dumps({"crv": key["crv"], "kty": key["kty"], "x": key["x"]}, separators=(",", ":")).encode()
    assert key["kid"] == base64.urlsafe_b64encode(hashlib.sha256(members).digest()).rstrip(b"=").decode()
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")
    assert "d" not in key


def test_it_gives_a_token_for_whoever_holds_the_office(running: httpx.Client, verifier: Verifier) -> None:
    told = running.get("/dev/token/gangwon.secretary").json()
    until(lambda: verifier.ready)
    assert told["subject"] == "u-1"
    assert asked(verifier, told["token"]) == "u-1"


def test_nobody_holds_an_unknown_office(running: httpx.Client) -> None:
    assert running.get("/dev/token/no.such-office").status_code == 404


def test_without_reference_facts_keys_are_given_and_tokens_are_503(issuer: Issuer, url: str, port: int) -> None:
    def absent() -> Directory:
        raise OSError("the database is away")

    with serving(application(issuer, url, absent), port), httpx.Client(base_url=url) as http:
        answers = {path: http.get(path) for path in ("/dev/token/gangwon.secretary", "/readyz", "/livez", "/jwks")}
    assert {path: answer.status_code for path, answer in answers.items()} == {
        "/dev/token/gangwon.secretary": 503,
        "/readyz": 503,
        "/livez": 200,
        "/jwks": 200,
    }
    assert answers["/dev/token/gangwon.secretary"].headers["retry-after"] == "1"


def test_a_silent_database_is_not_waited_for_by_probes(
    issuer: Issuer, url: str, port: int, directory: Directory
) -> None:
    answers = threading.Event()

    def silent() -> Directory:
        answers.wait(30)
        return directory

    with serving(application(issuer, url, silent), port), httpx.Client(base_url=url, timeout=20) as http:
        told = http.get("/readyz")
        assert (told.status_code, told.json()["missing"]) == (503, ["a store does not answer"])
        assert http.get("/livez").status_code == 200
        answers.set()
        until(lambda: http.get("/readyz").status_code == 200)


# Verifiers


def test_while_the_issuer_is_away_a_token_is_503_and_later_good(
    issuer: Issuer, url: str, port: int, directory: Directory, verifier: Verifier
) -> None:
    token = issuer.token("u-1")
    assert (asked(verifier, token), verifier.ready) == ("503", False)
    with serving(application(issuer, url, lambda: directory), port):
        until(lambda: verifier.ready)
        assert asked(verifier, token) == "u-1"


def test_no_token_is_401_even_while_the_issuer_is_away(verifier: Verifier) -> None:
    with pytest.raises(Unauthenticated):
        verifier.subject(None)


def test_keys_outlive_the_issuer(issuer: Issuer, url: str, port: int, directory: Directory, verifier: Verifier) -> None:
    with serving(application(issuer, url, lambda: directory), port):
        until(lambda: verifier.ready)
    assert asked(verifier, issuer.token("u-1")) == "u-1"


def test_asking_never_waits_for_the_issuer(port: int, url: str, verifier: Verifier, issuer: Issuer) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", port))
        silent.listen()
        began = time.monotonic()
        assert asked(verifier, issuer.token("u-1")) == "503"
        assert time.monotonic() - began < 0.5


class Fake:
    """An issuer that says what it is told to."""

    def __init__(self, url: str) -> None:
        self.app = FastAPI(openapi_url=None)
        self.configuration: Any = {"issuer": url, "jwks_uri": f"{url}/keys"}
        self.keys: list[Any] = []
        self.fetched = 0
        self.answer: Response | None = None

        @self.app.get("/.well-known/openid-configuration", response_model=None)
        async def configuration() -> Any:
            return self.answer or self.configuration

        @self.app.get("/keys")
        async def key_set() -> Any:
            self.fetched += 1
            return {"keys": self.keys}


@pytest.fixture
def fake(url: str, port: int) -> Iterator[Fake]:
    made = Fake(url)
    with serving(made.app, port):
        yield made


def claims(url: str) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": url, "aud": AUDIENCE, "sub": "u-9", "iat": now, "exp": now + 60}


def signed(url: str, key: Any, algorithm: str, kid: str | None) -> str:
    headers = {"typ": "at+jwt"} | ({} if kid is None else {"kid": kid})
    return jwt.encode(claims(url), key, algorithm=algorithm, headers=headers)


def public(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    algorithm: Any = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "Ed": OKPAlgorithm}[
        "RSA" if isinstance(key, rsa.RSAPrivateKey) else "EC" if isinstance(key, ec.EllipticCurvePrivateKey) else "Ed"
    ]
    return dict(json.loads(algorithm.to_jwk(key.public_key()))) | {"kid": kid} | more


RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA_KEY, "RS256"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA")], ids=["RS256", "ES256", "EdDSA"]
)
def test_tokens_of_the_three_algorithms_are_good(fake: Fake, url: str, key: Any, algorithm: str) -> None:
    fake.keys = [public(RSA_KEY, "rsa"), public(EC_KEY, "ec"), public(ED_KEY, "ed")]
    verifier = Verifier.discovering(url, AUDIENCE)
    try:
        until(lambda: verifier.ready)
        kid = {"RS256": "rsa", "ES256": "ec", "EdDSA": "ed"}[algorithm]
        assert asked(verifier, signed(url, key, algorithm, kid)) == "u-9"
    finally:
        verifier.close()


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(lambda url: signed(url, RSA_KEY, "RS512", "rsa"), id="RS512"),
        pytest.param(lambda url: signed(url, RSA_KEY, "PS256", "rsa"), id="PS256"),
        pytest.param(lambda url: signed(url, RSA_KEY, "RS256", "ec"), id="another key's id"),
        pytest.param(lambda url: signed(url, EC_KEY, "ES256", "rsa"), id="another algorithm's id"),
        pytest.param(lambda url: signed(url, RSA_KEY, "RS256", None), id="no id where there are two keys"),
        pytest.param(lambda url: signed(url + "/", RSA_KEY, "RS256", "rsa"), id="another issuer"),
        pytest.param(lambda url: signed(url, "s" * 64, "HS256", "shared"), id="a shared secret of the key set"),
        pytest.param(lambda url: signed(url, ED_KEY, "EdDSA", "encrypts"), id="a key for encryption"),
    ],
)
def test_what_the_keys_do_not_sign_is_none(
    fake: Fake, url: str, forged: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "UNKNOWN_SECONDS", 60.0)
    secret = base64.urlsafe_b64encode(b"s" * 64).rstrip(b"=").decode()
    fake.keys = [
        public(RSA_KEY, "rsa"),
        public(EC_KEY, "ec"),
        {"kty": "oct", "k": secret, "kid": "shared", "alg": "HS256"},
        public(ED_KEY, "encrypts", use="enc"),
    ]
    verifier = Verifier.discovering(url, AUDIENCE)
    try:
        until(lambda: verifier.ready)
        assert asked(verifier, forged(url)) == "401"
    finally:
        verifier.close()


@pytest.mark.parametrize(
    "useless",
    [
        pytest.param([], id="no keys"),
        pytest.param([{"kty": "oct", "k": "c2VjcmV0", "kid": "s"}], id="a shared secret"),
        pytest.param([public(rsa.generate_private_key(65537, 1024), "short")], id="RSA of 1024 bits"),
        pytest.param([{"kty": "RSA"}, 7, None, "key"], id="no keys at all"),
    ],
)
def test_an_issuer_without_a_usable_key_leaves_tokens_503(
    fake: Fake, url: str, useless: list[Any], verifier: Verifier
) -> None:
    fake.keys = useless
    until(lambda: fake.fetched > 2)
    assert asked(verifier, signed(url, ED_KEY, "EdDSA", "ed")) == "503"


def refused(url: str) -> bool:
    """Whether a verifier takes no keys from there; waits until it has tried."""
    found = keys.DiscoveredKeys(url)
    try:
        until(lambda: found.ready or found.failed)
        return not found.ready
    finally:
        found.close()


@pytest.mark.parametrize(
    "configuration",
    [
        pytest.param(lambda url: {"issuer": url + "/", "jwks_uri": f"{url}/keys"}, id="another issuer"),
        pytest.param(lambda url: {"jwks_uri": f"{url}/keys"}, id="no issuer"),
        pytest.param(lambda url: {"issuer": url}, id="no keys"),
        pytest.param(lambda url: {"issuer": url, "jwks_uri": 7}, id="keys at a number"),
        pytest.param(lambda url: {"issuer": url, "jwks_uri": "file:///etc/passwd"}, id="keys in a file"),
        pytest.param(lambda url: [url], id="a list"),
        pytest.param(lambda url: {"issuer": url, "jwks_uri": f"{url}/keys", "more": "x" * 300_000}, id="huge"),
    ],
)
def test_a_configuration_that_is_none_leaves_tokens_503(
    fake: Fake, url: str, configuration: Callable[[str], Any]
) -> None:
    fake.keys = [public(ED_KEY, "ed")]
    fake.configuration = configuration(url)
    assert refused(url)


def test_a_redirect_is_not_followed(fake: Fake, url: str) -> None:
    fake.keys = [public(ED_KEY, "ed")]
    fake.answer = RedirectResponse(f"{url}/elsewhere")
    assert refused(url)


def test_an_unknown_key_is_fetched_once_and_then_good(
    fake: Fake, url: str, monkeypatch: pytest.MonkeyPatch, verifier: Verifier
) -> None:
    monkeypatch.setattr(keys, "UNKNOWN_SECONDS", 0.0)
    fake.keys = [public(ED_KEY, "old")]
    until(lambda: verifier.ready)
    new = Ed25519PrivateKey.generate()
    fake.keys = [public(ED_KEY, "old"), public(new, "new")]
    token = signed(url, new, "EdDSA", "new")
    assert asked(verifier, token) == "503"
    until(lambda: asked(verifier, token) == "u-9")


def test_made_up_key_ids_do_not_drive_the_issuer(
    fake: Fake, url: str, monkeypatch: pytest.MonkeyPatch, verifier: Verifier
) -> None:
    monkeypatch.setattr(keys, "UNKNOWN_SECONDS", 60.0)
    fake.keys = [public(ED_KEY, "old")]
    until(lambda: verifier.ready)
    before = fake.fetched
    told = {asked(verifier, signed(url, ED_KEY, "EdDSA", f"made-up-{number}")) for number in range(50)}
    assert (told, fake.fetched) == ({"401"}, before)


def test_a_key_that_was_taken_back_signs_nothing_any_more(
    fake: Fake, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "REFRESH_SECONDS", 0.05)
    fake.keys = [public(ED_KEY, "old"), public(EC_KEY, "stays")]
    verifier = Verifier.discovering(url, AUDIENCE)
    try:
        token = signed(url, ED_KEY, "EdDSA", "old")
        until(lambda: asked(verifier, token) == "u-9")
        fake.keys = [public(EC_KEY, "stays")]
        until(lambda: asked(verifier, token) == "401")
    finally:
        verifier.close()


# Which issuers a deployment takes


@pytest.mark.parametrize(
    "issuer",
    [
        "http://127.0.0.1:8700",
        "https://127.1.2.3",
        "https://localhost",
        "https://LOCALHOST.:8443",
        "https://issuer.localhost/realm",
        "https://[::1]:8443",
        "https://[::ffff:127.0.0.1]",
        "https://0.0.0.0",
    ],
)
def test_a_deployment_refuses_an_issuer_on_its_own_machine(issuer: str) -> None:
    with pytest.raises(BadSetting, match="on this machine"):
        check_issuer(issuer, development=False)


def test_a_deployment_refuses_an_issuer_without_encryption() -> None:
    with pytest.raises(BadSetting, match="https"):
        check_issuer("http://login.molit.example", development=False)


@pytest.mark.parametrize("issuer", ["", "issuer", "ftp://login.example", "https://", "https://login.example?a=b"])
def test_an_issuer_is_a_url(issuer: str) -> None:
    with pytest.raises(BadSetting, match="not the URL"):
        check_issuer(issuer, development=True)


@pytest.mark.parametrize(
    ("issuer", "development"),
    [("https://login.molit.example/realms/maru", False), ("http://127.0.0.1:8700", True), ("http://localhost", True)],
)
def test_a_sound_issuer_is_taken(issuer: str, development: bool) -> None:
    check_issuer(issuer, development)


def test_the_business_day_of_an_issuer_is_that_of_its_directory(issuer: Issuer, url: str, port: int) -> None:
    """Who is appointed later holds nothing yet."""
    later = Directory(
        [body("council"), office("council.chair", "council", "chair"), holder("u-2", "council.chair", date(2999, 1, 1))]
    )
    with serving(application(issuer, url, lambda: later), port), httpx.Client(base_url=url) as http:
        assert http.get("/dev/token/council.chair").status_code == 404
