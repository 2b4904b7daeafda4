"""One run per folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from devkit.claim import Claim, Run, read_run
from devkit.errors import AlreadyRunning
from devkit.processes import Process


def run(pid: int) -> Run:
    return Run(pid=pid, order_url="http://o", invoice_url="http://i", order_environment={"A": "b"})


def test_a_published_run_can_be_read_until_it_ends(tmp_path: Path) -> None:
    with Claim(tmp_path) as claim:
        claim.publish(run(os.getpid()))
        assert read_run(tmp_path) == run(os.getpid())
    assert read_run(tmp_path) is None


def test_a_run_that_died_counts_for_nothing(tmp_path: Path) -> None:
    with Process([sys.executable, "-c", ""], log=tmp_path / "log") as ended:
        ended.wait(timeout_seconds=20)
    with Claim(tmp_path) as claim:
        claim.publish(run(ended.pid))
        assert read_run(tmp_path) is None


def test_a_second_claim_is_refused_at_once_while_a_run_serves(tmp_path: Path) -> None:
    with Claim(tmp_path) as claim:
        claim.publish(run(os.getpid()))
        with (
            pytest.raises(AlreadyRunning, match=f"process {os.getpid()}.*http://o.*http://i"),
            Claim(tmp_path, wait_seconds=600),
        ):
            pass


def test_a_claim_outlives_its_owner_in_the_processes_that_inherit_it(tmp_path: Path) -> None:
    with Claim(tmp_path) as claim:
        program = [sys.executable, "-c", "import time; time.sleep(600)"]
        process = Process(program, log=tmp_path / "log", inherit=[claim.descriptor])
        process.start()
    with (
        pytest.raises(AlreadyRunning, match="has not finished starting or stopping"),
        Claim(tmp_path, wait_seconds=0.2),
    ):
        pass
    process.stop()
    with Claim(tmp_path):
        pass
