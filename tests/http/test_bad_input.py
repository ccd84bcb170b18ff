"""Bad input on every route under real uvicorn: always a 4xx problem, never an echo, nothing stored (section 2.1)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.runtime.declare import CommandRoute, ReadRoute
from tests.http.conftest import World
from tests.http.samples import COMMANDS, READS, sample, unfit

MARKER = "planted-7f3aq"
"""What no answer may say again."""
OFFICE = "planning-group.secretary"


def assert_refused(answer: httpx.Response, *statuses: int) -> None:
    """A 4xx problem document in both languages that says nothing of what was sent."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    if statuses:
        assert answer.status_code in statuses, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail", "ko", "en"} <= set(problem)
    assert problem["status"] == answer.status_code
    assert MARKER not in answer.text
    assert not any(MARKER in value for value in answer.headers.values())
    assert answer.elapsed.total_seconds() < 5


@pytest.fixture(autouse=True)
def nothing_is_stored(world: World) -> Iterator[None]:
    """No event and no command more than before."""
    assert world.system.idle()
    before = world.stored()
    yield
    assert world.stored() == before


def post(world: World, route: CommandRoute, content: bytes, **headers: str | None) -> httpx.Response:
    """A command with a right head but for what ``headers`` say; ``None`` leaves one out."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    head = {**world.headers(OFFICE, version=1), "Content-Type": "application/json", **named}
    kept = {name: value for name, value in head.items() if value is not None}
    return world.http.post(world.path(route.path), content=content, headers=kept)


def valid(route: CommandRoute) -> bytes:
    return json.dumps(sample(route)).encode()


def members(route: CommandRoute) -> str:
    """The members of a body that fits, without its braces, ready for one more."""
    inner = json.dumps(sample(route))[1:-1]
    return inner + "," if inner else ""


COMMAND = pytest.mark.parametrize("route", COMMANDS, ids=lambda route: route.operation_id)


# The strict reader


def _raw(route: CommandRoute) -> list[bytes]:
    head = members(route)
    values = [
        "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9007199254740993", "1" * 5000, "01", "+1", "0x10", "tru",
        "'a'", r'"\ud800"', r'"\udc00\ud800"', r'"a\u0000b"', r'"\x41"', "[" * 30 + "]" * 30,
        '{"a":' * 30 + "1" + "}" * 30, '{"_type_": 1}', '{"a": [{"_data_": 1}]}', '{"__class__": 1}',
        '{"__proto__": {}}', '{"$ref": "#"}', '{"a": 1, "a": 1}', "1 /* */", "1,",
    ]  # fmt: skip
    keys = [r'"\ud800"', r'"a\u0000"', '"_type_"', '"_data_"', '"__class__"', '"__proto__"', '"$ref"']
    whole = [
        b"", b" ", b"null", b"[]", b"[{}]", b'"text"', b"7", b"true", b"{", b"}", b"{} {}", b"{}x", b"\x00",
        b"\xef\xbb\xbf{}", "{}".encode("utf-16"), "{}".encode("utf-16-le"), b'{"a": "\xff\xfe"}',
        b'{"a": "\xed\xa0\x80"}', b'{"a": "\xc0\xaf"}', b"[" * 100_000, b'{"a":' * 50_000,
        b'{"text": "' + b"x" * (256 * 1024) + b'"}', f'{{{MARKER}: 1}}'.encode(), f'{{"{MARKER}": '.encode(),
    ]  # fmt: skip
    return [
        *whole,
        *(f'{{{head}"{MARKER}": {value}}}'.encode() for value in values),
        *(f'{{{head}{key}: "{MARKER}"}}'.encode() for key in keys),
        f'{{{head}"{MARKER}": 1, "{MARKER}": 2}}'.encode(),
    ]


@COMMAND
@pytest.mark.capability("L1")
def test_a_body_that_is_no_strict_json(world: World, route: CommandRoute) -> None:
    for content in _raw(route):
        assert_refused(post(world, route, content), 400, 413, 422)


@COMMAND
def test_a_body_that_does_not_fit(world: World, route: CommandRoute) -> None:
    for _, body in unfit(route, MARKER):
        answer = post(world, route, json.dumps(body).encode())
        assert_refused(answer, 422)
        assert answer.json()["errors"]


@COMMAND
def test_oversize_without_a_length(world: World, route: CommandRoute) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"text": "'
        for _ in range(40):
            yield b"x" * 16_384
        yield b'"}'

    headers = {**world.headers(OFFICE, version=1), "Content-Type": "application/json"}
    assert_refused(world.http.post(world.path(route.path), content=chunks(), headers=headers), 413)


@COMMAND
def test_a_body_of_another_kind(world: World, route: CommandRoute) -> None:
    for kind in (
        "text/plain",
        f"application/{MARKER}",
        "application/json; charset=utf-16",
        "multipart/form-data",
        None,
    ):
        assert_refused(post(world, route, valid(route), Content_Type=kind), 415)
    for coding in ("gzip", "br", MARKER):
        assert_refused(post(world, route, valid(route), Content_Encoding=coding), 415)


# Head, path and query


@COMMAND
def test_a_bad_idempotency_key(world: World, route: CommandRoute) -> None:
    for key in (None, "", "short", "x" * 129, f"{MARKER} {MARKER}", f"{MARKER}\t{MARKER}"):
        assert_refused(post(world, route, valid(route), Idempotency_Key=key), 400)


@COMMAND
def test_I_18_a_bad_if_match(world: World, route: CommandRoute) -> None:
    if not route.if_match:
        assert route.status == 201 or route.operation_id in PINNED
        return
    for value in (None, "", MARKER, '"999999"', 'W/"1"', '"-1"', '"1', '"0"', f'"{MARKER}"'):
        # An office that may not act at all is told so first.
        assert_refused(post(world, route, valid(route), If_Match=value), 403, 404, 409, 412, 428)


PINNED = {
    "giveOpinion", "recordStatement", "markNoticeRead", "shiftClock",
    *(route.operation_id for route in COMMANDS if route.path.startswith("/v1/reference/")),
}  # fmt: skip
"""Commands that pin something else than the aggregate's version (a revision), or that only ever add a dated fact."""


