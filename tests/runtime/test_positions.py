"""Position tokens over HTTP: a request that carries one is answered from a state that has reached it, or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from shared.runtime import settings
from shared.runtime.codec import slot_of
from shared.runtime.databases import Databases
from shared.runtime.declare import Act, Facts, Recorded, Service, Wait
from shared.runtime.system import System, opened
from tests.places import on_postgresql, options
from tests.runtime.pair import OFFICE, copy_all, pair, reference_folder


class Gate:
    """Holds a fold or a reaction until it is opened: the test, not the clock, says who is behind."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()


@contextmanager
def running(place: Databases, services: tuple[Service, Service]) -> Iterator[tuple[System, httpx.Client]]:
    """Both services under real uvicorn, with a client that acts as the clerk."""
    reference = reference_folder(place.folder / "reference")
    with opened(services, settings.load(**options(place), reference=reference, port=0)) as system:
        system.seed()
        assert system.idle()
        url = system.serve()
        with httpx.Client(base_url=url, timeout=30) as client:
            token = client.get(f"/dev/token/{OFFICE}").json()["token"]
            client.headers["Authorization"] = f"Bearer {token}"
            yield system, client


_number = iter(range(10_000))


def make(client: httpx.Client, ledger: str, text: str, **headers: str) -> httpx.Response:
    key = f"test-key-{next(_number)}"
    return client.post(f"/v1/ledgers/{ledger}", json={"text": text}, headers={"Idempotency-Key": key, **headers})


def at(*tokens: str, wait: int | None = None) -> dict[str, str]:
    headers = {"Maru-Position": ",".join(tokens)}
    return headers if wait is None else {**headers, "Prefer": f"wait={wait}"}


@pytest.fixture(scope="module")
def folds() -> Gate:
    return Gate()


@pytest.fixture(scope="module")
def reactions() -> Gate:
    return Gate()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    folder = tmp_path_factory.mktemp("positions")
    if request.param == "sqlite":
        yield Databases(folder)
    else:
        with on_postgresql(request.getfixturevalue("postgres"), folder) as databases:
            yield databases


@pytest.fixture(scope="module")
def system(place: Databases, folds: Gate, reactions: Gate) -> Iterator[tuple[System, httpx.Client]]:
    def reaction(heard: Recorded, facts: Facts) -> Sequence[Act]:
        if not reactions.open.is_set():
            raise Wait("the gate")
        return copy_all(heard, facts)

    with running(place, pair(reaction)) as both:
        for hosted in both[0].hosted:
            step = hosted.views_follower.step

            def held(step: Any = step) -> bool:
                return step() if folds.open.is_set() else False

            # The loop calls what it was given: hold that.
            (loop,) = [loop for loop in hosted.loops if loop.name.endswith("-views")]
            loop._step = held
        yield both


@pytest.fixture
def client(system: tuple[System, httpx.Client], folds: Gate, reactions: Gate) -> Iterator[httpx.Client]:
    yield system[1]
    folds.open.set()
    reactions.open.set()


def wake(system: tuple[System, httpx.Client]) -> None:
    for hosted in system[0].hosted:
        for loop in hosted.loops:
            loop.wake.set()


def test_an_answer_names_the_position_of_its_last_event(client: httpx.Client) -> None:
    answer = make(client, "named", "one")
    assert answer.status_code == 201
    service, _, slot, position = answer.headers["Maru-Position"].split(":")
    assert (service, int(slot)) == ("routing", slot_of("named"))
    assert int(position) == answer.json()["events"][-1]["position"]
    assert answer.json()["position"] == answer.headers["Maru-Position"]


def test_a_command_that_says_nothing_new_names_its_streams_head(client: httpx.Client) -> None:
    first, again = make(client, "twice", "one"), make(client, "twice", "one")
    assert again.json()["events"] == []
    assert again.headers["Maru-Position"] == first.headers["Maru-Position"]


def test_a_read_with_the_own_token_is_never_older_than_the_write(client: httpx.Client) -> None:
    for number in range(1, 40):
        token = make(client, "fresh", f"text {number}").headers["Maru-Position"]
        read = client.get("/v1/ledgers/fresh", headers=at(token))
        assert (read.status_code, read.json()["entries"]) == (200, number)


def test_a_read_with_a_foreign_token_shows_the_answer_to_it(client: httpx.Client) -> None:
    """Carried, answered by the reaction, and folded: all of it."""
    for number in range(1, 40):
        token = make(client, "far", f"text {number}").headers["Maru-Position"]
        read = client.get("/v1/copies/far", headers=at(token))
        assert read.status_code == 200
        assert (read.json()["entries"], read.json()["copied"]) == (number, number)


def test_a_read_names_the_position_that_it_shows(client: httpx.Client) -> None:
    written = make(client, "shown", "one").headers["Maru-Position"]
    read = client.get("/v1/ledgers/shown", headers=at(written))
    assert read.headers["Maru-Position"] == written
    assert client.get("/v1/copies/shown", headers=at(written)).headers["Maru-Position"].startswith("mirror:")


