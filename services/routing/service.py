"""The routing service, as the runtime hosts it."""

from __future__ import annotations

from services.routing.api import GATEWAY
from services.routing.body import BODY
from services.routing.calendar import WORKING_CALENDAR
from services.routing.case import CASE
from services.routing.clock import CLOCK
from services.routing.figures import figures
from services.routing.office import OFFICE
from services.routing.reactions import REACTIONS
from services.routing.reads import VIEWS, add_reads
from services.routing.reference import load
from services.routing.region import REGION_REGISTER
from services.routing.ruleset import RULE_SET
from shared.runtime.declare import Service

add_reads(GATEWAY)

SERVICE = Service(
    name="routing",
    hears=("issues", "meetings"),
    deciders=(CASE, BODY, OFFICE, REGION_REGISTER, RULE_SET, WORKING_CALENDAR, CLOCK),
    reactions=REACTIONS,
    views=VIEWS,
    gateway=GATEWAY,
    seed=load,
    figures=figures,
)
