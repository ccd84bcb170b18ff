"""The declaration of the meetings service that the runtime hosts."""

from services.meetings.api import GATEWAY
from services.meetings.figures import figures
from services.meetings.meeting import MEETING
from services.meetings.policy import POLICY
from services.meetings.reactions import REACTIONS
from services.meetings.reference import load
from services.meetings.views.meeting_file import MEETING_FILE
from services.meetings.views.policy_register import POLICY_REGISTER
from services.meetings.views.waiting_list import WAITING_LIST
from services.meetings.views.work_plan import WORK_PLAN_TREE
from services.meetings.work_plan import WORK_PLAN
from shared.runtime.declare import Service

SERVICE = Service(
    name="meetings",
    hears=("routing", "issues"),
    deciders=(MEETING, POLICY, WORK_PLAN),
    reactions=REACTIONS,
    views=(WAITING_LIST, MEETING_FILE, POLICY_REGISTER, WORK_PLAN_TREE),
    gateway=GATEWAY,
    seed=load,
    figures=figures,
)
