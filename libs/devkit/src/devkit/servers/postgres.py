"""A real PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from devkit.errors import DevkitError, DidNotStart
from devkit.ports import HOST
from devkit.processes import Process, tail
from devkit.programs import postgres_programs
from devkit.servers.server import Server

UNPRIVILEGED: Final = "nobody"

SETTINGS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # TCP only: a socket's path may be too long below this folder
    "max_connections": "200",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # leaves nothing in /dev/shm when killed
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# A killed process loses nothing by these: what it wrote is with the operating system.
FORGETFUL: Final = {"fsync": "off", "full_page_writes": "off"}


class PostgresServer(Server):
    """A PostgreSQL server with its data in a folder.

    ``durable=False`` skips fsync: right for tests, where losing data with the machine is no loss.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": does not wait for clients to leave
    user: Final = "shop"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        durable: bool = False,
        settings: Mapping[str, str] | None = None,
        inherit: Sequence[int] = (),
    ) -> None:
        """Describe the server; nothing runs yet.

        Args:
            folder: Where its data, password and log are; made if missing.
            port: The port on 127.0.0.1; a free one by default.
            durable: Whether commits are flushed to the disk.
            settings: More of postgresql.conf.
            inherit: File descriptors of ours that stay open until it has ended.
        """
        super().__init__(folder, port=port, inherit=inherit)
        self._settings = {
            **SETTINGS,
            **({} if durable else FORGETFUL),
            **(settings or {}),
        }
        self._data = self.folder / "data"

    def url(self, database: str = "postgres") -> str:
        """The URL of one of its databases, as libpq and SQLAlchemy take it."""
        return f"postgresql://{self.user}:{self._password}@{HOST}:{self.port}/{database}"

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database as a copy of ``template`` and return its URL.

        Raises:
            psycopg.errors.DuplicateDatabase: There is one of that name.
        """
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._administer(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, throwing out whoever is connected to it."""
        self._administer(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def databases(self) -> set[str]:
        """The names of its databases, without the system's own."""
        with self._connect() as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")
            return {str(name) for (name,) in rows} - {"postgres"}

    def _connect(self, *, timeout_seconds: int = 10) -> psycopg.Connection:
        return psycopg.connect(self.url(), autocommit=True, connect_timeout=timeout_seconds)

    def _administer(self, statement: sql.Composed) -> None:
        with self._connect() as connection:
            connection.execute(statement)

    def _answers(self) -> bool:
        try:
            self._connect(timeout_seconds=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _command(self) -> list[str]:
        command = [str(postgres_programs() / "postgres"), "-D", str(self._data)]
        for key, value in {"port": str(self.port), **self._settings}.items():
            command += ["-c", f"{key}={value}"]
        return command

    def _prepare(self, timeout_seconds: float) -> None:
        """Make the database cluster, in one step: an interrupted initdb leaves no half of one."""
        if self._data.exists():
            return
        _check_own_name()
        fresh = self.folder / "data.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        user = self._user()
        if user is not None:
            os.chown(self.folder, *user)
            os.chown(self.folder / "password", *user)
        initdb = Process(
            [
                *(str(postgres_programs() / "initdb"), "--pgdata", str(fresh)),
                *("--username", self.user, "--pwfile", str(self.folder / "password")),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale"),
                *("--no-sync", "--no-instructions"),
            ],
            log=self.log,
            folder=self.folder,
            environment={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            user=user,
            inherit=self._inherit,
        )
        with initdb:
            code = initdb.wait(timeout_seconds=timeout_seconds)
        if code != 0:
            raise DidNotStart("initdb", f"failed ({code})", log=self.log, tail=tail(self.log))
        fresh.rename(self._data)

    def _user(self) -> tuple[int, int] | None:
        """PostgreSQL refuses to run as root, so root lends it the user that owns nothing."""
        owner = super()._user()
        if os.geteuid() != 0 or owner is not None:
            return owner
        try:
            nobody = pwd.getpwnam(UNPRIVILEGED)
        except KeyError:
            raise DevkitError(
                f"PostgreSQL refuses to run as root, and there is no user {UNPRIVILEGED!r} to run "
                "it as: run this as a normal user."
            ) from None
        return nobody.pw_uid, nobody.pw_gid


def _check_own_name() -> None:
    """PostgreSQL's initdb wants to know the name of the user it runs as."""
    uid = os.geteuid()
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise DevkitError(
            f"User {uid} has no name on this machine, which PostgreSQL insists on: run this as a "
            "user that has one, or give ORDER_DATABASE_URL and INVOICE_DATABASE_URL."
        ) from None
