"""A real server that speaks the Redis protocol."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from devkit.ports import HOST
from devkit.programs import redis_program
from devkit.servers.server import Server

DURABLE: Final = {"appendonly": "yes", "appendfsync": "everysec"}


class RedisServer(Server):
    """A server that speaks the Redis protocol, with its data in a folder.

    ``durable=True`` keeps an append-only file; without it a restarted server is empty.
    """

    name = "Redis"
    stop_signal = signal.SIGTERM

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
            durable: Whether it keeps its data over a restart.
            settings: More of redis.conf.
            inherit: File descriptors of ours that stay open until it has ended.
        """
        super().__init__(folder, port=port, inherit=inherit)
        self._settings = {**(DURABLE if durable else {}), **(settings or {})}

    @property
    def url(self) -> str:
        """Its URL, as redis-py takes it."""
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    def _command(self) -> list[str]:
        lines = {
            "bind": HOST,
            "port": str(self.port),
            "dir": ".",  # its working directory is the folder
            "requirepass": self._password,
            "save": '""',
            "daemonize": "no",
            **self._settings,
        }
        path = self.folder / "redis.conf"
        path.touch(mode=0o600)
        path.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
        return [str(redis_program()), str(path)]

    def _answers(self) -> bool:
        client = redis.Redis(
            host=HOST,
            port=self.port,
            password=self._password,
            socket_timeout=2.0,
            retry=Retry(NoBackoff(), 0),
        )
        with client:
            try:
                client.ping()
            except redis.RedisError:
                return False
        return True
