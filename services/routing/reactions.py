"""The process manager: what decisions, reviews and policies mean for a case (rows marked SYS in section 5).

Nothing else moves a case (rule (a)). Each case's move is tried on the case as it stands; where a rule refuses it, the
refusal itself is stored on the case (rule (b)), so that no decision, review or policy falls silent. Which body, office,
date and clock come next is data: see ``placement.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.routing.case import (
    CASE,
    Asked,
    ChangeDeadline,
    CloseRefused,
    CompleteByPolicy,
    EscalateCase,
    FollowTask,
    LeaveUnrouted,
    LinkToPolicy,
    OpenCase,
    RecordMoveRefused,
    ResolveAtBody,
    ResolveAtReview,
    ResolveOnSite,
    RouteCase,
    State,
    TakeForReview,
    decision,
)
from services.routing.placement import Placement
from services.routing.tables import TableFault
from shared.contracts.codes import EscalationReason
from shared.contracts.envelope import Command, Reason
from shared.contracts.issues import IssueAccepted, IssueRaised, IssueRefused, IssueReviewed
from shared.contracts.meetings import DecisionRecorded, PolicyAdopted, PolicyImplemented, PolicyTaskAssigned
from shared.contracts.routing import Document
from shared.decider import Refused
from shared.runtime.declare import Act, Facts, Reactions, Recorded, Wait, by_process

REACTIONS = Reactions()

ESCALATION_REASONS: dict[EscalationReason, str] = {
    "general_direction": "균형발전정책의 큰 방향에 관한 사안",
    "minister_level_cross_ministry": "장관급 관계부처 협의가 필요한 사안",
    "law_or_budget_beyond_powers": "법령 또는 예산이 지원단의 권한을 넘는 사안",
    "several_megaregions": "여러 권역에 걸친 사안",
    "unresolved_divergence": "부서 간 이견이 조정되지 않은 사안",
    "minority_request": "규정에 따른 소수 의견의 요청",
}
"""The list of row 24, in the words that stand on the case where the decision gives none of its own."""

Prepare = Callable[[State, Asked, Placement], Command]
"""Makes one case's command; may raise ``Refused`` where the rules of data give no answer."""


def consider_again(heard: Recorded, facts: Facts, _: Refused) -> Sequence[Act]:
    """After a refusal at the log (the case changed meanwhile): the same question on the case as it stands now."""
    return REACTIONS.by_type[heard.type](heard, facts)


@REACTIONS.on(IssueRaised)
def on_issue_raised(heard: Recorded, facts: Facts) -> Sequence[Act]:
    """Row 1: open the case at its intake body; row 8: leave it to the triage desk where no rule names one."""
    raised = heard.data
    assert isinstance(raised, IssueRaised)
    rules = facts.directory.rule_set(facts.today)
    if rules is None:
        raise Wait("no rule set is known for this day")
    asked = Asked(
        regions=raised.regions,
        nationwide=raised.nationwide,
        raised_by=raised.raised_by,
        plan_item=raised.plan_item,
        tags=raised.tags,
        cost_band=raised.cost_band,
        origin=raised.origin,
        rule_version=rules.version,
    )
    placement = Placement(facts.directory, rules, facts.today)
    try:
        intake = placement.intake(asked)
        holding = placement.holding(intake, "intake")
    except TableFault:
        intake = holding = None
    command: Command
    if intake is not None and holding is not None:
        process = by_process(intake.body, facts.now, "T-1")
        command = OpenCase(**process, asked=asked, holding=holding, copies_to=placement.copies(asked, intake))
    else:
        command = _unrouted(heard, facts, placement, asked, None)
    return [_act(heard.aggregate_id, command, placement)]


