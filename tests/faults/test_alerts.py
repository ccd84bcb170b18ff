"""Each alert of ``deploy/prometheus/alerts.yml``, seen firing and clearing by a real Prometheus over a full system.

Each test causes one or several of them, in an order that leaves the system whole for the next, undoes it as the runbook
says, and waits until they have cleared. The table of what was seen is printed at the end; ``docs/alerts-seen.md`` keeps
one. Durations are ``prometheus.FACTOR`` times shorter than deployed.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest

from services.__main__ import SERVICES
from services.walk import RAISER
from tests.email.office import SENDER
from tests.email.servers import Post, mail_server
from tests.faults.launch import ALWAYS
from tests.faults.load import SUGGESTION, Client, Load, Tally, in_work
from tests.faults.poison import kinds
from tests.faults.prometheus import FACTOR, Prometheus, Watched, committed_rules, shorter, shorter_rules
from tests.faults.system import BOUND, Disturbed, disturbed, until
from tests.faults.test_order import _without as without_issues
from tests.full_form import Running, Seeded
from tests.golden.play import COUNCIL, REASON, ROAD, Play
from tests.kafka.driving import send
from tests.proxy import Proxy

Tell = Callable[[str], None]
OFFICER = f"{RAISER}.officer"
OTHER = "org-jeju"
RULES = [rule["alert"] for rule in committed_rules()["groups"][0]["rules"]]


# The derived rules, in the ordinary lane


def test_the_derived_rules_differ_in_nothing_but_their_durations() -> None:
    rules = committed_rules()
    committed, derived = (document["groups"][0]["rules"] for document in (rules, shorter_rules(rules)))
    assert [rule["alert"] for rule in derived] == RULES
    for one, other in zip(committed, derived, strict=True):
        assert one.keys() == other.keys()
        assert {**one, "for": "", "expr": ""} == {**other, "for": "", "expr": ""}
        words = [rule["expr"].replace("[", " [ ").replace("]", " ] ").split() for rule in (one, other)]
        changed = [pair for pair in zip(*words, strict=True) if pair[0] != pair[1]]
        assert all(after == shorter(before) for before, after in changed)


def test_a_duration_that_cannot_be_shortened_is_refused() -> None:
    assert shorter("5m") == f"{300 // FACTOR}s"
    with pytest.raises(ValueError, match="10s"):
        shorter("10s")


# A system that runs


@pytest.fixture(scope="module")
def system(seeded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disturbed]:
    with disturbed(seeded, tmp_path_factory.mktemp("alerts")) as one:
        yield one


@pytest.fixture(scope="module")
def watched(system: Disturbed) -> Iterator[Watched]:
    """A Prometheus that scrapes every process of the system but the issuer, as deployed."""
    prometheus = Prometheus(system.folder / "prometheus")
    prometheus.start()
    print(f"Prometheus: {prometheus.url} {prometheus.folder}")
    try:
        with Watched(prometheus) as seen:
            yield seen
        print("\n".join(["", *seen.table()]))
    finally:
        prometheus.stop()


@pytest.fixture
def alerts(watched: Watched, system: Disturbed) -> Watched:
    """The same, every process scraped and well."""
    system.restore()
    processes = scraped(system)
    watched.prometheus.aim(processes)
    until(
        lambda: list(watched.prometheus.targets().values()) == ["up"] * len(processes), "not every process is scraped"
    )
    return watched


def scraped(system: Disturbed) -> dict[str, str]:
    """What the committed targets name: gateway, relay and follower of each service, and the observer."""
    return {name: url for name, url in system.full.processes.items() if name != "issuer"}


@contextmanager
def playing(system: Disturbed) -> Iterator[Play]:
    """The offices' acts over HTTP."""
    full = system.full
    running = Running("full", full.urls, [], system.opened, full.databases, None, lambda service: None)
    with Play(running) as play:
        yield play


def ask(client: Client, tally: Tally) -> None:
    """A suggestion and a list, whatever is answered; then a moment of rest."""
    client.send(OFFICER, "POST", "/v1/issues", body=SUGGESTION, key=uuid.uuid4().hex)
    client.send(OFFICER, "GET", "/v1/issues")
    time.sleep(0.1)


def asking(system: Disturbed, name: str) -> Load:
    """Two who ask the issues service again and again, and wait for nobody else."""
    return system.load(name, 2, ask, forgetful=True, patience=0.0)


def suggested(system: Disturbed, name: str) -> None:
    """One suggestion is raised, and nothing is waited for."""
    with system.client(name) as client:
        client.office(OFFICER).post("/v1/issues", SUGGESTION)


# Prometheus itself


@pytest.mark.faults
def test_nothing_is_scraped(watched: Watched, system: Disturbed) -> None:
    name = "MaruNothingScraped"
    watched.prometheus.aim({})
    watched.cause("`targets.yml` names no process", name)
    watched.wait_firing(name)
    watched.undo("targets corrected", name)
    watched.prometheus.aim(scraped(system))
    watched.wait_cleared(name)


# The procedure, notices, records


