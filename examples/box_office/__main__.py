"""Both services with a PostgreSQL and a Redis of their own: ``python -m examples.box_office``."""

import argparse
import os
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from devkit.interrupts import interruptible
from devkit.processes import Process
from devkit.servers import PostgresServer, RedisServer

PORTS: Final = {"tickets": 8101, "seats": 8102}
"""Where the services listen unless the environment says otherwise."""


def main() -> int:
    """Run everything until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", type=Path, help="write what the services are told to this file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack, interruptible():
        try:
            _run(stack, Path(folder), chosen.env)
        except KeyboardInterrupt:
            return 0
    return 0


def _run(stack: ExitStack, folder: Path, env: Path | None) -> None:
    postgres = stack.enter_context(PostgresServer(folder / "postgres"))
    redis = stack.enter_context(RedisServer(folder / "redis"))
    ports = {name: os.environ.get(f"{name.upper()}_PORT", str(PORTS[name])) for name in PORTS}
    told = {
        "REDIS_URL": redis.url,
        "TICKETS_DATABASE_URL": postgres.create_database("tickets"),
        "SEATS_DATABASE_URL": postgres.create_database("seats"),
        "SEATS_URL": f"http://127.0.0.1:{ports['seats']}",
    }
    for name, port in sorted(ports.items()):
        command = [sys.executable, "-m", f"examples.box_office.{name}", port]
        log = folder / f"{name}.log"
        stack.enter_context(Process(command, log=log, environment={**os.environ, **told}))
    if env is not None:
        env.write_text("".join(f"export {name}={value}\n" for name, value in told.items()))
    sys.stdout.write(f"Tickets: http://127.0.0.1:{ports['tickets']}  Ctrl-C ends it.\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
