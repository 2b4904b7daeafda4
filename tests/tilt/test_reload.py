"""The loop in the images' `dev` target: a changed source starts the service anew."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.harness.programs import ROOT

DEADLINE_SECONDS = 30.0
SERVICE = """
import pathlib, time
with pathlib.Path({log!r}).open("a") as log:
    log.write("started\\n")
time.sleep(60)
"""


@pytest.fixture
def reloader(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    source = tmp_path / "src"
    source.mkdir()
    (source / "service.py").write_text(SERVICE.format(log=str(tmp_path / "log")))
    command = [sys.executable, str(source / "service.py")]
    script = [sys.executable, str(ROOT / "k8s" / "reload.py"), str(source), "--", *command]
    with subprocess.Popen(script) as process:
        yield process
        process.kill()


def wait_for_starts(log: Path, count: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if log.exists() and len(log.read_text().splitlines()) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"not started {count} times in {DEADLINE_SECONDS} s")


def test_a_changed_source_starts_the_service_anew(
    tmp_path: Path, reloader: subprocess.Popen[bytes]
) -> None:
    wait_for_starts(tmp_path / "log", 1)
    (tmp_path / "src" / "new.py").write_text("")
    wait_for_starts(tmp_path / "log", 2)


def test_it_stops_when_told_to_and_takes_the_service_with_it(
    tmp_path: Path, reloader: subprocess.Popen[bytes]
) -> None:
    wait_for_starts(tmp_path / "log", 1)
    reloader.send_signal(signal.SIGTERM)
    assert reloader.wait(timeout=DEADLINE_SECONDS) == 0


def test_a_command_that_is_done_ends_it(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "k8s" / "reload.py"), str(tmp_path), "--", "true"]
    assert subprocess.run(command, timeout=DEADLINE_SECONDS, check=False).returncode == 0
