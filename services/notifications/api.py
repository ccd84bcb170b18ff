"""REST gateway of notifications: an office's own inbox, reading as an act, and what did not arrive for operators."""

from __future__ import annotations

from services.notifications.dispatch import DISPATCH, MarkRead, MarkReadBody
from services.notifications.views.inbox import INBOX, NoticeAnswer, case_of, list_notices
from services.notifications.views.outbox import OUTBOX, UndeliveredAnswer, list_undelivered
from shared.runtime.declare import Absent, Act, Gateway, Page, Request, Resource

GATEWAY = Gateway("notifications")


def _own_inbox(request: Request) -> Resource:
    return Resource(office=request.actor.office)


def _about_notice(request: Request) -> Resource:
    state, version = request.load(DISPATCH, request.path["notice_id"])
    if not version:
        raise Absent("notice")
    return Resource(office=state.office)


@GATEWAY.read(
    "/v1/notices",
    action="read_notices",
    operation_id="listNotices",
    views=(INBOX,),
    answer=NoticeAnswer,
    resource=_own_inbox,
    query=("unread",),
)
def read_notices(request: Request) -> Page:
    """The notices of the own office, the newest first; with unread=true those not yet acknowledged."""
    return list_notices(request)


@GATEWAY.read(
    "/v1/undelivered",
    action="read_undelivered",
    operation_id="listUndelivered",
    views=(OUTBOX,),
    answer=UndeliveredAnswer,
    query=("given_up",),
)
def read_undelivered(request: Request) -> Page:
    """What was to go out by e-mail and has not, the oldest first; with given_up=true what is tried no more."""
    return list_undelivered(request)


@GATEWAY.command(
    "/v1/notices/{notice_id}/reading",
    action="mark_read",
    operation_id="markNoticeRead",
    body=MarkReadBody,
    resource=_about_notice,
    # A notice only goes from unread to read: there is no version on which a second reader could stumble.
    if_match=False,
    example={},
)
def mark_read(request: Request, body: MarkReadBody) -> Act:
    """Acknowledge a notice of the own office."""
    notice_id = request.path["notice_id"]
    command = MarkRead(**request.envelope("N-read"))
    return Act(DISPATCH, notice_id, command, key=notice_id, case_id=case_of(request, notice_id))
