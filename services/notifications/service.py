"""The notifications service, as the runtime hosts it."""

from __future__ import annotations

from services.notifications.api import GATEWAY
from services.notifications.contacts import METADATA, load_contacts
from services.notifications.dispatch import DISPATCH
from services.notifications.reactions import REACTIONS
from services.notifications.views.case_parties import PARTIES
from services.notifications.views.inbox import INBOX
from shared.runtime.declare import Service

SERVICE = Service(
    name="notifications",
    hears=("issues", "routing", "meetings"),
    deciders=(DISPATCH,),
    reactions=REACTIONS,
    views=(PARTIES, INBOX),
    gateway=GATEWAY,
    mutable=METADATA,
    load_mutable=load_contacts,
)
