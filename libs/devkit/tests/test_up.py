"""`make up` and `make demo` as a person meets them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from devkit.claim import Run, read_run
from devkit.layout import Layout
from devkit.ports import is_free

DEADLINE_SECONDS = 90.0
LAST_LINE = "Ctrl-C stops everything."
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass
class Up:
    """A running `devkit up`, its output going to a file."""

    process: subprocess.Popen[bytes]
    output: Path
    folder: Path
    layout: Layout

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def run(self) -> Run:
        run = read_run(self.folder)
        assert run is not None
        return run

    def until(self, text: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while text not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def end(self, how: signal.Signals | None = None) -> int:
        if how is not None:
            self.process.send_signal(how)
        return self.process.wait(DEADLINE_SECONDS)


def settings(layout: Layout) -> dict[str, str]:
    return {**os.environ, **{name: str(port) for name, port in layout.ports.items()}}


@contextmanager
def devkit_up(folder: Path, layout: Layout, **variables: str) -> Iterator[Up]:
    output = folder.with_suffix(".out")
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "devkit", "up", "--folder", str(folder)],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=settings(layout) | variables,
        )
    with process:
        try:
            yield Up(process, output, folder, layout)
        finally:
            process.kill()


def devkit(*arguments: str, layout: Layout) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devkit", *arguments],
        capture_output=True,
        text=True,
        env=settings(layout),
        timeout=2 * DEADLINE_SECONDS,
        check=False,
    )


def of_folder(folder: Path) -> dict[int, str]:
    """The processes that work in this folder or name it: their ids and command lines."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            place = (entry / "cwd").readlink()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if place.is_relative_to(folder) or str(folder) in command:
            found[int(entry.name)] = command
    return found


def nothing_left(up: Up) -> bool:
    """Whether no process and no port is left, waiting for it a while."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if not of_folder(up.folder) and all(is_free(port) for port in up.layout.ports.values()):
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def layout() -> Layout:
    return Layout.on_free_ports()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shop"


def test_a_person_can_follow_what_up_prints_and_watch_the_demo(
    folder: Path, layout: Layout
) -> None:
    with devkit_up(folder, layout) as up:
        up.until(LAST_LINE)
        order = the_curls_give_what_they_say(up)

        second = devkit("up", "--folder", str(folder), layout=layout)
        assert second.returncode == 1
        assert second.stderr.startswith(f"devkit up: The shop already runs from {folder}")
        assert second.stderr.count("\n") == 1

        demo = devkit("demo", "--folder", str(folder), layout=layout)
        assert demo.returncode == 0, demo.stdout + demo.stderr
        assert f"Driving the shop that runs: {layout.order_url}" in demo.stdout
        assert "Every answer was the one expected." in demo.stdout

        assert up.end(signal.SIGINT) == 0
        assert nothing_left(up)

    with devkit_up(folder, layout) as up:
        up.until(LAST_LINE)
        again = httpx.get(f"{layout.order_url}/orders/{order}", trust_env=False)
        assert again.json()["status"] == "deleted"

        kill_service("invoice", folder)
        assert up.end() == 1
        assert f"devkit up: The invoice service ended (137). The log is {folder}" in up.said
        assert "  | {" in up.said
        assert nothing_left(up)


def the_curls_give_what_they_say(up: Up) -> str:
    """Run them as one script; the id of the order that they made."""
    lines = [line[2:] for line in up.said.splitlines() if line.startswith("  ")]
    first = next(number for number, line in enumerate(lines) if line.startswith("# create"))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(lines[first:])],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=True,
    )
    totals = re.findall(r'"total":"([\d.]+)"', done.stdout)
    assert totals == ["19.00", "19.00", "47.50", "47.50"], done.stdout
    assert re.findall(r"^\d{3}$", done.stdout, re.MULTILINE) == ["204", "409", "204"]
    assert "/problems/invoice-not-locked" in done.stdout
    assert '"status":"deleted"' in done.stdout.splitlines()[-1]
    return done.stdout.splitlines()[0]


def kill_service(name: str, folder: Path) -> None:
    """Kill the service's process itself, not the one that watches it."""
    ending = f" -m {name} serve "
    [pid] = [pid for pid, command in of_folder(folder).items() if command.endswith(ending)]
    os.kill(pid, signal.SIGKILL)


def test_the_demo_starts_a_shop_of_its_own_and_leaves_nothing(folder: Path, layout: Layout) -> None:
    demo = devkit("demo", "--folder", str(folder), layout=layout)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert not folder.exists()


def test_even_a_killed_run_leaves_nothing_behind(folder: Path, layout: Layout) -> None:
    with devkit_up(folder, layout) as up:
        up.until(LAST_LINE)
        up.end(signal.SIGKILL)
        assert nothing_left(up)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_starting_leaves_nothing_behind(
    how: signal.Signals, folder: Path, layout: Layout
) -> None:
    with devkit_up(folder, layout) as up:
        up.until("PostgreSQL on")
        assert up.end(how) == 130
        assert up.said.endswith("Interrupted.\n")
        assert nothing_left(up)


def test_a_service_that_does_not_start_is_named_with_its_last_words(
    folder: Path, layout: Layout
) -> None:
    with devkit_up(folder, layout, INVOICE_SHUTDOWN_SECONDS="none") as up:
        assert up.end() == 1
        assert "The invoice service ended (" in up.said
        assert "INVOICE_SHUTDOWN_SECONDS" in up.said
        assert "Traceback" not in up.said
        assert nothing_left(up)