@COMMAND
def test_a_malformed_position(world: World, route: CommandRoute) -> None:
    for value in (
        "", MARKER, "issues", "issues:1:2", "issues:1:2:3:4", "issues:a:b:c", "issues:-1:0:1", "issues:1:12:1",
        f"{MARKER}:1:1:1", "issues:1:1:" + "9" * 30, ",", "issues:1:1:1;", ",".join(["issues:1:1:1"] * 11),
        "issues:999999999999:1:1",
    ):  # fmt: skip
        if value == "issues:999999999999:1:1" and not route.path.startswith("/v1/issues"):
            continue  # an epoch that only the issues service can know to be none of its own
        assert_refused(post(world, route, valid(route), Maru_Position=value), 400)


@COMMAND
def test_a_bad_office(world: World, route: CommandRoute) -> None:
    for office in ("", MARKER + "!", "x" * 200, "../..", f"{OFFICE} {MARKER}"):
        assert_refused(post(world, route, valid(route), Maru_Office=office), 400)
    for office in (MARKER, "council-gangwon.secretary"):
        assert_refused(post(world, route, valid(route), Maru_Office=office), 403)


@COMMAND
def test_an_unknown_parameter(world: World, route: CommandRoute) -> None:
    headers = {**world.headers(OFFICE, version=1), "Content-Type": "application/json"}
    for query in (MARKER, f"{MARKER}=1", "limit=5", f"x={MARKER}&y=%00", "%ff=1"):
        answer = world.http.post(f"{world.path(route.path)}?{query}", content=valid(route), headers=headers)
        assert_refused(answer, 400)