@pytest.mark.faults
def test_what_is_of_the_procedure(alerts: Watched, system: Disturbed) -> None:
    overdue, refused = "MaruCasesOverdue", "MaruMovesRefused"
    with playing(system) as play:
        late = play.raise_issue()
        play.go_to(play.today() + timedelta(days=30))
        alerts.cause("a case at intake, and the business clock moved on by 30 days", overdue)
        moved = play.raised_and_accepted()
        one, other = play.sitting(COUNCIL, moved), play.sitting(COUNCIL, moved)
        for sitting in (one, other):
            sitting.act("chair", "/items/1/opening")
        one.decide("take_for_review")
        play.settle()
        other.decide("resolved_on_site", reason=REASON)
        play.settle()
        alerts.cause("two sittings decided one case, which had left the second", refused)
        alerts.wait_firing(overdue, refused)
        alerts.undo("the council's secretary accepted the case", overdue)
        play.accept(late)
        alerts.undo("the case was reviewed and moved on", refused)
        play.review(moved, {ROAD: "support"})
        alerts.wait_cleared(overdue, refused)


@pytest.mark.faults
def test_what_is_parked_given_up_and_foreign(alerts: Watched, system: Disturbed) -> None:
    parked, given_up, faulty = "MaruParked", "MaruNoticesGivenUp", "MaruTopicsFaulty"
    post, log = Post(at_recipient={f"{OTHER}.officer": "550 5.1.1 no such user"}), system.service("issues").log
    fuses = system.on_fuses("routing-follower")
    failing = fuses.folder / "failing"
    failing.write_text("")
    with mail_server(post) as port, playing(system) as play:
        settings = {"MARU_SMTP_URL": f"smtp://127.0.0.1:{port}", "MARU_SMTP_FROM": SENDER}
        system.reroute("notifications-follower", settings)
        alerts.cause("the mail server refuses an office's address for good (550)", given_up)
        play.office(f"{OTHER}.officer").post("/v1/issues", SUGGESTION | {"regions": ["jeju"], "raised_by": OTHER})
        alerts.cause("routing's reaction to a suggestion raises (a fault planted in its follower)", parked)
        play.office(OFFICER).post("/v1/issues", SUGGESTION | {"title": ALWAYS})
        alerts.wait_firing(parked, given_up)
        system.reroute("notifications-follower", None)
        alerts.undo("the refused address is not used any more; the rule looks at an hour", given_up)
    alerts.undo("cause mended, `maru parked replay`", parked)
    failing.unlink()
    assert json.loads(system.maru("parked", "replay"))["given_back"]
    alerts.cause("a record in a topic that no relay has made", faulty)
    send(system.full.kafka.bootstrap, kinds(log.after(0, 1)[0], system.service("routing").log.after(0, 1)[0])[:1])
    alerts.wait_firing(faulty)
    alerts.undo("nobody writes there any more; the rule looks at ten minutes", faulty)
    alerts.wait_cleared(parked, faulty)


# Processes, links, servers


@pytest.mark.faults
def test_a_follower_is_down(alerts: Watched, system: Disturbed) -> None:
    down, unanswered = "MaruProcessDown", "MaruFactsUnanswered"
    follower = system.full.process("routing-follower")
    follower.keep_down()
    alerts.cause("routing's follower is down", down)
    suggested(system, "unanswered")
    alerts.cause("a suggestion while routing's follower is down", unanswered)
    alerts.wait_firing(down, unanswered)
    alerts.undo("the follower started again", down, unanswered)
    follower.bring_up()
    alerts.wait_cleared(down, unanswered)


@pytest.mark.faults
def test_slow_links(alerts: Watched, system: Disturbed) -> None:
    requests, hops = "MaruRequestsSlow", "MaruHopsSlow"
    with Proxy(("127.0.0.1", system.full.postgres.port)) as one, Proxy(("127.0.0.1", system.full.postgres.port)) as two:
        for name, proxy in (("issues-gateway", one), ("issues-relay", two)):
            system.reroute(name, system.through("issues", proxy))
        with asking(system, "slow") as load:
            one.watch, two.watch = slowed(0.3), slowed(0.5)
            alerts.cause("each answer of PostgreSQL reaches the issues gateway 0.3 s late", requests)
            alerts.cause("each answer of PostgreSQL reaches the issues relay 0.5 s late", hops)
            alerts.wait_firing(requests, hops)
            alerts.undo("the way to PostgreSQL as before", requests, hops)
            one.watch = two.watch = slowed(0.0)
            alerts.wait_cleared(requests, hops)
            load.stop()
        for name in ("issues-gateway", "issues-relay"):
            system.reroute(name, None)


def slowed(seconds: float) -> Callable[[bytes, bool], bool]:
    """What ``Proxy.watch`` asks: passes everything, the server's answers late."""

    def watch(data: bytes, from_server: bool) -> bool:
        if from_server and seconds:
            time.sleep(seconds)
        return True

    return watch


