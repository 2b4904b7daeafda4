"""A program ends with its owner, whatever ends that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from devkit.processes import Process, tail

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
DEADLINE_SECONDS = 20.0


def gone(pid: int) -> bool:
    """Whether no such process is left, waiting for it a while."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def said(log: Path, text: str) -> bool:
    """Whether the log comes to hold the text."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if log.exists() and text in log.read_text():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_a_process_runs_until_it_is_stopped(log: Path) -> None:
    process = Process(SLEEPER, log=log)
    with process:
        assert said(log, "up")
        pid = process.pid
    assert process.returncode == 128 + signal.SIGTERM
    assert gone(pid)


def test_the_exit_status_of_the_program_is_reported(log: Path) -> None:
    with Process([sys.executable, "-c", "raise SystemExit(7)"], log=log) as process:
        assert process.wait(timeout_seconds=DEADLINE_SECONDS) == 7


def test_a_killed_program_reports_its_signal(log: Path) -> None:
    with Process(SLEEPER, log=log) as process:
        process.kill()
        assert process.returncode == 128 + signal.SIGKILL


def test_a_program_that_ignores_the_request_to_stop_is_killed(log: Path) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True)"
    with Process([sys.executable, "-c", f"{stubborn}; time.sleep(600)"], log=log) as process:
        assert said(log, "up")
        process.stop(timeout_seconds=0.2)
        assert process.returncode == 128 + signal.SIGKILL


def test_a_frozen_program_can_be_stopped(log: Path) -> None:
    with Process(SLEEPER, log=log) as process:
        process.signal(signal.SIGSTOP)
        process.stop(timeout_seconds=DEADLINE_SECONDS)
        assert process.returncode == 128 + signal.SIGTERM


def test_a_missing_program_says_so_in_its_log(log: Path) -> None:
    with Process(["/nowhere/program"], log=log) as process:
        assert process.wait(timeout_seconds=DEADLINE_SECONDS) == 127
    assert "cannot run /nowhere/program" in tail(log)


def test_waiting_has_a_limit(log: Path) -> None:
    with Process(SLEEPER, log=log) as process, pytest.raises(TimeoutError):
        process.wait(timeout_seconds=0.05)


def test_a_process_started_by_a_thread_outlives_the_thread(log: Path) -> None:
    process = Process(SLEEPER, log=log)
    thread = threading.Thread(target=process.start)
    thread.start()
    thread.join()
    try:
        assert said(log, "up")
        assert process.running
    finally:
        process.stop()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_program_ends_with_its_owner(how: signal.Signals, log: Path) -> None:
    program = (
        "import signal, sys, time; from pathlib import Path; from devkit.processes import Process\n"
        # Where the tests run in the background of a shell, it is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"process = Process({SLEEPER!r}, log=Path({str(log)!r}))\n"
        "process.start(); print(process.pid, flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert said(log, "up")
        owner.send_signal(how)
    assert gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are inherited on Linux only")
def test_what_a_program_started_ends_with_it(log: Path) -> None:
    parent = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],\n"
        "                         start_new_session=True)\n"
        "print('child', child.pid, flush=True); time.sleep(600)"
    )
    with Process([sys.executable, "-c", parent], log=log) as process:
        assert said(log, "child")
        child = int(log.read_text().split()[1])
        process.kill()
        assert gone(child)


def test_the_end_of_the_supervisor_ends_the_program(log: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the kernel ends a program with its parent on Linux only")
    with Process(SLEEPER, log=log) as process:
        assert said(log, "up")
        supervisor = int(Path(f"/proc/{process.pid}/stat").read_text().split()[3])
        os.kill(supervisor, signal.SIGKILL)
        assert gone(process.pid)
