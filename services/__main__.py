"""The system on one screen: which services exist, in the order in which they start."""

from __future__ import annotations

from services.issues.service import SERVICE as ISSUES
from services.meetings.service import SERVICE as MEETINGS
from services.notifications.service import SERVICE as NOTIFICATIONS
from services.routing.service import SERVICE as ROUTING
from shared.runtime.declare import Service

SERVICES: tuple[Service, ...] = (ISSUES, ROUTING, MEETINGS, NOTIFICATIONS)
"""What was asked (issues), where it is (routing), what bodies did (meetings), who was told (notifications)."""

if __name__ == "__main__":
    from services.cli import main

    main()
