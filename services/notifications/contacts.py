"""Contact addresses of offices: a table that changes in place, so that no address ever stands in an event."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sqlalchemy import Column, Connection, MetaData, String, Table, select

from shared.runtime.declare import Facts
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


@dataclass(frozen=True)
class Contact:
    """Where and in which language an office is reached outside; the address is not shown where it is printed."""

    email: str = field(repr=False)
    locale: Literal["ko", "en"]


def load_contacts(db: Connection, data: Path) -> int:
    """Take ``contacts.csv`` of the data folder into the table; repeated, the file's rows win again.

    Returns how many rows the file has. An office that has left the file keeps its row; one with an empty address
    gets no e-mail.
    """
    with (data / "contacts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        upsert(db, CONTACT, {column.name: row[column.name] for column in CONTACT.columns})
    return len(rows)


def contacts_of(facts: Facts, offices: Collection[str]) -> dict[str, Contact]:
    """The contacts of those offices that have one today; in Korean unless the row says English."""
    query = select(CONTACT).where(CONTACT.c.office.in_(offices), CONTACT.c.valid_from <= facts.today.isoformat())
    return {
        row.office: Contact(row.email, "en" if row.locale == "en" else "ko")
        for row in facts.mutable.execute(query)
        if row.email
    }
