"""The inbox: a notice is delivered by being stored, since the office reads it from the view of the same events."""

from __future__ import annotations

from services.notifications.channels import Channel

CHANNEL = Channel(name="inbox", receipt=lambda notice_id: f"inbox:{notice_id}")
