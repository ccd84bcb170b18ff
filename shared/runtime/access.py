"""Who asks, and whether that office may: tokens, offices held on the day, and the one policy table. Default deny.

Offices act, not persons: a token names a subject, and authority is the office which that subject held on the business
day of the act (I-9). The policy table is data (``data/policy``): office x action x body, region, stage.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jwt
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.contracts.envelope import Actor
from shared.contracts.reference import OfficeEstablished
from shared.decider import Refused
from shared.runtime.declare import Resource
from shared.runtime.directory import Directory
from shared.runtime.keys import DiscoveredKeys, GivenKeys, Keys

MAX_TOKEN = 4096

logger = structlog.get_logger("maru.access")


class Unauthenticated(Exception):
    """No valid token: always the same answer, whatever is wrong with it."""


class Issuer:
    """The development issuer: signs short tokens for the subjects of the reference data. Never for production."""

    def __init__(self, folder: Path, issuer: str, audience: str, hours: int) -> None:
        self._issuer, self._audience, self._seconds = issuer, audience, hours * 3600
        path = folder / "issuer.json"
        if not path.exists():
            key = Ed25519PrivateKey.generate()
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump({"key": pem.decode(), "cursor": os.urandom(32).hex()}, file)
        kept = json.loads(path.read_text())
        loaded = serialization.load_pem_private_key(kept["key"].encode(), password=None)
        if not isinstance(loaded, Ed25519PrivateKey):
            raise ValueError(f"{path} holds no Ed25519 key")
        self._key = loaded
        self.cursor_key: str = kept["cursor"]
        raw = loaded.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        point = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        # RFC 7638: the hash of the key's own members, in this order, names it.
        named = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": point}, separators=(",", ":"))
        self.kid = base64.urlsafe_b64encode(hashlib.sha256(named.encode()).digest()).rstrip(b"=").decode()
        self.key_set: dict[str, Any] = {
            "keys": [{"kty": "OKP", "crv": "Ed25519", "x": point, "kid": self.kid, "alg": "EdDSA", "use": "sig"}]
        }
        """The public key as a JSON Web Key Set (RFC 7517, 8037)."""

    def token(self, subject: str) -> str:
        """A signed token for a subject."""
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "iat": now,
            "exp": now + self._seconds,
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"typ": "at+jwt", "kid": self.kid})

    def verifier(self) -> Verifier:
        """What checks this issuer's tokens, in the same process."""
        return Verifier(GivenKeys(self.key_set), self._issuer, self._audience)


class Verifier:
    """Checks tokens against the keys of one issuer, and an audience; remembers the good ones until they expire."""

    def __init__(self, keys: Keys, issuer: str, audience: str) -> None:
        self._keys, self._issuer, self._audience = keys, issuer, audience
        self._good: dict[str, tuple[str, float]] = {}
        self._changes = keys.changes

    @staticmethod
    def discovering(issuer: str, audience: str) -> Verifier:
        """One that finds its keys at the issuer's URL (OpenID Connect); to be closed."""
        return Verifier(DiscoveredKeys(issuer), issuer, audience)

    @property
    def ready(self) -> bool:
        """Whether it has keys; without them every token is answered with 503."""
        return not isinstance(self._keys, DiscoveredKeys) or self._keys.ready

    def close(self) -> None:
        """Stop looking for keys."""
        if isinstance(self._keys, DiscoveredKeys):
            self._keys.close()

    def subject(self, authorization: str | None) -> str:
        """The subject of an ``Authorization: Bearer`` header; never waits.

        Raises ``Unauthenticated``, and ``Stop`` (503) where the issuer has not given the key yet.
        """
        if not authorization or not authorization.startswith("Bearer ") or len(authorization) > MAX_TOKEN:
            raise Unauthenticated
        token = authorization[7:]
        if self._changes != self._keys.changes:
            # A key that the issuer has taken back signs no more good tokens, earlier ones neither.
            self._changes = self._keys.changes
            self._good.clear()
        known = self._good.get(token)
        if known is not None and known[1] > time.time():
            return known[0]
        try:
            header = jwt.get_unverified_header(token)
            kid = header.get("kid")
            if header.get("typ") != "at+jwt" or not isinstance(kid, str | None):
                raise Unauthenticated
            key = self._keys.find(kid)
            if key is None:
                raise Unauthenticated
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", "iat", "sub", "iss", "aud"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            raise Unauthenticated from None
        subject = claims["sub"]
        if not isinstance(subject, str) or not subject or len(subject) > 120:
            raise Unauthenticated
        if len(self._good) > 10_000:
            self._good.clear()
        self._good[token] = (subject, float(claims["exp"]))
        return subject


def act_as(directory: Directory, day: date, subject: str, wanted: str | None) -> Actor:
    """The office in which a subject acts: the one named, or the only one held.

    Raises ``Refused`` (I-9) where the subject does not hold the office on that day.
    """
    held = directory.offices_held(subject, day)
    if wanted is None:
        if len(held) == 1:
            return Actor(user=subject, office=held[0].office, body=held[0].body)
        if held:
            raise Refused(
                "I-9",
                "여러 직위를 맡고 있습니다. Maru-Office 머리글에 직위를 밝혀 주십시오.",
                "You hold several offices: name one in the Maru-Office header.",
                kind="input",
            )
    for office in held:
        if office.office == wanted:
            return Actor(user=subject, office=office.office, body=office.body)
    if wanted is not None and directory.ever_held(subject, wanted):
        raise Refused(
            "I-9",
            "그 직위의 현재 담당자가 아닙니다. 행위가 기록되는 날의 담당자만 처리할 수 있습니다.",
            "You do not hold that office today: only its holder on the day of the act may act.",
            kind="authority",
        )
    raise Refused(
        "I-9",
        "오늘 맡고 있는 직위가 없거나 그 직위를 맡고 있지 않습니다.",
        "You hold no such office today.",
        kind="authority",
    )


