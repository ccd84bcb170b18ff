"""position: where routing has each case, as this service heard it.

Authority and guards ask it whose turn it is (rows 4 and 5). One row a case, from the case's own stream alone.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, Row, String, select

from shared.contracts.routing import (
    CaseClosed,
    CaseMoved,
    CaseOpened,
    CaseRouted,
    CaseUnrouted,
    DeadlineChanged,
    EscalatedToForum,
    EscalatedToSupportGroup,
    Holding,
    ImplementationAssigned,
)
from shared.runtime.declare import Facts, Named, Recorded, Tables, View
from shared.runtime.views import upsert

_STAGE_OF_STATE = {"unrouted": "R0", "intake": "R1", "in_joint_review": "R3", "implementing": "R7"}


def stage_of(holding: Holding) -> str:
    """The stage's code (section 4): the tier's where a body of that tier has the case."""
    return _STAGE_OF_STATE.get(holding.state, holding.tier or holding.state)


def tables(named: Named) -> None:
    """One row a case."""
    named.table(
        "position",
        Column("case_id", String, primary_key=True),
        Column("state", String),
        Column("stage", String),
        Column("tier", String),
        Column("body", String),
        Column("office", String),
        Column("due", String),
        Column("last_event", String),
    )


def fold(db: Connection, tables: Tables, heard: Recorded) -> None:
    """Follow the moves of the case."""
    match heard.data:
        case (
            CaseOpened()
            | CaseRouted()
            | CaseUnrouted()
            | EscalatedToSupportGroup()
            | EscalatedToForum()
            | CaseMoved()
            | ImplementationAssigned()
        ):
            holding = heard.data.holding
            changed: dict[str, Any] = {
                "state": holding.state,
                "stage": stage_of(holding),
                "tier": holding.tier,
                "body": holding.body,
                "office": holding.office,
                "due": holding.due.isoformat(),
            }
        case DeadlineChanged():
            changed = {"due": heard.data.due.isoformat()}
        case CaseClosed():
            changed = {"state": "closed", "stage": "R9", "tier": None, "body": None, "office": None, "due": None}
        case _:
            return
    upsert(db, tables["position"], {"case_id": heard.aggregate_id, "last_event": heard.type, **changed})


POSITION = View(name="position", version=1, sources=("routing",), tables=tables, fold=fold)


def position_of(facts: Facts, case_id: str) -> Row[Any] | None:
    """The row of a case; ``None`` where routing's first word on it has not been heard."""
    table = facts.tables(POSITION)["position"]
    return facts.db.execute(select(table).where(table.c.case_id == case_id)).first()
