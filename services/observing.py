"""What `maru observe` watches: which fact causes which, what must not happen by itself, what is owed an answer.

The rows marked SYS of section 5 of the domain model as data, written apart from the services and from the audit, so
that each can contradict the other. Seconds are real.
"""

from __future__ import annotations

from shared.runtime.watched import Answer, Hop, Watched

_OPENED = frozenset({"CaseOpened", "CaseUnrouted"})
_ROUTED = frozenset({"CaseRouted", "CaseUnrouted"})
_ARRIVED = frozenset({"EscalatedToSupportGroup", "EscalatedToForum", "CaseMoved"})
_RESOLVED = frozenset({"CaseResolvedAtReview", "CaseResolvedBySupportGroup", "CaseLinkedToPolicy"})
_REFUSED = frozenset({"MoveRefused"})
_DATED = frozenset({"DeadlineChanged"})
_CLOSED = frozenset({"CaseClosed"})
_ASSIGNED = frozenset({"ImplementationAssigned"})
_REQUESTED = frozenset({"NotificationRequested"})

MOVES = _OPENED | _ROUTED | _ARRIVED | _RESOLVED | _REFUSED | _ASSIGNED | _CLOSED
"""Where a case is, or that it stays: only by a fact of another service, or by an office's act."""

MOVED_BY_DECISION = {
    "take_for_review": frozenset({"CaseRouted"}),
    "resolved_on_site": _CLOSED | _ASSIGNED,
    "resolved": frozenset({"CaseResolvedBySupportGroup"}),
    "escalate": _ARRIVED,
    "noted": _DATED,
    "postpone_next": _DATED,
}
"""Rows 11 to 11d, 23 and 24: what a decision's code makes of the case. ``adopt`` moves through its policy (row 30)."""
REFUSED_CODES = frozenset(
    {"return_for_review", "delegate_down", "refer_ministries", "adopt_amended", "adopt_alternative"}
    | {"set_direction", "commission_task", "defer", "not_adopt", "withdrawn"}
)
"""Codes that have no row yet: each leaves its ``MoveRefused``."""


def watched(within: float = 10.0) -> Watched:
    """What is watched; ``within``: how many real seconds a fact may wait for its answer."""
    decision, adopt = "DecisionRecorded", frozenset({"adopt"})
    return Watched(
        topics={f"maru.{service}.v1": service for service in ("issues", "routing", "meetings", "notifications")},
        hops=(
            Hop("raised_opened", frozenset({"IssueRaised"}), _OPENED),
            Hop("accepted_routed", frozenset({"IssueAccepted"}), _ROUTED | _REFUSED),
            Hop("refused_closed", frozenset({"IssueRefused"}), _CLOSED | _REFUSED),
            Hop("routed_review_opened", frozenset({"CaseRouted"}), frozenset({"JointReviewOpened"})),
            Hop("reviewed_moved", frozenset({"IssueReviewed"}), _ARRIVED | _RESOLVED | _REFUSED),
            Hop("decided_moved", frozenset({decision}), MOVES | _DATED),
            Hop("decided_adopted", frozenset({decision}), frozenset({"PolicyAdopted"})),
            Hop("adopted_linked", frozenset({"PolicyAdopted"}), _RESOLVED | _REFUSED),
            Hop("implemented_completed", frozenset({"PolicyImplemented"}), frozenset({"ImplementationCompleted"})),
            Hop("closed_issue_closed", _CLOSED, frozenset({"IssueClosed"})),
            Hop("moved_told", MOVES - _OPENED | _ROUTED | _DATED, _REQUESTED),
            Hop("decided_told", frozenset({decision}), _REQUESTED),
        ),
        moves=MOVES,
        answers=(
            Answer("IssueRaised", _OPENED, within=within),
            Answer("IssueAccepted", _ROUTED | _REFUSED, within=within),
            Answer("IssueRefused", _CLOSED | _REFUSED, within=within),
            Answer("IssueReviewed", _ARRIVED | frozenset({"CaseResolvedAtReview"}) | _REFUSED, within=within),
            *(
                Answer(decision, moves | _REFUSED, only=("code", frozenset({code})), within=within)
                for code, moves in MOVED_BY_DECISION.items()
            ),
            Answer(decision, _REFUSED, only=("code", REFUSED_CODES), within=within),
            Answer(decision, frozenset({"PolicyAdopted"}), only=("code", adopt), each="fact", within=within),
            Answer("PolicyAdopted", _RESOLVED | _REFUSED, each="cases", within=within),
        ),
        pulse="Case",
    )


WATCHED = watched()
"""With the ten seconds of the runbook."""
