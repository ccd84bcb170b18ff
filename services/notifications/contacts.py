"""Contact addresses of offices: a table that changes in place, so that no address ever stands in an event."""

from __future__ import annotations

import csv
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table

from shared.runtime.views import upsert

METADATA = MetaData()

CONTACT = Table(
    "contact",
    METADATA,
    Column("office", String, primary_key=True),
    Column("email", String, nullable=False),
    Column("locale", String, nullable=False),
    Column("valid_from", String, nullable=False),
    Column("source", String, nullable=False),
)


def load_contacts(db: Connection, data: Path) -> int:
    """Take ``contacts.csv`` of the data folder into the table; repeated, the file's rows win again.

    Returns how many rows the file has.
    """
    with (data / "contacts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        upsert(db, CONTACT, {column.name: row[column.name] for column in CONTACT.columns})
    return len(rows)
