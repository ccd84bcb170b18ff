"""Placement: where a case goes next, which office has it there, and until when, asked of the rules and the directory.

One ``Placement`` serves one move. It asks the version of the rules that the case began under (B6), on the business day
of the move, and keeps every row and input it looked at for the event's trace (B2).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from services.routing.case import DECISION_CLOCK, Asked, Edge
from services.routing.tables import Gives, TableFault, Value, hit, looked_at
from shared.contracts.codes import BodyKind, CaseState, OfficeRole
from shared.contracts.envelope import RuleRow, RuleTrace
from shared.contracts.issues import IssueReviewed
from shared.contracts.reference import BodyEstablished, DecisionTable, RuleSetPublished, TierRow
from shared.contracts.routing import Holding
from shared.runtime.directory import Directory

IN_CHARGE: dict[BodyKind, OfficeRole] = {
    "council": "secretary",
    "planning_group": "secretary",
    "support_group": "secretary",
    "forum": "secretary",
    "department": "reviewer",
    "organisation": "officer",
    "triage": "desk",
    "operations": "operator",
}
"""Which office of a body is responsible for what arrives there (offices of section 5)."""


class Placement:
    """Asks the directory and one rule set on one day."""

    def __init__(self, directory: Directory, rules: RuleSetPublished, day: date) -> None:
        self.directory = directory
        self.rules = rules
        self.day = day
        self._rows: list[RuleRow] = []
        self._inputs: dict[str, str | int | float | bool | tuple[str, ...] | None] = {}

    def trace(self) -> RuleTrace:
        """What was looked at so far."""
        return RuleTrace(
            rule_set=self.rules.rule_set,
            version=self.rules.version,
            rows=tuple(self._rows),
            inputs=dict(self._inputs),
        )

    def note(self, **inputs: Value) -> None:
        """Keep inputs that decided without a table, such as a decision's code."""
        self._inputs |= inputs

    # Questions to the tables

    def intake(self, asked: Asked) -> BodyEstablished | None:
        """The intake body of a new case; ``None`` where no rule names one. Raises ``TableFault``."""
        regions = self._regions_today(asked)
        councils = self.directory.councils_of(regions[0], self.day) if regions else []
        raiser = self.directory.body(asked.raised_by, self.day)
        answer = self._ask(
            "council_selection",
            nationwide=asked.nationwide,
            regions=len(asked.regions),
            megaregions=self.megaregions(asked),
            lead_councils=len(councils),
            raiser_kind=raiser.kind if raiser else "",
            raiser_level=(raiser.level or "") if raiser else "",
            origin=asked.origin,
            plan_item=asked.plan_item or "",
            tags=asked.tags,
        )
        match answer[0]["intake"] if answer else None:
            case "council_of_region" | "council_of_lead_region":
                return _only(councils)
            case "planning_group":
                return _only(self.directory.bodies(self.day, "planning_group"))
            case _:
                return None

    def copies(self, asked: Asked, intake: BodyEstablished) -> tuple[str, ...]:
        """All other councils concerned: those of every region, or every council where the issue is nation-wide."""
        if asked.nationwide:
            concerned = self.directory.bodies(self.day, "council")
        else:
            concerned = [c for r in self._regions_today(asked) for c in self.directory.councils_of(r, self.day)]
        return _distinct(council.body for council in concerned if council.body != intake.body)

    def after_acceptance(self, asked: Asked, intake: BodyEstablished) -> CaseState | None:
        """Whether an accepted case goes to its council's floor or into review; ``None`` where no rule says."""
        answer = self._ask(
            "after_acceptance",
            intake_kind=intake.kind,
            nationwide=asked.nationwide,
            regions=len(asked.regions),
            plan_item=asked.plan_item or "",
            tags=asked.tags,
        )
        if not answer:
            return None
        return "at_body" if answer[0]["next"] == "floor" else "in_joint_review"

    def departments(self, asked: Asked) -> tuple[str | None, tuple[str, ...]]:
        """The lead department that the rules propose, or none, and the others to be consulted (B5)."""
        inputs: dict[str, Value] = {
            "plan_item": asked.plan_item or "",
            "tags": asked.tags,
            "cost_band": asked.cost_band,
        }
        led = self._ask("lead_department", **inputs)
        lead = self._department("lead_department", led[0]["lead"]) if led else None
        others = [
            self._department("consulted_departments", gives["department"])
            for gives in self._ask("consulted_departments", **inputs)
        ]
        return lead, _distinct(department for department in others if department != lead)

    def after_review(self, asked: Asked, reviewed: IssueReviewed) -> Gives | None:
        """The first row that fits of rows 18 and 17; ``None`` where none does. The direction corrects the raiser."""
        direction = reviewed.direction
        answer = self._ask(
            "resolve_or_escalate",
            outcome=reviewed.outcome,
            divergence=float(reviewed.divergence),
            cost_band=direction.cost_band if direction else asked.cost_band,
            statute_needed=direction.statute_needed if direction else False,
            megaregions=self.megaregions(asked),
            general_direction="general-direction" in asked.tags,
            tags=asked.tags,
        )
        return answer[0] if answer else None

    # Questions to the directory

    def megaregions(self, asked: Asked) -> int:
        """How many megaregions are concerned by the grouping of the day; a region in none counts for itself."""
        regions = self._regions_today(asked)
        return len({self.directory.megaregion(region, self.day) or region for region in regions})

    def body(self, body: str | None) -> BodyEstablished | None:
        """A body that exists on the day."""
        return self.directory.body(body, self.day) if body is not None else None

    def edges(self, body: str, kind: str) -> tuple[Edge, ...]:
        """The edges of a kind that lead out of a body on the day (I-3)."""
        return tuple(Edge(edge=edge.edge, to_body=edge.to_body) for edge in self.directory.edges(body, self.day, kind))

    def tier(self, body: BodyEstablished | None) -> TierRow | None:
        """The body's tier as the case's rules name it; of a tier that came later, as the rules of the day do."""
        if body is None:
            return None
        today = self.directory.rule_set(self.day)
        tiers = (*self.rules.tiers, *(today.tiers if today else ()))
        return next((row for row in tiers if row.tier == body.tier), None)

    def holding(self, body: BodyEstablished | None, state: CaseState, due: date | None = None) -> Holding | None:
        """The holding that opens at a body: its office, and ``due`` or the date that the clock gives.

        ``None`` where body, office, tier or clock is missing (I-22). Raises ``TableFault``.
        """
        if body is None:
            return None
        office = self.directory.office_of(body.body, IN_CHARGE[body.kind], self.day)
        tier = self.tier(body) if state == "at_body" else None
        if office is None or (state == "at_body" and tier is None):
            return None
        clock = DECISION_CLOCK
        if due is None:
            clock = self._clock(body, state, tier)
            due = self._due(clock)
        if due is None:
            return None
        return Holding(
            state=state,
            tier=tier.tier if tier else None,
            body=body.body,
            office=office.office,
            due=due,
            clock=clock,
        )

    def triage(self) -> Holding | None:
        """At the triage desk."""
        return self.holding(_only(self.directory.bodies(self.day, "triage")), "unrouted")

    # Parts

    def _clock(self, body: BodyEstablished, state: CaseState, tier: TierRow | None) -> str:
        """The rule that fits, else the tier's own clock: so a new tier brings its clock in its own row."""
        code = tier.tier if tier else ""
        answer = self._ask("clock_profile", state=state, tier=code, body_kind=body.kind)
        return str(answer[0]["clock"]) if answer else (tier.clock if tier else "")

    def _due(self, clock: str) -> date | None:
        today = self.directory.rule_set(self.day)
        clocks = (*self.rules.clocks, *(today.clocks if today else ()))
        profile = next((profile for profile in clocks if profile.clock == clock), None)
        return self.directory.deadline(self.day, profile) if profile else None

    def _regions_today(self, asked: Asked) -> tuple[str, ...]:
        """The regions as they are called today: successors take over what an ended region raised (I-16)."""
        return _distinct(
            today for region in asked.regions for today in self.directory.successors(region.region, self.day)
        )

    def _department(self, table: str, department: Value) -> str:
        found = self.directory.body(str(department), self.day)
        if found is None:
            raise TableFault(
                table,
                en=f"Table {table} names a department that does not exist on this day.",
                ko=f"판단표 {table}이 이 날짜에 존재하지 않는 부서를 가리킵니다.",
            )
        return found.body

    def _ask(self, name: str, **inputs: Value) -> tuple[Gives, ...]:
        """Put a question to a table. Rows stand in the trace even where the answer is a fault."""
        table = _table(self.rules, name)
        self._inputs |= inputs
        found = looked_at(table, inputs)
        self._rows += [RuleRow(table=name, row=row.row, matched=matched) for row, matched in found]
        return hit(table, [row for row, matched in found if matched])


def _table(rules: RuleSetPublished, name: str) -> DecisionTable:
    table = next((table for table in rules.tables if table.table == name), None)
    if table is None:
        raise TableFault(name, ko=f"규칙에 판단표 {name}이 없습니다.", en=f"The rule set has no table {name}.")
    return table


def _only(bodies: list[BodyEstablished]) -> BodyEstablished | None:
    return bodies[0] if len(bodies) == 1 else None


def _distinct(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))
