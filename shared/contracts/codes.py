"""Closed lists of codes that cross services (sections 4, 5 and 6 of the domain model; capability D2, D3).

Bodies, regions, rules, calendars and the work plan are never listed here: they are data with validity dates.
"""

from __future__ import annotations

from typing import Literal

Channel = Literal["council_visit", "letter", "portal", "forum", "import"]
Origin = Literal["local_government", "expert", "ministry", "young_people"]
CostBand = Literal["not_above_b", "above_b", "above_c"]
"""How the estimated cost stands to the bands B and C, whose amounts are data."""

CaseState = Literal["unrouted", "intake", "at_body", "in_joint_review", "implementing", "closed"]
"""States R0, R1, R2/R4/R5, R3, R7 and R9 of section 4; R6 and R8 come with their rows."""

Outcome = Literal[
    "resolved_on_site",
    "resolved_by_department",
    "resolved_by_support_group",
    "adopted_in_policy",
    "refused",
]

OpinionType = Literal[
    "support",
    "support_with_conditions",
    "support_alternative",
    "not_supportable",
    "not_competent",
    "needs_other_ministry",
]
ReviewOutcome = Literal[
    "supportable", "support_alternative", "not_supportable", "needs_coordination", "needs_other_ministry"
]
Instrument = Literal["deregulation", "budget", "law", "plan", "facility", "institution_move", "pilot"]

DecisionCode = Literal[
    "resolved",
    "resolved_on_site",
    "take_for_review",
    "escalate",
    "return_for_review",
    "delegate_down",
    "refer_ministries",
    "adopt",
    "adopt_amended",
    "adopt_alternative",
    "set_direction",
    "commission_task",
    "noted",
    "defer",
    "postpone_next",
    "not_adopt",
    "not_applicable",
    "withdrawn",
]
Method = Literal["chair_after_hearing", "consensus", "vote", "written", "urgent_by_chair"]
EscalationReason = Literal[
    "general_direction",
    "minister_level_cross_ministry",
    "law_or_budget_beyond_powers",
    "several_megaregions",
    "unresolved_divergence",
    "minority_request",
]
Stance = Literal["for", "with_conditions", "against", "question"]
BodyKind = Literal[
    "council", "planning_group", "support_group", "forum", "department", "organisation", "triage", "operations"
]
OfficeRole = Literal["secretary", "chair", "deputy", "reviewer", "officer", "desk", "operator"]
"""``chair`` is the head of a body, ``reviewer`` a department's, ``officer`` an organisation's (RA).

``deputy`` stands in for the head only by a written delegation (I-9): without one it may read, and nothing else.
"""
