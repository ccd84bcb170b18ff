"""Labels of the codes that the answers of issues show: official or customary terms of section 1, both languages."""

from __future__ import annotations

from collections.abc import Mapping

from shared.contracts.envelope import Label


def _table(**labels: tuple[str, str]) -> Mapping[str, Label]:
    return {code: Label(ko=ko, en=en) for code, (ko, en) in labels.items()}


ISSUE_STATE = _table(
    raised=("접수", "raised"),
    accepted=("수리", "accepted"),
    refused=("반려", "refused"),
    closed=("종결", "closed"),
)
REVIEW_STATE = _table(open=("검토 중", "open"), concluded=("검토 완료", "concluded"))
STAGE = _table(
    R0=("미배정", "not routed"),
    R1=("접수", "intake"),
    R3=("기획단 합동검토", "in joint review"),
    R7=("이행 중", "implementing"),
    R9=("종결", "closed"),
)
CHANNEL = _table(
    council_visit=("지역협의회 방문", "council visit"),
    letter=("공문", "letter"),
    portal=("온라인 접수", "portal"),
    forum=("포럼", "forum"),
    **{"import": ("일괄 등록", "import")},
)
ORIGIN = _table(
    local_government=("지방자치단체", "local government"),
    expert=("전문가", "expert"),
    ministry=("국토교통부", "ministry"),
    young_people=("지역 청년", "young people"),
)
OPINION = _table(
    support=("지원 가능", "support"),
    support_with_conditions=("조건부 지원", "support with conditions"),
    support_alternative=("대안 지원", "support an alternative"),
    not_supportable=("지원 불가", "not supportable"),
    not_competent=("소관 아님", "not competent"),
    needs_other_ministry=("타 부처 협의 필요", "needs another ministry"),
    not_given=("미제출", "not given"),
)
REVIEW_OUTCOME = _table(
    supportable=("지원 가능", "supportable"),
    support_alternative=("대안 지원", "support an alternative"),
    not_supportable=("지원 불가", "not supportable"),
    needs_coordination=("조정 필요", "needs coordination"),
    needs_other_ministry=("타 부처 협의 필요", "needs another ministry"),
)
OUTCOME = _table(
    resolved_on_site=("현장해결", "resolved on site"),
    resolved_by_department=("소관부서 해결", "resolved by the department"),
    resolved_by_support_group=("지원단 해결", "resolved by the support group"),
    adopted_in_policy=("정책 채택", "adopted in a policy"),
    refused=("반려", "refused at intake"),
)


def label(table: Mapping[str, Label], code: str) -> Label:
    """The label of a code; the code itself where it has none yet (a tier that came as data)."""
    return table.get(code) or Label(ko=code, en=code)