BAD_IDS = (
    f"{MARKER}!", "%00", "%0a", "%ff%fe", "%2e%2e", "..%2f..", "%20", "x" * 121, "-a", "a%2fb", "'%20OR%201=1--",
    "%7B%7B7*7%7D%7D", "%ED%95%9C", "$%7Bjndi:x%7D",
)  # fmt: skip


@pytest.mark.parametrize(
    "route", [route for route in COMMANDS if "{" in route.path], ids=lambda route: route.operation_id
)
def test_a_bad_id_in_the_path(world: World, route: CommandRoute) -> None:
    headers = {**world.headers(OFFICE, version=1), "Content-Type": "application/json"}
    for path in _bad_paths(world, route.path):
        assert_refused(world.http.post(path, content=valid(route), headers=headers), 400, 403, 404, 405)


@pytest.mark.parametrize(
    "route", [route for route in COMMANDS if "{" in route.path], ids=lambda route: route.operation_id
)
def test_an_id_of_nothing(world: World, route: CommandRoute) -> None:
    for name in _names(route.path):
        path = world.path(route.path, **{name: "99999"})
        headers = {**world.headers(OFFICE, version=1), "Content-Type": "application/json"}
        assert_refused(world.http.post(path, content=valid(route), headers=headers), 403, 404, 409, 412)