@REACTIONS.on(IssueAccepted, refused=consider_again)
def on_issue_accepted(heard: Recorded, facts: Facts) -> Sequence[Act]:
    """Row 4: to the council's floor, or into joint review; row 8 where no rule says which."""
    accepted = heard.data
    assert isinstance(accepted, IssueAccepted)

    def prepare(_: State, asked: Asked, placement: Placement) -> Command:
        intake = placement.body(accepted.intake_body)
        try:
            state = placement.after_acceptance(asked, intake) if intake else None
            lead, proposed = placement.departments(asked) if state == "in_joint_review" else (None, ())
        except TableFault:
            state = None
        if state is None:
            return _unrouted(heard, facts, placement, asked, accepted.intake_body)
        return RouteCase(
            **by_process(accepted.intake_body, facts.now, "T-4"),
            from_body=accepted.intake_body,
            cause=heard.id,
            holding=placement.holding(intake, state),
            lead=lead,
            proposed=proposed,
        )

    return [_move(heard, facts, heard.aggregate_id, accepted.intake_body, prepare)]


@REACTIONS.on(IssueRefused, refused=consider_again)
def on_issue_refused(heard: Recorded, facts: Facts) -> Sequence[Act]:
    """Row 5: a refusal at intake closes the case."""
    refused = heard.data
    assert isinstance(refused, IssueRefused)

    def prepare(*_: object) -> Command:
        return CloseRefused(
            **by_process(refused.intake_body, facts.now, "T-5"),
            from_body=refused.intake_body,
            cause=heard.id,
            reason=refused.reason,
        )

    return [_move(heard, facts, heard.aggregate_id, refused.intake_body, prepare)]


@REACTIONS.on(DecisionRecorded, refused=consider_again)
def on_decision_recorded(heard: Recorded, facts: Facts) -> Sequence[Act]:
    """Rows 11 to 11d, 23 and 24: the move that the decision's code implies; ``adopt`` moves through its policy."""
    decided = heard.data
    assert isinstance(decided, DecisionRecorded)
    if decided.case_id is None:
        return []
    prepare: Prepare
    match decided.code:
        case "take_for_review":
            prepare = _take_for_review(heard, facts, decided)
        case "resolved_on_site":
            prepare = _resolve_on_site(heard, facts, decided)
        case "noted" | "postpone_next":
            prepare = _change_deadline(heard, facts, decided)
        case "resolved":
            prepare = _resolve_at_body(heard, facts, decided)
        case "escalate":
            prepare = _escalate(heard, facts, decided)
        case "adopt":
            return []
        case code:
            prepare = _not_in_use(
                f"D-{code}",
                "이 결정 유형은 아직 쓰이지 않으므로 사건이 옮겨지지 않습니다.",
                "Decisions of this code are not in use, so this moves nothing.",
            )
    return [_move(heard, facts, decided.case_id, decided.body, prepare)]


def _take_for_review(heard: Recorded, facts: Facts, decided: DecisionRecorded) -> Prepare:
    """Row 11."""

    def prepare(_: State, asked: Asked, placement: Placement) -> Command:
        edges = placement.edges(decided.body, "review")
        lead, proposed = placement.departments(asked)
        return TakeForReview(
            **by_process(decided.body, facts.now, "T-11", decided.clause),
            from_body=decided.body,
            cause=heard.id,
            edges=edges,
            holding=placement.holding(placement.body(edges[0].to_body), "in_joint_review") if edges else None,
            lead=lead,
            proposed=proposed,
        )

    return prepare


def _resolve_on_site(heard: Recorded, facts: Facts, decided: DecisionRecorded) -> Prepare:
    """Rows 11a and 11b."""
    fields = decided.fields

    def prepare(_: State, __: Asked, placement: Placement) -> Command:
        rule = "T-11a" if fields.owner is None else "T-11b"
        return ResolveOnSite(
            **by_process(decided.body, facts.now, rule, decided.clause),
            from_body=decided.body,
            cause=heard.id,
            reason=fields.reason,
            owner=fields.owner,
            due=fields.due,
            holding=placement.holding(placement.body(fields.owner), "implementing", fields.due),
        )

    return prepare


def _change_deadline(heard: Recorded, facts: Facts, decided: DecisionRecorded) -> Prepare:
    """Row 11d."""
    assert decided.code in ("noted", "postpone_next")
    code = decided.code

    def prepare(*_: object) -> Command:
        return ChangeDeadline(
            **by_process(decided.body, facts.now, "T-11d", decided.clause),
            from_body=decided.body,
            cause=heard.id,
            code=code,
            due=decided.fields.due,
            reason=decided.fields.reason,
        )

    return prepare


