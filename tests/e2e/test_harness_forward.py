"""The port-forward against a program that behaves as kubectl does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.e2e.harness.forward import ForwardFailed, PortForward
from tests.e2e.harness.programs import ROOT
from tests.e2e.harness.waiting import eventually

# Listens where it is told to (0 when it may choose), says so as kubectl does, answers every
# request with its own process id, and loses its way when it is asked for /drop.
KUBECTL = """
import http.server, os, sys

local, remote = sys.argv[-1].split(":")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/drop":
            print("error: lost connection to pod", file=sys.stderr, flush=True)
            os._exit(1)
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", int(local or 0)), Handler)
print(f"Forwarding from 127.0.0.1:{server.server_port} -> {remote}", flush=True)
server.serve_forever()
"""


@pytest.fixture
def kubectl(tmp_path: Path) -> list[str]:
    script = tmp_path / "kubectl.py"
    script.write_text(KUBECTL)
    return [sys.executable, str(script), "--namespace", "shop"]


@pytest.fixture
def forward(kubectl: list[str], tmp_path: Path) -> Iterator[PortForward]:
    with PortForward("pod/order-0", 3000, kubectl=kubectl, log=tmp_path / "log") as opened:
        yield opened


def server_of(forward: PortForward) -> int:
    return int(httpx.get(forward.url, timeout=5).text)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_port_that_kubectl_chose_is_the_one_in_the_url(forward: PortForward) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", forward.url)
    assert server_of(forward) > 0


def test_a_dropped_forward_comes_back_on_the_same_port(forward: PortForward) -> None:
    url, before = forward.url, server_of(forward)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/drop", timeout=5)

    def answers() -> int:
        try:
            return server_of(forward)
        except httpx.TransportError:
            return before

    after = eventually(
        answers, until=lambda pid: pid != before, what="a new forward", timeout_seconds=30
    )
    assert forward.url == url
    assert is_gone(before)
    assert not is_gone(after)


def test_no_process_is_left_when_it_is_closed(kubectl: list[str], tmp_path: Path) -> None:
    with PortForward("pod/order-0", 3000, kubectl=kubectl, log=tmp_path / "log") as forward:
        pid = server_of(forward)
    assert is_gone(pid)


def test_a_program_that_never_listens_fails_in_time_and_shows_what_it_said(tmp_path: Path) -> None:
    script = "import time; print('still dialing', flush=True); time.sleep(600)"
    forward = PortForward(
        "pod/order-0",
        3000,
        kubectl=[sys.executable, "-c", script],
        log=tmp_path / "log",
        ready_seconds=3,
    )
    with pytest.raises(ForwardFailed, match="still dialing"):
        forward.open()


def test_a_program_that_ends_at_once_fails_with_its_last_words(tmp_path: Path) -> None:
    script = "import sys; sys.exit('error: pods \"order-0\" not found')"
    forward = PortForward(
        "pod/order-0", 3000, kubectl=[sys.executable, "-c", script], log=tmp_path / "log"
    )
    with pytest.raises(ForwardFailed, match='pods "order-0" not found'):
        forward.open()


def test_no_process_is_left_when_the_owner_is_killed(kubectl: list[str], tmp_path: Path) -> None:
    owner = textwrap.dedent(
        f"""
        import pathlib, time
        from tests.e2e.harness.forward import PortForward
        log = pathlib.Path({str(tmp_path / "log")!r})
        with PortForward("pod/order-0", 3000, kubectl={kubectl!r}, log=log) as forward:
            print(forward.url, flush=True)
            time.sleep(600)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", owner], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        pid = int(httpx.get(url, timeout=5).text)
        process.send_signal(signal.SIGKILL)
    eventually(lambda: is_gone(pid), what=f"the end of {pid}", timeout_seconds=30)
