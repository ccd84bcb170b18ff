"""Who may act: tokens that are none, offices held on the day, and the policy table that denies by default."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from shared.contracts.envelope import Actor
from shared.contracts.reference import OfficeHolderLeft, RegionCodes, RegionRegistered, RegionSucceeded
from shared.decider import Refused
from shared.runtime.access import Issuer, PolicyTable, Unauthenticated, Verifier, act_as
from shared.runtime.declare import Resource
from shared.runtime.directory import Directory
from tests.runtime.pair import LABEL, SINCE, body, holder, office

ISSUER, AUDIENCE = "https://issuer.example", "maru"
TODAY = date(2023, 1, 4)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"), ISSUER, AUDIENCE, 1)


@pytest.fixture
def verifier(issuer: Issuer) -> Verifier:
    return issuer.verifier()


def claims(**changed: Any) -> dict[str, Any]:
    """Sound claims with some changed, or left out where ``None``."""
    now = int(time.time())
    sound = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u-clerk", "iat": now, "exp": now + 600, **changed}
    return {name: value for name, value in sound.items() if value is not None}


def signed(issuer: Issuer, *, typ: str | None = "at+jwt", headers: Any = None, **changed: Any) -> str:
    """A token that this issuer's key has signed."""
    return jwt.encode(claims(**changed), issuer._key, algorithm="EdDSA", headers={"typ": typ, **(headers or {})})


def part(document: Any) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def with_header(issuer: Issuer, header: Any, payload: Any = None) -> str:
    """Any header and payload, truly signed: what a careless library would sign."""
    text = f"{part(header)}.{part(payload or claims())}"
    return f"{text}.{part(issuer._key.sign(text.encode()))}"


def unsigned(issuer: Issuer, alg: str) -> str:
    return f"{part({'alg': alg, 'typ': 'at+jwt'})}.{part(claims())}."


def hs256(issuer: Issuer) -> str:
    """Signed with the public key as if it were a shared secret."""
    import hashlib
    import hmac

    text = f"{part({'alg': 'HS256', 'typ': 'at+jwt'})}.{part(claims())}"
    public = issuer._key.public_key()
    key = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"{text}.{part(hmac.new(key, text.encode(), hashlib.sha256).digest())}"


def cut(issuer: Issuer, count: int) -> str:
    return signed(issuer)[:-count]


def swapped_claims(issuer: Issuer) -> str:
    head, _, signature = signed(issuer).split(".")
    return f"{head}.{part(claims(sub='u-chair'))}.{signature}"


