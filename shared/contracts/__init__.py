"""Every event of every service, declared once, owned by one service."""

from shared.contracts import issues, meetings, notifications, reference, routing

SERVICES = ("issues", "routing", "meetings", "notifications")
"""The four owners of events."""

__all__ = ["SERVICES", "issues", "meetings", "notifications", "reference", "routing"]