def test_the_own_token_waits_until_the_view_has_it(
    client: httpx.Client, system: tuple[System, httpx.Client], folds: Gate
) -> None:
    folds.open.clear()
    token = make(client, "slow", "one").headers["Maru-Position"]
    assert client.get("/v1/ledgers/slow").json()["entries"] == 0
    late = client.get("/v1/ledgers/slow", headers=at(token, wait=1))
    assert late.status_code == 503
    assert late.headers["Retry-After"] == "1"
    assert late.headers["Content-Type"] == "application/problem+json"
    folds.open.set()
    wake(system)
    assert client.get("/v1/ledgers/slow", headers=at(token)).json()["entries"] == 1


def test_a_foreign_token_waits_for_the_reaction_not_only_for_the_view(
    client: httpx.Client, system: tuple[System, httpx.Client], reactions: Gate
) -> None:
    reactions.open.clear()
    token = make(client, "held", "one").headers["Maru-Position"]
    assert client.get("/v1/copies/held", headers=at(token, wait=1)).status_code == 503
    reactions.open.set()
    wake(system)
    read = client.get("/v1/copies/held", headers=at(token))
    assert (read.json()["entries"], read.json()["copied"]) == (1, 1)


def test_a_command_waits_too(client: httpx.Client, folds: Gate) -> None:
    folds.open.clear()
    token = make(client, "first", "one").headers["Maru-Position"]
    late = make(client, "second", "one", **at(token, wait=1))
    assert late.status_code == 503
    folds.open.set()


def test_waiting_holds_no_thread(client: httpx.Client, system: tuple[System, httpx.Client], folds: Gate) -> None:
    """More requests wait than there are threads; others are answered meanwhile."""
    folds.open.clear()
    token = make(client, "many", "one").headers["Maru-Position"]
    statuses: list[int] = []

    def wait() -> None:
        with httpx.Client(base_url=system[0].url, headers=client.headers, timeout=60) as other:
            statuses.append(other.get("/v1/ledgers/many", headers=at(token, wait=20)).status_code)

    threads = [threading.Thread(target=wait) for _ in range(60)]
    for thread in threads:
        thread.start()
    waiters = system[0].service("routing").progress._waiters
    end = time.monotonic() + 30
    while len(waiters) < 60 and time.monotonic() < end:
        assert client.get("/v1/ledgers/many").status_code == 200
        waiters = system[0].service("routing").progress._waiters
    started = time.monotonic()
    assert client.get("/v1/ledgers/many").status_code == 200
    assert time.monotonic() - started < 5
    folds.open.set()
    wake(system)
    for thread in threads:
        thread.join()
    assert statuses == [200] * 60


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "routing",
        "routing:1:2",
        "routing:1:2:3:4",
        "routing:1:12:3",
        "routing:1:2:-3",
        "routing:1:2:x",
        "routing:1:2:3,",
        "routing: 1:2:3",
        "ROUTING:1:2:3",
        "routing:1:2:" + "9" * 16,
        "routing:" + "9" * 13 + ":2:3",
        ",".join(["mirror:1:2:3"] * 11),
    ],
)
def test_what_is_no_token_is_refused(client: httpx.Client, token: str) -> None:
    for answer in (client.get("/v1/ledgers/any", headers=at(token)), make(client, "any", "one", **at(token))):
        assert answer.status_code == 400
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["type"] == "/problems/position"
    assert client.get("/v1/ledgers/any").json()["entries"] == 0


def test_a_position_that_the_own_log_does_not_have_is_refused(client: httpx.Client) -> None:
    service, epoch, slot, position = make(client, "ahead", "one").headers["Maru-Position"].split(":")
    for token in (f"{service}:{epoch}:{slot}:{int(position) + 1000}", f"{service}:{int(epoch) - 1}:{slot}:{position}"):
        assert client.get("/v1/ledgers/ahead", headers=at(token)).status_code == 400


def test_a_token_of_a_service_that_is_not_heard_holds_nobody_up(client: httpx.Client) -> None:
    assert client.get("/v1/ledgers/any", headers=at("mirror:1:2:3", "elsewhere:1:2:3")).status_code == 200


def test_a_foreign_position_that_never_comes_ends_in_503(client: httpx.Client) -> None:
    late = client.get("/v1/copies/any", headers=at("routing:1:2:3", wait=1))
    assert (late.status_code, late.headers["Retry-After"]) == (503, "1")


def test_waiting_lasts_no_longer_than_asked(client: httpx.Client) -> None:
    started = time.monotonic()
    tokens = ["routing:1:2:3"] * 5
    assert client.get("/v1/copies/any", headers=at(*tokens, wait=1)).status_code == 503
    assert time.monotonic() - started < 4
