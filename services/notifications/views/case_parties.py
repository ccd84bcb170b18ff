"""case_parties: who raised a case, and which department leads it, as far as heard.

The reactions ask it. Each source has a table of its own; who asks must wait where a row that must exist is not there.
"""

from __future__ import annotations

from sqlalchemy import JSON, Column, Connection, Integer, String, select

from shared.contracts.issues import IssueRaised, IssueReviewed
from shared.contracts.routing import CaseRouted
from shared.runtime.declare import Facts, Named, Recorded, Tables, View
from shared.runtime.views import upsert


def tables(named: Named) -> None:
    """Raisers and concluded reviews by issues, the course of the case by routing."""
    named.table(
        "raised",
        Column("case_id", String, primary_key=True),
        Column("raised_by", String),
        Column("co_raisers", JSON),
    )
    named.table(
        "reviewed",
        Column("case_id", String, primary_key=True),
        Column("round", Integer, primary_key=True),
        Column("lead", String),
    )
    named.table(
        "course",
        Column("case_id", String, primary_key=True),
        Column("version", Integer),
        Column("lead", String),
    )


def fold(db: Connection, tables: Tables, heard: Recorded) -> None:
    """Keep who is party to the case."""
    event = heard.data
    match event:
        case IssueRaised():
            row = {"case_id": heard.aggregate_id, "raised_by": event.raised_by, "co_raisers": list(event.co_raisers)}
            upsert(db, tables["raised"], row)
        case IssueReviewed():
            upsert(db, tables["reviewed"], {"case_id": heard.case_id, "round": event.round, "lead": event.lead})
        case _ if heard.envelope.aggregate == "Case":
            lead = {"lead": event.lead} if isinstance(event, CaseRouted) and event.lead is not None else {}
            upsert(db, tables["course"], {"case_id": heard.aggregate_id, "version": heard.envelope.version, **lead})
        case _:
            pass


PARTIES = View(name="case_parties", version=1, sources=("issues", "routing"), tables=tables, fold=fold)


def raisers_of(facts: Facts, case_id: str) -> tuple[str, ...] | None:
    """The raising body and the co-raisers; ``None`` where the issue has not been heard of."""
    raised = facts.tables(PARTIES)["raised"]
    row = facts.db.execute(select(raised).where(raised.c.case_id == case_id)).first()
    return None if row is None else (row.raised_by, *row.co_raisers)


def reviewed_lead(facts: Facts, case_id: str) -> str | None:
    """The lead department of the last concluded round; ``None`` where no conclusion has been heard."""
    reviewed = facts.tables(PARTIES)["reviewed"]
    query = select(reviewed.c.lead).where(reviewed.c.case_id == case_id).order_by(reviewed.c.round.desc())
    lead: str | None = facts.db.execute(query.limit(1)).scalar()
    return lead


def proposed_lead(facts: Facts, case_id: str) -> tuple[str | None, int]:
    """The lead that routing proposed, and how far (version of the Case stream) the case's course has been folded."""
    course = facts.tables(PARTIES)["course"]
    row = facts.db.execute(select(course).where(course.c.case_id == case_id)).first()
    return (None, 0) if row is None else (row.lead, row.version)