def _resolve_at_body(heard: Recorded, facts: Facts, decided: DecisionRecorded) -> Prepare:
    """Row 23."""
    fields = decided.fields

    def prepare(_: State, __: Asked, placement: Placement) -> Command:
        return ResolveAtBody(
            **by_process(decided.body, facts.now, "T-23", decided.clause),
            from_body=decided.body,
            cause=heard.id,
            owner=fields.owner,
            due=fields.due,
            holding=placement.holding(placement.body(fields.owner), "implementing", fields.due),
            convergence=fields.convergence,
        )

    return prepare


def _escalate(heard: Recorded, facts: Facts, decided: DecisionRecorded) -> Prepare:
    """Row 24, from any tier to the one that its edge leads to."""
    fields = decided.fields

    def prepare(state: State, _: Asked, placement: Placement) -> Command:
        reason = None
        if fields.escalation is not None:
            text = fields.reason.text if fields.reason else ESCALATION_REASONS[fields.escalation]
            reason = Reason(code=fields.escalation, text=text)
        edges = placement.edges(decided.body, "escalate")
        target = placement.body(edges[0].to_body) if edges else None
        tier = placement.tier(target)
        return EscalateCase(
            **by_process(decided.body, facts.now, "T-24", decided.clause),
            from_body=decided.body,
            cause=heard.id,
            edges=edges,
            holding=placement.holding(target, "at_body"),
            arrival=tier.arrival if tier else None,
            documents=(*state.documents, decision(heard.id)),
            reason=reason,
        )

    return prepare


@REACTIONS.on(IssueReviewed, refused=consider_again)
def on_issue_reviewed(heard: Recorded, facts: Facts) -> Sequence[Act]:
    """Rows 18 and 17: the first row of the table that fits. Outcomes of other rows move nothing."""
    reviewed = heard.data
    assert isinstance(reviewed, IssueReviewed)
    case_id = heard.case_id or heard.aggregate_id.rpartition(".")[0]
    body = heard.envelope.actor.body

    def prepare(state: State, asked: Asked, placement: Placement) -> Command:
        answer = placement.after_review(asked, reviewed)
        if answer is None:
            raise Refused(
                "T-16",
                "이 검토 결과에 맞는 규칙이 없어 사건이 옮겨지지 않습니다.",
                "No rule fits this outcome of the review, so it moves nothing.",
            )
        if answer["move"] == "resolve":
            owner = reviewed.direction.lead if reviewed.direction else reviewed.lead
            return ResolveAtReview(
                **by_process(body, facts.now, "T-17"),
                from_body=body,
                cause=heard.id,
                round=reviewed.round,
                holding=placement.holding(placement.body(owner), "implementing"),
            )
        edges = placement.edges(body, "escalate")
        target = placement.body(edges[0].to_body) if edges else None
        tier = placement.tier(target)
        return EscalateCase(
            **by_process(body, facts.now, "T-18"),
            from_body=body,
            cause=heard.id,
            round=reviewed.round,
            edges=edges,
            holding=placement.holding(target, "at_body"),
            arrival=tier.arrival if tier else None,
            documents=(
                Document(kind="issue", ref=f"Issue/{case_id}#{reviewed.revision}"),
                *state.documents,
                Document(kind="joint_review", ref=f"JointReview/{case_id}.{reviewed.round}"),
            ),
            reason=Reason(code=str(answer["reason"]), text=str(answer["text"])),
        )

    return [_move(heard, facts, case_id, body, prepare)]


@REACTIONS.on(PolicyAdopted, refused=consider_again)
def on_policy_adopted(heard: Recorded, facts: Facts) -> Sequence[Act]:
    """Row 30: every case that the policy answers; each stands alone, all in one write."""
    adopted = heard.data
    assert isinstance(adopted, PolicyAdopted)
    body = heard.envelope.actor.body

    def prepare(_: State, __: Asked, placement: Placement) -> Command:
        return LinkToPolicy(
            **by_process(body, facts.now, "T-30"),
            from_body=body,
            cause=heard.id,
            policy_id=heard.aggregate_id,
            policy_revision=adopted.revision,
            reason="채택된 정책이 이 현안에 답함",
            holding=placement.holding(placement.body(adopted.owner), "implementing", adopted.review_date),
        )

    return [_move(heard, facts, case_id, body, prepare) for case_id in adopted.cases]