@pytest.mark.faults
def test_a_lock_is_held_and_then_kafka_is_down_too(alerts: Watched, system: Disturbed) -> None:
    old, undelivered, behind = "MaruInboxOld", "MaruDecisionsUndelivered", "MaruViewBehind"
    relay, observer = "MaruRelayBehind", "MaruObserverBehind"
    broker = system.full.process("kafka")
    with psycopg.connect(system.full.postgres.url("maru_notifications")) as holder:
        holder.execute("LOCK TABLE log.stored_events, views.view_mark IN EXCLUSIVE MODE")
        why = "a forgotten transaction holds a lock on log and marks of notifications"
        alerts.cause(f"{why}, while a decision is made", undelivered)
        with system.client("decided", urls=system.full.urls) as client:
            in_work(client)
        alerts.cause(why, old)
        with system.load("many", 4, ask, forgetful=True, patience=0.0) as load:
            alerts.cause(f"{why}, while some hundred suggestions are heard", behind)
            before = heard(system)
            until(lambda: heard(system) > before + 700, "not enough is heard")
            load.stop()
        broker.keep_down()
        alerts.cause("Kafka is down", relay, observer)
        suggested(system, "unpublished")
        alerts.wait_firing(old, undelivered, behind, relay, observer)
        assert "MaruLoopSilent" not in alerts.prometheus.states(), "waits for a lock are bounded"
        alerts.undo("the transaction ended", old, undelivered, behind)
        holder.rollback()
    alerts.undo("Kafka started again", relay, observer)
    broker.bring_up()
    alerts.wait_cleared(old, undelivered, behind, relay, observer)


def heard(system: Disturbed) -> int:
    """How many records notifications has heard."""
    return int(system.service("notifications").log.query("SELECT COUNT(*) FROM inbox")[0][0])


@pytest.mark.faults
def test_postgresql_is_down(alerts: Watched, system: Disturbed) -> None:
    fail, silent = "MaruRequestsFail", "MaruDatabaseSilent"
    server = system.full.process("postgres")
    with asking(system, "down") as load:
        until(lambda: load.tally.acknowledged >= 10, "no load")
        server.keep_down()
        alerts.cause("PostgreSQL is down, two clients go on", fail, silent)
        alerts.wait_firing(fail, silent)
        alerts.undo("PostgreSQL started again", fail, silent)
        server.bring_up()
        alerts.wait_cleared(fail, silent)
        load.stop()


@pytest.mark.faults
def test_postgresql_stands_still(alerts: Watched, system: Disturbed) -> None:
    name = "MaruLoopSilent"
    server = system.full.process("postgres")
    server.freeze()
    alerts.cause("PostgreSQL stands still (SIGSTOP): connections stay open and nothing answers", name)
    try:
        alerts.wait_firing(name)
        print(f"PostgreSQL stands still: {alerts.prometheus.states()}")
    finally:
        alerts.undo("PostgreSQL goes on (SIGCONT)", name)
        server.thaw()
    alerts.wait_cleared(name)


@pytest.mark.faults
def test_kafka_is_lost(alerts: Watched, system: Disturbed) -> None:
    """By the procedure of docs/operating.md. One of two causes of the same alert."""
    name, broker = "MaruRelayRefused", system.full.process("kafka")
    broker.keep_down()
    system.full.kafka.wipe()
    broker.bring_up()
    alerts.cause("Kafka starts again with nothing of what was published", name)
    alerts.wait_firing(name)
    alerts.undo("`maru republish` of each service", name)
    for service in SERVICES:
        system.maru("republish", service.name)
    alerts.wait_cleared(name)
    until(system.opened.idle, "it does not become idle after the republication")


@pytest.mark.faults
def test_a_database_is_put_back(alerts: Watched, system: Disturbed) -> None:
    """By the procedure of docs/operating.md."""
    name, parts = "MaruRelayRefused", [f"issues-{kind}" for kind in ("gateway", "relay", "follower")]
    assert system.opened.idle()
    without_issues(system, parts, 'CREATE DATABASE "maru_issues_then" TEMPLATE "maru_issues"')
    suggested(system, "lost")
    assert system.opened.idle()
    put_back = 'ALTER DATABASE "maru_issues_then" RENAME TO "maru_issues"'
    without_issues(system, parts, 'DROP DATABASE "maru_issues"', put_back, up=False)
    system.full.process("issues-relay").bring_up()
    alerts.cause("the database of issues is put back to an earlier moment", name)
    alerts.wait_firing(name)
    alerts.undo("`maru epoch new issues`, its processes started again", name)
    system.maru("epoch", "new", "issues")
    system.reopen()
    for part in parts[:1] + parts[2:]:
        system.full.process(part).bring_up()
    system.full.process("issues-relay").kill()
    alerts.wait_cleared(name)
    system.full.wait_ready(seconds=BOUND)


@pytest.mark.faults
def test_each_alert_was_seen(watched: Watched, tell: Tell) -> None:
    watched.wait_cleared("MaruNoticesGivenUp")
    seen = [(name, one.firing, one.cleared) for name, one in [*watched.before, *watched.seen.items()]]
    for line in watched.table():
        tell(line)
    assert {name for name, *_ in seen} == set(RULES)
    assert [one for one in seen if None in one] == []
