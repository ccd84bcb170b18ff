"""The issues service, as the runtime hosts it."""

from __future__ import annotations

from services.issues.api import GATEWAY
from services.issues.issue import ISSUE
from services.issues.joint_review import JOINT_REVIEW
from services.issues.reactions import REACTIONS, due
from services.issues.views.position import POSITION
from services.issues.views.register import REGISTER
from shared.runtime.declare import Service

SERVICE = Service(
    name="issues",
    hears=("routing",),
    deciders=(ISSUE, JOINT_REVIEW),
    reactions=REACTIONS,
    views=(REGISTER, POSITION),
    gateway=GATEWAY,
    due=due,
)