@dataclass(frozen=True)
class PolicyRow:
    """One row: who may do what, how far, at which stage, by which rule."""

    action: str
    body_kind: str
    role: str
    scope: str
    stages: frozenset[str]
    rule: str


_SCOPE_REFUSALS: Mapping[str, tuple[str, str]] = {
    "body": (
        "이 건은 다른 기구가 맡고 있어 귀 기구의 직위로는 처리할 수 없습니다.",
        "This is with another body: an office of your body cannot do it.",
    ),
    "nobody": (
        "이 건은 지금 어느 기구도 맡고 있지 않습니다. 이미 끝났거나 아직 배정되지 않았습니다.",
        "No body holds this now: it has ended, or is not assigned yet.",
    ),
    "region": ("관할 지역의 건이 아닙니다.", "This is not a matter of your region."),
    "organisation": ("소속 기관의 건이 아닙니다.", "This is not a matter of your organisation."),
    "office": ("다른 직위에 온 것입니다.", "This is addressed to another office."),
    "stage": ("지금 단계에서는 할 수 없는 행위입니다.", "This cannot be done at the present stage."),
}


class PolicyTable:
    """The whole table. An action without a row is denied to everybody."""

    def __init__(self, rows: list[PolicyRow]) -> None:
        self._rows: dict[str, list[PolicyRow]] = {}
        for row in rows:
            self._rows.setdefault(row.action, []).append(row)

    @staticmethod
    def read(folder: Path) -> PolicyTable:
        """The table from ``folder/*.csv``. Raises ``ValueError`` naming file and line of a bad row."""
        rows = []
        for path in sorted(folder.glob("*.csv")):
            with path.open(encoding="utf-8", newline="") as file:
                for number, line in enumerate(csv.DictReader(file), start=2):
                    scope = line["scope"]
                    if scope not in ("any", "body", "region", "organisation", "office") or not line["rule"]:
                        raise ValueError(f"{path.name}:{number}: unknown scope {scope!r} or no rule")
                    stages = frozenset(stage for stage in line["stages"].split(";") if stage)
                    rows.append(PolicyRow(line["action"], line["body_kind"], line["role"], scope, stages, line["rule"]))
        return PolicyTable(rows)

    @property
    def actions(self) -> frozenset[str]:
        """Every action that has a row."""
        return frozenset(self._rows)

    def authorise(self, directory: Directory, day: date, actor: Actor, action: str, resource: Resource) -> PolicyRow:
        """The row that allows the act. Raises ``Refused`` where none does; the decision is logged either way."""
        office = directory.office(actor.office, day)
        missed: str | None = None
        rule = "policy"
        for row in self._rows.get(action, []):
            if office is None or not _fits(row, office, directory, day):
                continue
            failed = _outside(row, office, resource, directory, day)
            if failed is None:
                logger.debug("allowed", action=action, office=actor.office, rule=row.rule)
                return row
            missed, rule = failed, row.rule
        logger.info("denied", action=action, office=actor.office, because=missed or "no row")
        if missed is None:
            raise Refused("I-9", "이 직위에는 그 권한이 없습니다.", "This office may not do that.", kind="authority")
        ko, en = _SCOPE_REFUSALS[missed]
        raise Refused(rule, ko, en, kind="rule" if missed == "stage" else "authority")

    def regions_allowed(self, directory: Directory, day: date, actor: Actor, action: str) -> tuple[str, ...] | None:
        """For lists: all regions (``None``) where a row says ``any``, else those of the actor's own body."""
        office = directory.office(actor.office, day)
        if office is not None:
            for row in self._rows.get(action, []):
                if row.scope == "any" and _fits(row, office, directory, day):
                    return None
        return regions_of(directory, actor.body, day)


def regions_of(directory: Directory, body: str, day: date) -> tuple[str, ...]:
    """The regions of a body with all that they have become since (I-16)."""
    found = directory.body(body, day)
    if found is None:
        return ()
    return tuple(dict.fromkeys([*found.regions, *(s for r in found.regions for s in directory.successors(r, day))]))


def _fits(row: PolicyRow, office: OfficeEstablished, directory: Directory, day: date) -> bool:
    body = directory.body(office.body, day)
    return body is not None and row.body_kind in ("*", body.kind) and row.role in ("*", office.role)


def _outside(
    row: PolicyRow, office: OfficeEstablished, resource: Resource, directory: Directory, day: date
) -> str | None:
    if row.scope == "body" and office.body != resource.body:
        return "nobody" if resource.body is None else "body"
    if row.scope == "organisation" and office.body != resource.organisation:
        return "organisation"
    if row.scope == "office" and office.office != resource.office:
        return "office"
    if row.scope == "region" and not resource.nationwide:
        mine = set(regions_of(directory, office.body, day))
        if not mine & {s for r in resource.regions for s in (r, *directory.successors(r, day))}:
            return "region"
    if row.stages and resource.stage not in row.stages:
        return "stage"
    return None
