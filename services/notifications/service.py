"""The notifications service, as the runtime hosts it."""

from __future__ import annotations

from functools import partial

from services.notifications.api import GATEWAY
from services.notifications.channels import channels
from services.notifications.contacts import METADATA, load_contacts
from services.notifications.dispatch import DISPATCH
from services.notifications.figures import figures
from services.notifications.reactions import REACTIONS
from services.notifications.views.case_parties import PARTIES
from services.notifications.views.inbox import INBOX
from services.notifications.views.outbox import OUTBOX, attempted, owed
from shared.runtime.declare import Effect, Service

SERVICE = Service(
    name="notifications",
    hears=("issues", "routing", "meetings"),
    deciders=(DISPATCH,),
    reactions=REACTIONS,
    views=(PARTIES, INBOX, OUTBOX),
    gateway=GATEWAY,
    mutable=METADATA,
    load_mutable=load_contacts,
    effects=tuple(
        Effect(name=channel.name, opened=channel.opened, owed=partial(owed, channel.name), recorded=attempted)
        for channel in channels()
        if channel.opened is not None
    ),
    figures=figures,
)