FORGERIES: dict[str, Callable[[Issuer], str]] = {
    "alg none": lambda i: unsigned(i, "none"),
    "alg None": lambda i: unsigned(i, "None"),
    "alg empty": lambda i: unsigned(i, ""),
    "alg missing": lambda i: with_header(i, {"typ": "at+jwt"}),
    "alg a number": lambda i: with_header(i, {"alg": 1, "typ": "at+jwt"}),
    "alg a list": lambda i: with_header(i, {"alg": ["EdDSA"], "typ": "at+jwt"}),
    "alg ES256": lambda i: with_header(i, {"alg": "ES256", "typ": "at+jwt"}),
    "alg RS256": lambda _: jwt.encode(
        claims(), generate_private_key(65537, 2048), algorithm="RS256", headers={"typ": "at+jwt"}
    ),
    "HS256 with the public key": hs256,
    "another key": lambda _: jwt.encode(
        claims(), Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"typ": "at+jwt"}
    ),
    "another key in the header": lambda _: jwt.encode(
        claims(),
        Ed25519PrivateKey.generate(),
        algorithm="EdDSA",
        headers={"typ": "at+jwt", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}, "jku": "https://evil.example"},
    ),
    "no signature": lambda i: signed(i).rpartition(".")[0] + ".",
    "signature left out": lambda i: signed(i).rpartition(".")[0],
    "signature cut by 1": lambda i: cut(i, 1),
    "signature cut by 20": lambda i: cut(i, 20),
    "signature twice": lambda i: signed(i) + "." + signed(i).rpartition(".")[2],
    "claims of another": swapped_claims,
    "expired": lambda i: signed(i, exp=int(time.time()) - 1),
    "expired long ago": lambda i: signed(i, exp=1),
    "not yet valid": lambda i: signed(i, nbf=int(time.time()) + 600),
    "issued in the future": lambda i: signed(i, iat=int(time.time()) + 600),
    "no exp": lambda i: signed(i, exp=None),
    "exp a text": lambda i: with_header(i, {"alg": "EdDSA", "typ": "at+jwt"}, claims(exp="tomorrow")),
    "exp endless": lambda i: with_header(
        i, {"alg": "EdDSA", "typ": "at+jwt"}, json.dumps(claims()).replace('"exp": ', '"exp": 1e400, "x": ').encode()
    ),
    "exp a list": lambda i: with_header(i, {"alg": "EdDSA", "typ": "at+jwt"}, claims(exp=[9999999999])),
    "no iat": lambda i: signed(i, iat=None),
    "another audience": lambda i: signed(i, aud="elsewhere"),
    "no audience": lambda i: signed(i, aud=None),
    "another issuer": lambda i: signed(i, iss="https://evil.example"),
    "issuer with a slash": lambda i: signed(i, iss=ISSUER + "/"),
    "no issuer": lambda i: signed(i, iss=None),
    "typ JWT": lambda i: signed(i, typ="JWT"),
    "typ id token": lambda i: signed(i, typ="id+jwt"),
    "no typ": lambda i: with_header(i, {"alg": "EdDSA"}),
    "no sub": lambda i: signed(i, sub=None),
    "sub empty": lambda i: signed(i, sub=""),
    "sub a number": lambda i: with_header(i, {"alg": "EdDSA", "typ": "at+jwt"}, claims(sub=7)),
    "sub too long": lambda i: signed(i, sub="u" * 121),
    "sub a list": lambda i: with_header(i, {"alg": "EdDSA", "typ": "at+jwt"}, claims(sub=["u-clerk"])),
    "kid of another key": lambda i: signed(i, headers={"kid": "another"}),
    "kid a number": lambda i: with_header(i, {"alg": "EdDSA", "typ": "at+jwt", "kid": 7}),
    "kid a list": lambda i: with_header(i, {"alg": "EdDSA", "typ": "at+jwt", "kid": [i.kid]}),
    "critical extension": lambda i: signed(i, headers={"crit": ["office"], "office": "minister"}),
    "a huge token": lambda i: signed(i, more="x" * 100_000),
    "a token in a token": lambda i: with_header(i, {"alg": "EdDSA", "typ": "at+jwt"}, signed(i).encode()),
    "claims a list": lambda i: with_header(i, {"alg": "EdDSA", "typ": "at+jwt"}, [claims()]),
    "claims no json": lambda i: with_header(i, {"alg": "EdDSA", "typ": "at+jwt"}, b"\xff\xfe"),
    "header no json": lambda i: with_header(i, b"\xff\xfe"),
    "header a list": lambda i: with_header(i, [1]),
    "empty": lambda _: "",
    "dots": lambda _: "..",
    "rubbish": lambda _: "not.a.token",
    "NUL": lambda i: signed(i) + "\x00",
    "a space before": lambda i: " " + signed(i),
}


@pytest.mark.parametrize("forged", FORGERIES)
def test_a_forged_token_is_none(forged: str, issuer: Issuer, verifier: Verifier) -> None:
    with pytest.raises(Unauthenticated) as caught:
        verifier.subject("Bearer " + FORGERIES[forged](issuer))
    assert caught.value.args == ()


def test_every_bit_of_the_signature_counts(issuer: Issuer, verifier: Verifier) -> None:
    head, _, signature = signed(issuer).rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1 << place % 8
        with pytest.raises(Unauthenticated):
            verifier.subject(f"Bearer {head}.{part(bytes(changed))}")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic dTpw", "bearer x", "Token x"])
def test_no_token_is_no_subject(header: str | None, verifier: Verifier) -> None:
    with pytest.raises(Unauthenticated):
        verifier.subject(header)


def test_a_sound_token_names_its_subject(issuer: Issuer, verifier: Verifier) -> None:
    for _ in range(2):
        assert verifier.subject("Bearer " + issuer.token("u-clerk")) == "u-clerk"


def test_a_token_that_was_good_is_none_once_expired(issuer: Issuer, verifier: Verifier) -> None:
    now = time.time()
    token = signed(issuer, exp=int(now) - 1)
    verifier._good[token] = ("u-clerk", now - 1)  # as remembered from when it was good
    with pytest.raises(Unauthenticated):
        verifier.subject(f"Bearer {token}")


def test_a_token_of_another_folders_issuer_is_none(tmp_path: Path, verifier: Verifier) -> None:
    other = Issuer(tmp_path, ISSUER, AUDIENCE, 1)
    with pytest.raises(Unauthenticated):
        verifier.subject("Bearer " + other.token("u-clerk"))


def test_the_key_outlives_a_restart_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    token = Issuer(tmp_path, ISSUER, AUDIENCE, 1).token("u-clerk")
    assert Issuer(tmp_path, ISSUER, AUDIENCE, 1).verifier().subject("Bearer " + token) == "u-clerk"
    assert (tmp_path / "issuer.json").stat().st_mode & 0o077 == 0


# Offices


def region(name: str) -> RegionRegistered:
    return RegionRegistered(region=name, codes=RegionCodes(mois=name[:2]), name=LABEL, valid_from=SINCE, source="V")


