"""The playground as its user starts it, and a real Chromium to look at it with."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from devkit.layout import Layout
from devkit.ports import free_port

START_SECONDS = 180.0
STOP_SECONDS = 60.0


@dataclass
class Running:
    """A playground that runs, and ways past it."""

    process: "subprocess.Popen[str]"
    folder: Path
    port: int
    database_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def rows(self, database: str, statement: str) -> list[dict[str, Any]]:
        password = (self.folder / "postgres/password").read_text()
        url = f"postgresql://shop:{password}@127.0.0.1:{self.database_port}/{database}"
        with psycopg.connect(url, row_factory=dict_row, connect_timeout=10) as connection:
            return connection.execute(statement.encode()).fetchall()

    def stop(self) -> str:
        """Ctrl-C; what it printed."""
        self.process.send_signal(signal.SIGINT)
        printed, _ = self.process.communicate(timeout=STOP_SECONDS)
        return printed


def start(folder: Path) -> Running:
    port = free_port()
    ports = {name: str(value) for name, value in Layout.on_free_ports().ports.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.playground", "--no-browser", "--folder", str(folder)],
        env={**os.environ, **ports, "PLAY_PORT": str(port), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    printed = ""
    deadline = time.monotonic() + START_SECONDS
    for line in process.stdout:
        printed += line
        if "The playground is open" in line:
            break
        assert time.monotonic() < deadline, printed
    else:  # it has ended
        process.communicate()
        pytest.fail(printed)
    found = re.search(r"PostgreSQL on 127\.0\.0\.1:(\d+)", printed)
    assert found, printed
    return Running(process, folder, port, int(found[1]))


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start(tmp_path_factory.mktemp("playground"))
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program: CHROMIUM, or what the PATH has; nothing is fetched."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        missing = "no Chromium on the PATH (apt-get install chromium, or set CHROMIUM)"
        if os.environ.get("PLAY_REQUIRED", "") not in {"", "0"}:
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for something to become true, for half a minute at most."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30.0
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    return wait
