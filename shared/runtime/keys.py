"""The public keys of tokens: given (embedded form), or found at the issuer by OpenID Connect discovery.

Discovered keys are fetched by a thread of their own, never by a request: a request that needs keys which are not there
yet is told to come again (503), not that its token is bad.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import jwt
import structlog

from shared.runtime.problems import Stop
from shared.runtime.settings import BadSetting, is_loopback

ALGORITHMS = frozenset({"EdDSA", "RS256", "ES256"})
"""What tokens may be signed with; a key of another algorithm is passed over."""
REFRESH_SECONDS = 300.0
"""How old keys may become before they are fetched again."""
UNKNOWN_SECONDS = 10.0
"""Least time between two fetches for the sake of key ids that are not known: anybody can make those up."""
BACK_OFF = (0.1, 5.0)
"""First and longest pause after a fetch that failed, seconds; each pause is double the one before."""
TIMEOUT_SECONDS = 3.0
MAX_BYTES = 262_144
RSA_BITS = 2048

logger = structlog.get_logger("maru.keys")


class Keys(Protocol):
    """Where the verifier finds keys."""

    @property
    def changes(self) -> int:
        """Grows whenever the keys have become others: what was verified before must be verified again."""

    def find(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of that id, or without an id the only one; ``None`` where there is none. Raises ``Stop`` (503)."""


def read_keys(document: Any) -> dict[str, jwt.PyJWK]:
    """The usable keys of a JSON Web Key Set, by id (RFC 7517). Raises ``ValueError`` where it is no key set."""
    if not isinstance(document, Mapping) or not isinstance(document.get("keys"), list):
        raise ValueError("not a JSON Web Key Set")
    found = {}
    for one in document["keys"]:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(one)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if key.algorithm_name in ALGORITHMS and getattr(key.key, "key_size", RSA_BITS) >= _least(key):
            found[str(one.get("kid", ""))] = key
    return found


def _least(key: jwt.PyJWK) -> int:
    return RSA_BITS if key.algorithm_name == "RS256" else 0


def _pick(keys: Mapping[str, jwt.PyJWK], kid: str | None) -> jwt.PyJWK | None:
    if kid is None:
        return next(iter(keys.values())) if len(keys) == 1 else None
    return keys.get(kid)


class GivenKeys:
    """Keys that never change."""

    changes = 0

    def __init__(self, document: Mapping[str, Any]) -> None:
        """``document``: a JSON Web Key Set."""
        self._keys = read_keys(document)

    def find(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of that id, or without an id the only one."""
        return _pick(self._keys, kid)


class DiscoveredKeys:
    """The keys of an OpenID Connect issuer, cached and kept fresh by a thread."""

    def __init__(self, issuer: str) -> None:
        """Begins to fetch at once; ``find`` says 503 until something has come."""
        self._issuer = issuer
        self._http = httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False)
        self._keys: dict[str, jwt.PyJWK] | None = None
        self.failed = False
        """Whether the last fetch brought nothing usable."""
        self._asked = False
        self._fetched_at = float("-inf")
        self._wake = threading.Event()
        self._ending = False
        self.changes = 0
        self._thread = threading.Thread(target=self._run, name="issuer-keys", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether there are keys to verify with."""
        return self._keys is not None

    def close(self) -> None:
        """End the thread."""
        self._ending = True
        self._wake.set()
        self._thread.join(timeout=2 * TIMEOUT_SECONDS + 1)
        self._http.close()

    def find(self, kid: str | None) -> jwt.PyJWK | None:
        """As ``Keys``. An unknown id makes one fetch, at most every ``UNKNOWN_SECONDS``. Raises ``Stop`` (503)."""
        keys = self._keys
        if keys is None:
            raise _not_yet()
        found = _pick(keys, kid)
        if found is not None:
            return found
        if self.failed:
            raise _not_yet()
        if not self._asked and time.monotonic() - self._fetched_at >= UNKNOWN_SECONDS:
            self._asked = True
            self._wake.set()
        if self._asked:
            raise _not_yet()
        return None

    def _run(self) -> None:
        pause = BACK_OFF[0]
        while not self._ending:
            self._wake.clear()
            try:
                keys = self._fetch()
            except (httpx.HTTPError, ValueError, RecursionError) as error:
                if not self.failed:
                    logger.warning("issuer does not give its keys", issuer=self._issuer, error=str(error)[:200])
                self.failed = True
                self._asked = False
                self._wait(pause)
                pause = min(2 * pause, BACK_OFF[1])
                continue
            if self._keys is None or {k: v.key for k, v in keys.items()} != {k: v.key for k, v in self._keys.items()}:
                self._keys = keys
                self.changes += 1
                logger.info("issuer keys", issuer=self._issuer, keys=sorted(keys))
            self._fetched_at = time.monotonic()
            self.failed = self._asked = False
            pause = BACK_OFF[0]
            self._wait(REFRESH_SECONDS)

    def _wait(self, seconds: float) -> None:
        if not self._ending:
            self._wake.wait(seconds)

    def _fetch(self) -> dict[str, jwt.PyJWK]:
        """The issuer's keys now. Raises ``ValueError`` and ``httpx.HTTPError``."""
        found = self._get(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        # OpenID Connect Discovery 1.0, section 4.3: it must be exactly the issuer that was asked.
        if not isinstance(found, Mapping) or found.get("issuer") != self._issuer:
            raise ValueError("the configuration names another issuer")
        address = found.get("jwks_uri")
        if not isinstance(address, str):
            raise ValueError("the configuration names no keys")
        if urlsplit(address).scheme not in ("https", urlsplit(self._issuer).scheme):
            raise ValueError("the keys are to be fetched over another scheme")
        keys = read_keys(self._get(address))
        if not keys:
            raise ValueError("the issuer has no usable key")
        return keys

    def _get(self, address: str) -> Any:
        raw = b""
        with self._http.stream("GET", address) as answer:
            if answer.status_code != 200:
                raise ValueError(f"{answer.status_code} from {address}")
            for part in answer.iter_bytes():
                raw += part
                if len(raw) > MAX_BYTES:
                    raise ValueError(f"too much from {address}")
        return json.loads(raw)


def _not_yet() -> Stop:
    return Stop(
        503,
        "issuer_unavailable",
        "지금은 토큰을 확인할 수 없습니다. 잠시 뒤 다시 시도하십시오.",
        "Tokens cannot be checked just now: try again shortly.",
        headers={"Retry-After": "1"},
    )


def check_issuer(issuer: str, development: bool) -> None:
    """A deployment takes an issuer over https, on another machine. Raises ``BadSetting`` otherwise.

    The development issuer gives a token to anybody who asks, so an issuer on loopback is refused, unless the
    deployment says that it is one for development.
    """
    parts = urlsplit(issuer)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise BadSetting(f"issuer (MARU_ISSUER): {issuer!r} is not the URL of an issuer")
    if development:
        return
    if is_loopback(parts.hostname):
        raise BadSetting(
            f"issuer (MARU_ISSUER): {issuer} is on this machine, as the development issuer is, who gives a token to "
            f"anybody; {_RIGHT}"
        )
    if parts.scheme != "https":
        raise BadSetting(f"issuer (MARU_ISSUER): {issuer} is not https; {_RIGHT}")


_RIGHT = (
    "name the ministry's own OpenID Connect issuer, over https; only a demonstration, where the development issuer is "
    "meant, says so with MARU_DEVELOPMENT=true"
)