@pytest.fixture(scope="module")
def directory() -> Directory:
    """Two councils, an organisation; offices held by one, by two, formerly, later, and two by one subject."""
    return Directory(
        [
            region("gangwon"),
            region("jeonnam"),
            region("busan"),
            RegionSucceeded(region="jeonnam", successors=("gwangju",), valid_from=date(2022, 7, 1), source="V"),
            region("gwangju"),
            body("council-gangwon", regions=("gangwon",)),
            body("council-jeonnam", regions=("jeonnam",)),
            body("org-gangwon", kind="organisation", regions=("gangwon",)),
            body("forum", kind="forum"),
            office("gangwon.secretary", "council-gangwon"),
            office("gangwon.chair", "council-gangwon", "chair"),
            office("jeonnam.secretary", "council-jeonnam"),
            office("org.officer", "org-gangwon", "officer"),
            office("forum.secretary", "forum"),
            holder("u-1", "gangwon.secretary"),
            holder("u-2", "gangwon.secretary"),
            holder("u-2", "gangwon.chair"),
            holder("u-former", "gangwon.chair"),
            OfficeHolderLeft(office="gangwon.chair", subject="u-former", valid_from=TODAY, source="V"),
            holder("u-later", "gangwon.chair", TODAY + timedelta(days=1)),
            holder("u-jeonnam", "jeonnam.secretary"),
            holder("u-org", "org.officer"),
        ]
    )


def test_I_9_the_only_office_need_not_be_named(directory: Directory) -> None:
    assert act_as(directory, TODAY, "u-1", None) == Actor(
        user="u-1", office="gangwon.secretary", body="council-gangwon"
    )


def test_I_9_two_holders_of_one_office_may_both_act(directory: Directory) -> None:
    assert {act_as(directory, TODAY, user, "gangwon.secretary").user for user in ("u-1", "u-2")} == {"u-1", "u-2"}


def test_I_9_who_holds_two_offices_names_one(directory: Directory) -> None:
    with pytest.raises(Refused, match="Maru-Office") as caught:
        act_as(directory, TODAY, "u-2", None)
    assert (caught.value.rule, caught.value.kind) == ("I-9", "input")
    for named in ("gangwon.secretary", "gangwon.chair"):
        assert act_as(directory, TODAY, "u-2", named).office == named


@pytest.mark.parametrize(
    ("subject", "wanted", "because"),
    [
        ("u-former", "gangwon.chair", "only its holder on the day"),
        ("u-former", None, "hold no such office"),
        ("u-later", "gangwon.chair", "only its holder on the day"),
        ("u-1", "gangwon.chair", "hold no such office"),
        ("u-1", "no.such-office", "hold no such office"),
        ("u-nobody", None, "hold no such office"),
    ],
)
def test_I_9_only_the_holder_on_the_day_acts(
    directory: Directory, subject: str, wanted: str | None, because: str
) -> None:
    with pytest.raises(Refused, match=because) as caught:
        act_as(directory, TODAY, subject, wanted)
    assert (caught.value.rule, caught.value.kind) == ("I-9", "authority")
    assert caught.value.ko


def test_I_9_the_former_holder_acted_until_the_day_and_the_new_one_from_it(directory: Directory) -> None:
    assert act_as(directory, TODAY - timedelta(days=1), "u-former", "gangwon.chair")
    assert act_as(directory, TODAY + timedelta(days=1), "u-later", "gangwon.chair")


