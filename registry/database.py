"""The database that decides: MLflow's own, with one table beside MLflow's that only grows.

A file lock holds on one machine. Two people on two machines share a database, so the database is what says who was first:
writers wait for one another in it, and the number of an event is a primary key that can be taken once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import StateError
from pipelines.lab import Lab, with_driver

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

EVENTS = "modellab_events"
PROJECTED = "modellab_projected"
WAIT_S = 60
"""How long a writer waits for the others on SQLite; each holds the database for milliseconds."""
LOCK_KEY = 0x6D6F646C
"""Of PostgreSQL's advisory locks: "modl"."""

COLUMNS = (
    "seq", "at", "kind", "task", "model", "version", "from_stage", "to_stage", "actor", "origin", "reason", "details",
    "previous", "hash",
)  # fmt: skip

_TABLES = (
    f"CREATE TABLE IF NOT EXISTS {EVENTS} (seq BIGINT PRIMARY KEY, "
    + ", ".join(f"{name} TEXT NOT NULL" for name in COLUMNS[1:])
    + ")",
    f"CREATE TABLE IF NOT EXISTS {PROJECTED} (name TEXT PRIMARY KEY, seq BIGINT NOT NULL)",
)
_SQLITE_GUARDS = tuple(
    f"CREATE TRIGGER IF NOT EXISTS {EVENTS}_no_{what.lower()} BEFORE {what} ON {EVENTS} "
    "BEGIN SELECT RAISE(ABORT, 'the history is append-only'); END"
    for what in ("UPDATE", "DELETE")
)
_POSTGRES_GUARDS = (
    f"CREATE OR REPLACE FUNCTION {EVENTS}_guard() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the history is append-only'; END $$",
    f"DROP TRIGGER IF EXISTS {EVENTS}_guard ON {EVENTS}",
    f"CREATE TRIGGER {EVENTS}_guard BEFORE UPDATE OR DELETE OR TRUNCATE ON {EVENTS} "
    f"FOR EACH STATEMENT EXECUTE FUNCTION {EVENTS}_guard()",
)


def database_uri(lab: Lab) -> str:
    """Address of the database: ``MODELLAB_HISTORY_URI``, else MLflow's.

    Raises:
        StateError: MLflow is reached through its server, which does not let anybody else into its database.
    """
    uri = with_driver(lab.history_uri or lab.tracking_uri)
    if uri.partition(":")[0].partition("+")[0] not in ("sqlite", "postgresql"):
        raise StateError(
            f"The history needs a database, and {uri.partition('://')[0]}:// is none.",
            "Set MODELLAB_HISTORY_URI to postgresql://… (the database behind your MLflow server, or one of its own).",
        )
    return uri


class Database:
    """A connection to where the history lies; cheap to make, and nothing is open between two calls."""

    def __init__(self, uri: str) -> None:
        """Take the address; nothing is opened yet.

        Raises:
            StateError: The address or the driver is wrong.
        """
        from sqlalchemy import create_engine, event, make_url
        from sqlalchemy.exc import ArgumentError
        from sqlalchemy.pool import NullPool

        try:
            url = make_url(with_driver(uri))
            self.sqlite = url.get_backend_name() == "sqlite"
            self.file = Path(url.database) if self.sqlite and url.database else None
            arguments: dict[str, Any] = {"timeout": WAIT_S} if self.sqlite else {"connect_timeout": 10}
            # No pool: a connection must not live on in a forked process, and the commands open one or two.
            self.engine: Engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
        except (ArgumentError, ImportError) as error:
            raise StateError(
                f"The database of the history cannot be used ({str(error).splitlines()[0]}).",
                "Check MODELLAB_MLFLOW_URI; for PostgreSQL: pip install 'modellab[scale]'",
            ) from error
        self.shown = url.render_as_string(hide_password=True)
        if self.sqlite:
            # The driver would begin a transaction at the first write only, after what was decided had been read.
            @event.listens_for(self.engine, "connect")
            def _by_hand(connection: Any, record: Any) -> None:
                connection.isolation_level = None

    @property
    def exists(self) -> bool:
        """Whether there can be anything to read; false for a file that was never made."""
        return self.file is None or self.file.is_file()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a connection for looking.

        Raises:
            StateError: The database cannot be reached.
        """
        with self._worded(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that no other writer can be in at the same time; what it does is done whole or not at all.

        Raises:
            StateError: The database cannot be reached or written.
        """
        with self._worded(), self.engine.connect() as connection:
            if self.sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK_KEY}, 1)")
            self._make_tables(connection)
            try:
                yield connection
                if self.sqlite:
                    connection.exec_driver_sql("COMMIT")
                else:
                    connection.commit()
            except BaseException:
                if self.sqlite:
                    connection.exec_driver_sql("ROLLBACK")
                else:
                    connection.rollback()
                raise

    @contextmanager
    def projecting(self) -> Iterator[None]:
        """Be the only one who writes the history's copy in MLflow; ends with the process, however that ends.

        SQLite is one machine's, so a file lock does there; PostgreSQL has locks that its connections hold.
        """
        if self.file is not None:
            from filelock import FileLock

            with FileLock(f"{self.file}.projection.lock"):
                yield
            return
        with self._worded(), self.engine.connect() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({LOCK_KEY}, 2)")
            connection.commit()
            try:
                yield
            finally:
                connection.exec_driver_sql(f"SELECT pg_advisory_unlock({LOCK_KEY}, 2)")
                connection.commit()

    def has_table(self, connection: Connection, name: str) -> bool:
        """Say whether a table is there."""
        from sqlalchemy import inspect

        return inspect(connection).has_table(name)

    def _make_tables(self, connection: Connection) -> None:
        if self.has_table(connection, EVENTS):
            return
        for statement in (*_TABLES, *(_SQLITE_GUARDS if self.sqlite else _POSTGRES_GUARDS)):
            connection.exec_driver_sql(statement)

    @contextmanager
    def _worded(self) -> Iterator[None]:
        from sqlalchemy.exc import DBAPIError

        try:
            yield
        except DBAPIError as error:
            raise StateError(
                f"The database {self.shown} cannot be used ({str(error.orig).strip().splitlines()[0]}).",
                "Check MODELLAB_MLFLOW_URI, the home's rights, and that the server runs.",
            ) from error