def _names(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _bad_paths(world: World, template: str) -> Iterator[str]:
    for name in _names(template):
        for bad in BAD_IDS:
            yield world.path(template, **{name: bad})


@COMMAND
def test_another_method(world: World, route: CommandRoute) -> None:
    readable = {one.path for one in READS}
    for method in ("PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", *(() if route.path in readable else ("GET", "HEAD"))):
        answer = world.http.request(method, world.path(route.path), headers=world.headers(OFFICE))
        if method == "HEAD":
            assert answer.status_code == 405
        else:
            assert_refused(answer, 405)


def test_an_unknown_path(world: World) -> None:
    for path in (f"/v1/{MARKER}", f"/{MARKER}", "/v1", "/v2/issues", "/v1/issues/1/2/3/4/5"):
        assert_refused(world.http.get(path, headers=world.headers(OFFICE), follow_redirects=True), 404, 405)


# Reads


@pytest.mark.parametrize("route", READS, ids=lambda route: route.operation_id)
def test_a_bad_read(world: World, route: ReadRoute) -> None:
    path, headers = world.path(route.path), world.headers(OFFICE)
    for query in (MARKER, f"{MARKER}=1", f"limit_={MARKER}"):
        assert_refused(world.http.get(f"{path}?{query}", headers=headers), 400)
    for value in ("", MARKER, "issues:1:2", f"{MARKER}:1:1:1", "issues:1:12:1"):
        assert_refused(world.http.get(path, headers={**headers, "Maru-Position": value}), 400)
    for bad in _bad_paths(world, route.path):
        assert_refused(world.http.get(bad, headers=headers), 400, 403, 404)
    for office in (MARKER + "!", "x" * 200):
        assert_refused(world.http.get(path, headers={**headers, "Maru-Office": office}), 400)


@pytest.mark.parametrize(
    "route", [route for route in READS if "{" not in route.path], ids=lambda route: route.operation_id
)
def test_a_bad_page(world: World, route: ReadRoute) -> None:
    headers = world.headers(OFFICE)
    if not world.http.get(route.path, headers=headers).json().keys() >= {"items", "next"}:
        return  # one thing, no list
    for query in ("limit=0", "limit=201", "limit=-1", "limit=1e2", f"limit={MARKER}", "limit=", "limit=%00"):
        assert_refused(world.http.get(f"{route.path}?{query}", headers=headers), 400)
    for cursor in ("", MARKER, "a.b", "%00", "eyJhIjoxfQ.x.y", "x" * 3000):
        assert_refused(world.http.get(f"{route.path}?cursor={cursor}", headers=headers), 400)


def test_a_cursor_of_another_list(world: World) -> None:
    headers = world.headers(OFFICE)
    page = world.http.get("/v1/reference/bodies?limit=1", headers=headers).json()
    cursor = httpx.URL(page["next"]).params["cursor"]
    assert_refused(world.http.get("/v1/reference/offices", params={"cursor": cursor}, headers=headers), 400)


def test_a_day_that_is_none(world: World) -> None:
    for day in ("", MARKER, "2023-02-30", "20230104", "2023-1-4", "0000-00-00", "2023-01-04T00:00:00"):
        answer = world.http.get("/v1/reference/regions", params={"on": day}, headers=world.headers(OFFICE))
        assert_refused(answer, 422)


# Tokens


def _forged(world: World) -> dict[str, str]:
    """Tokens with one fault each, made from a good one and signed with the issuer's own key where that is not it."""
    kept = json.loads((world.system.databases.folder / "issuer.json").read_text())
    key = serialization.load_pem_private_key(kept["key"].encode(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    now = int(time.time())
    claims: dict[str, Any] = jwt.decode(world.maru.token(OFFICE)[0], options={"verify_signature": False})
    typed = {"typ": "at+jwt"}

    def signed(changed: Mapping[str, Any], without: Sequence[str] = (), **head: Any) -> str:
        made = {name: value for name, value in {**claims, **changed}.items() if name not in without}
        return jwt.encode(made, key, algorithm="EdDSA", headers={**typed, **head})

    good = signed({})
    headers = {"Authorization": f"Bearer {good}", "Maru-Office": OFFICE}
    assert world.http.get("/v1/issues", headers=headers).status_code == 200
    start, _, signature = good.rpartition(".")
    flipped = ("B" if signature[0] != "B" else "C") + signature[1:]
    return {
        "word": MARKER,
        "dots": "..",
        "half": good[: len(good) // 2],
        "no signature": f"{start}.",
        "flipped": f"{start}.{flipped}",
        "cut": good[:-4],
        "none": jwt.encode(claims, "", algorithm="none", headers=typed),
        "HS256 with the public key": jwt.encode(claims, public, algorithm="HS256", headers=typed),
        "another key": jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers=typed),
        "another type": signed({}, typ="JWT"),
        "expired": signed({"exp": now - 3600, "iat": now - 7200}),
        "not yet": signed({"nbf": now + 3600}),
        "no exp": signed({}, without=["exp"]),
        "exp as text": signed({"exp": "tomorrow"}),
        "no sub": signed({}, without=["sub"]),
        "no iat": signed({}, without=["iat"]),
        "no aud": signed({}, without=["aud"]),
        "no iss": signed({}, without=["iss"]),
        "another audience": signed({"aud": MARKER}),
        "another issuer": signed({"iss": MARKER}),
        "empty subject": signed({"sub": ""}),
        "long subject": signed({"sub": MARKER + "x" * 200}),
        "long": signed({"more": "x" * 8000}),
    }


@pytest.mark.parametrize("route", [*COMMANDS, *READS], ids=lambda route: route.operation_id)
def test_no_token_or_a_forged_one(world: World, route: CommandRoute | ReadRoute) -> None:
    method = "POST" if isinstance(route, CommandRoute) else "GET"
    content = valid(route) if isinstance(route, CommandRoute) else b""
    base = {**world.headers(OFFICE, version=1), "Content-Type": "application/json"}
    del base["Authorization"]
    token = world.maru.token(OFFICE)[0]
    wrong: list[str | None] = [None, token, f"Basic {token}", f"bearer {token}", f"Bearer  {token}"]
    wrong += [f"Bearer {forged}" for forged in _forged(world).values()]
    answers = set()
    for value in wrong:
        headers = base if value is None else {**base, "Authorization": value}
        answer = world.http.request(method, world.path(route.path), content=content, headers=headers)
        assert_refused(answer, 401)
        answers.add(answer.text)
    assert len(answers) == 1  # whatever is wrong, the answer is the same


def test_there_are_at_least_200_bad_bodies() -> None:
    assert sum(len(_raw(route)) + len(list(unfit(route, MARKER))) for route in COMMANDS) >= 200