@REACTIONS.on(PolicyTaskAssigned, refused=consider_again)
def on_policy_task_assigned(heard: Recorded, facts: Facts) -> Sequence[Act]:
    """Walk, step 32: the date of a task is the date of the cases that the policy carries."""
    assigned = heard.data
    assert isinstance(assigned, PolicyTaskAssigned)
    body = heard.envelope.actor.body

    def prepare(*_: object) -> Command:
        return FollowTask(
            **by_process(body, facts.now, "I-17"),
            policy_id=heard.aggregate_id,
            due=assigned.due,
            reason=Reason(code="policy_task", text="연결된 정책의 과제 기한"),
            cause=heard.id,
        )

    return [_move(heard, facts, case_id, body, prepare) for case_id in _linked(heard, facts, assigned.cases)]


@REACTIONS.on(PolicyImplemented, refused=consider_again)
def on_policy_implemented(heard: Recorded, facts: Facts) -> Sequence[Act]:
    """Row 38b: the cases that the policy carried are done."""
    implemented = heard.data
    assert isinstance(implemented, PolicyImplemented)
    body = heard.envelope.actor.body

    def prepare(*_: object) -> Command:
        return CompleteByPolicy(
            **by_process(body, facts.now, "T-38b"),
            policy_id=heard.aggregate_id,
            text="연결된 정책의 이행이 끝남",
            evidence=implemented.evidence,
            cause=heard.id,
        )

    return [_move(heard, facts, case_id, body, prepare) for case_id in _linked(heard, facts, implemented.cases)]


# What the reactions share


def _move(heard: Recorded, facts: Facts, case_id: str, body: str, prepare: Prepare) -> Act:
    """One case's move, or the record that a rule refused it.

    The rules are tried here, on the state as it stands, so that of several cases of one policy each stands alone.
    Raises ``Wait`` where the case has not been opened yet.
    """
    state, _ = facts.load(CASE, case_id)
    asked = state.asked
    if asked is None:
        raise Wait(f"the case {case_id} has not been opened yet")
    rules = facts.directory.rule_set_version(asked.rule_version)
    if rules is None:
        raise Wait(f"version {asked.rule_version} of the rules is not known yet")
    placement = Placement(facts.directory, rules, facts.today)
    if isinstance(heard.data, DecisionRecorded):
        placement.note(code=heard.data.code)
    try:
        command = prepare(state, asked, placement)
        CASE.decide(state, command)
    except Refused as refusal:
        command = RecordMoveRefused(
            **by_process(body, facts.now, "rule-b"),
            rule=refusal.rule,
            ko=refusal.ko,
            en=refusal.en,
            body=body,
            cause=heard.id,
            cause_type=heard.type,
        )
    return _act(case_id, command, placement)


def _act(case_id: str, command: Command, placement: Placement) -> Act:
    return Act(CASE, case_id, command, key=case_id, case_id=case_id, trace=placement.trace())


def _unrouted(
    heard: Recorded, facts: Facts, placement: Placement, asked: Asked, from_body: str | None
) -> LeaveUnrouted:
    """Row 8. A case without a triage desk to go to waits: it is never lost (B4)."""
    try:
        triage = placement.triage()
    except TableFault as fault:
        raise Wait(fault.en) from fault
    if triage is None:
        raise Wait("there is no triage desk with an office and a clock on this day")
    return LeaveUnrouted(
        **by_process(triage.body, facts.now, "T-8"),
        asked=asked,
        from_body=from_body,
        next_step="intake" if from_body is None else "after_acceptance",
        holding=triage,
        cause=heard.id,
    )


def _not_in_use(rule: str, ko: str, en: str) -> Prepare:
    """A code, outcome or act without a row: refused with its rule, so that no case gets where it cannot leave."""

    def prepare(*_: object) -> Command:
        raise Refused(rule, ko, en)

    return prepare


def _linked(heard: Recorded, facts: Facts, cases: Sequence[str]) -> list[str]:
    """The cases that this policy carries. Those whose link was refused have their refusal on record already."""
    return [case_id for case_id in cases if facts.load(CASE, case_id)[0].policy_id == heard.aggregate_id]