# The policy table


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., PolicyTable]:
    """Reads a table of these rows."""

    def read(*rows: str) -> PolicyTable:
        lines = ["action,body_kind,role,scope,stages,rule,note", *rows]
        (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return PolicyTable.read(tmp_path)

    return read


def may(table: PolicyTable, directory: Directory, by: str, action: str, **resource: Any) -> str:
    """``allowed`` with the rule, or the rule and kind of the refusal."""
    of = directory.known_office(by)
    assert of is not None
    actor = Actor(user="u", office=by, body=of.body)
    try:
        return "allowed " + table.authorise(directory, TODAY, actor, action, Resource(**resource)).rule
    except Refused as refusal:
        return f"{refusal.rule} {refusal.kind}"


def test_an_action_without_a_row_is_denied_to_everybody(table: Any, directory: Directory) -> None:
    policy = table("read,*,*,any,,I-9,")
    assert may(policy, directory, "gangwon.secretary", "write") == "I-9 authority"
    assert policy.actions == {"read"}
    assert may(PolicyTable([]), directory, "gangwon.secretary", "read") == "I-9 authority"


@pytest.mark.parametrize(
    ("row", "office", "outcome"),
    [
        ("act,council,secretary,any,,T-1,", "gangwon.secretary", "allowed T-1"),
        ("act,council,secretary,any,,T-1,", "gangwon.chair", "I-9 authority"),
        ("act,council,secretary,any,,T-1,", "forum.secretary", "I-9 authority"),
        ("act,council,*,any,,T-1,", "gangwon.chair", "allowed T-1"),
        ("act,*,secretary,any,,T-1,", "forum.secretary", "allowed T-1"),
        ("act,*,*,any,,T-1,", "org.officer", "allowed T-1"),
    ],
)
def test_a_row_is_for_a_kind_of_body_and_a_role(
    table: Any, directory: Directory, row: str, office: str, outcome: str
) -> None:
    assert may(table(row), directory, office, "act") == outcome


@pytest.mark.parametrize(
    ("scope", "office", "resource", "outcome"),
    [
        ("any", "gangwon.secretary", {}, "allowed T-1"),
        ("body", "gangwon.secretary", {"body": "council-gangwon"}, "allowed T-1"),
        ("body", "gangwon.secretary", {"body": "council-jeonnam"}, "T-1 authority"),
        ("body", "gangwon.secretary", {}, "T-1 authority"),
        ("organisation", "org.officer", {"organisation": "org-gangwon"}, "allowed T-1"),
        ("organisation", "org.officer", {"organisation": "org-busan"}, "T-1 authority"),
        ("organisation", "org.officer", {}, "T-1 authority"),
        ("office", "org.officer", {"office": "org.officer"}, "allowed T-1"),
        ("office", "org.officer", {"office": "gangwon.secretary"}, "T-1 authority"),
        ("office", "org.officer", {}, "T-1 authority"),
        ("region", "gangwon.secretary", {"regions": ("gangwon",)}, "allowed T-1"),
        ("region", "gangwon.secretary", {"regions": ("busan", "gangwon")}, "allowed T-1"),
        ("region", "gangwon.secretary", {"regions": ("busan",)}, "T-1 authority"),
        ("region", "gangwon.secretary", {"regions": ()}, "T-1 authority"),
        ("region", "gangwon.secretary", {"nationwide": True}, "allowed T-1"),
        # I-16: a region that has ended means what it has become, on both sides.
        ("region", "jeonnam.secretary", {"regions": ("gwangju",)}, "allowed T-1"),
        ("region", "jeonnam.secretary", {"regions": ("jeonnam",)}, "allowed T-1"),
        ("region", "forum.secretary", {"regions": ("gangwon",)}, "T-1 authority"),
    ],
)
def test_a_row_reaches_as_far_as_its_scope(
    table: Any, directory: Directory, scope: str, office: str, resource: Any, outcome: str
) -> None:
    assert may(table(f"act,*,*,{scope},,T-1,"), directory, office, "act", **resource) == outcome


@pytest.mark.parametrize(
    ("stage", "outcome"),
    [("open", "allowed T-1"), ("under_review", "allowed T-1"), ("closed", "T-1 rule"), (None, "T-1 rule")],
)
def test_a_row_is_for_its_stages(table: Any, directory: Directory, stage: str | None, outcome: str) -> None:
    policy = table("act,*,*,any,open;under_review,T-1,")
    assert may(policy, directory, "gangwon.secretary", "act", stage=stage) == outcome


def test_one_fitting_row_is_enough_whatever_the_others_say(table: Any, directory: Directory) -> None:
    policy = table("act,council,*,body,,T-1,", "act,council,secretary,any,,T-2,")
    assert may(policy, directory, "gangwon.secretary", "act", body="forum") == "allowed T-2"
    assert may(policy, directory, "gangwon.chair", "act", body="forum") == "T-1 authority"


def test_lists_are_for_all_regions_or_those_of_the_actors_body(table: Any, directory: Directory) -> None:
    policy = table("list,council,*,any,,I-9,", "list,organisation,*,region,,I-9,")
    secretary = Actor(user="u", office="gangwon.secretary", body="council-gangwon")
    officer = Actor(user="u", office="org.officer", body="org-gangwon")
    assert policy.regions_allowed(directory, TODAY, secretary, "list") is None
    assert policy.regions_allowed(directory, TODAY, officer, "list") == ("gangwon",)


def test_an_office_of_another_day_may_nothing(table: Any, directory: Directory) -> None:
    actor = Actor(user="u", office="gangwon.secretary", body="council-gangwon")
    with pytest.raises(Refused, match="may not do that"):
        table("act,*,*,any,,T-1,").authorise(directory, date(2020, 1, 1), actor, "act", Resource())


@pytest.mark.parametrize("bad", ["act,*,*,everywhere,,T-1,", "act,*,*,any,,,", "act,*,*,,,T-1,"])
def test_a_bad_row_is_named_with_file_and_line(table: Any, bad: str) -> None:
    with pytest.raises(ValueError, match=r"^rows\.csv:3: "):
        table("read,*,*,any,,I-9,", bad)
