"""Where the services keep what they store: SQLite files in a folder, or a PostgreSQL database each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.runtime.declare import Service
from shared.runtime.directory import DIRECTORY
from shared.runtime.log import EventLog
from shared.runtime.log_database import LogDatabase
from shared.runtime.postgres_log import PostgresDatabase
from shared.runtime.provision import provision
from shared.runtime.settings import Settings, bad
from shared.runtime.sqlite_log import SqliteDatabase
from shared.runtime.views import ViewStore


@dataclass(frozen=True)
class Databases:
    """The databases of every service: a folder, or a URL in which ``{service}`` stands for the service's name."""

    folder: Path
    url: str | None = None
    admin: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Databases:
        """As the settings say."""
        return cls(
            settings.data,
            None if settings.database is None else settings.database.get_secret_value(),
            None if settings.database_admin is None else settings.database_admin.get_secret_value(),
        )

    @classmethod
    def at(cls, place: Databases | Path) -> Databases:
        """These, or the files in a folder."""
        return cls(place) if isinstance(place, Path) else place

    def url_of(self, service: str) -> str | None:
        """The PostgreSQL URL of a service's database, ``None`` where it is a SQLite file."""
        return None if self.url is None else self.url.replace("{service}", service)

    def log_database(self, service: str) -> LogDatabase:
        """A service's log as a database, not opened."""
        url = self.url_of(service)
        return SqliteDatabase(self.folder / service / "log.db") if url is None else PostgresDatabase(url)

    def log(self, service: str, own_reactions: frozenset[str] = frozenset()) -> EventLog:
        """A service's log. Raises ``OtherVersion``, ``Unavailable``, ``Misconfigured``."""
        return EventLog(self.log_database(service), service, own_reactions)

    def views(self, service: str) -> ViewStore:
        """A service's views."""
        url = self.url_of(service)
        return ViewStore(self.folder / service / "views.db") if url is None else ViewStore(url)

    def mutable(self, service: str) -> ViewStore:
        """A service's tables that change in place."""
        url = self.url_of(service)
        return ViewStore(self.folder / service / "mutable.db") if url is None else ViewStore(url, "mutable")

    def migrate(self, service: Service) -> None:
        """Make a service's tables; the only place that does. Safe to repeat, and by several processes at once.

        Raises ``Unavailable``, and ``BadSetting`` where PostgreSQL is used and no owner's URL is given, or one that may
        not.
        """
        url = self.url_of(service.name)
        if url is None:
            SqliteDatabase(self.folder / service.name / "log.db").create(service.name)
        else:
            if self.admin is None:
                raise bad("database_admin", "maru migrate needs an owner's PostgreSQL URL")
            provision(service.name, url, self.admin.replace("{service}", service.name))
        ViewStore.create(self.folder / service.name / "views.db" if url is None else url, (DIRECTORY, *service.views))
        if service.mutable is not None:
            store = self.mutable(service.name)
            store.create_all(service.mutable)
            store.close()
