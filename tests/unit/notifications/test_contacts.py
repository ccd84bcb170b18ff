"""Contact addresses: loaded from data, in place, never in an event."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine, select

from services.notifications.contacts import CONTACT, METADATA, load_contacts

HEAD = "office,email,locale,valid_from,source\n"


def test_contacts_are_loaded_and_loaded_again(tmp_path: Path) -> None:
    engine = create_engine("sqlite://")
    METADATA.create_all(engine)
    file = tmp_path / "contacts.csv"

    with engine.begin() as db:
        file.write_text(f"{HEAD}forum.chair,a@ministry.example,ko,2022-08-01,M\n", "utf-8")
        assert [load_contacts(db, tmp_path), load_contacts(db, tmp_path)] == [1, 1]
        file.write_text(f"{HEAD}forum.chair,b@ministry.example,en,2023-01-01,M\n", "utf-8")
        load_contacts(db, tmp_path)

        assert [tuple(row) for row in db.execute(select(CONTACT))] == [
            ("forum.chair", "b@ministry.example", "en", "2023-01-01", "M")
        ]
    engine.dispose()


def test_the_shipped_file_fits() -> None:
    engine = create_engine("sqlite://")
    METADATA.create_all(engine)

    with engine.begin() as db:
        assert load_contacts(db, Path(__file__).parents[3] / "data") > 100
    engine.dispose()
