"""Finding what watches the shop, and doing without it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from devkit.errors import MissingTool
from devkit.layout import Layout
from devkit.observability.programs import JAEGER, PROMETHEUS, Program
from devkit.observe import Observers

NOWHERE = Program("Nothing", "no-such-program", "NO_SUCH_PROGRAM", "no/such-image:0", "nothing")


def program(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("wanted", [PROMETHEUS, JAEGER], ids=lambda each: each.name)
def test_a_variable_names_the_program_and_wins_over_the_path(
    tmp_path: Path, wanted: Program
) -> None:
    chosen = program(tmp_path, "chosen")
    program(tmp_path, wanted.executable)

    found = wanted.find({wanted.variable: str(chosen), "PATH": str(tmp_path)})

    assert found.path == str(chosen)


def test_a_program_on_the_path_is_run_as_it_is(tmp_path: Path) -> None:
    path = program(tmp_path, "prometheus")

    found = PROMETHEUS.find({"PATH": str(tmp_path)})

    command = found.command(["--version"], folder=tmp_path, reads=[], container="unused")
    assert command == [str(path), "--version"]


def test_a_variable_that_leads_nowhere_is_named() -> None:
    with pytest.raises(MissingTool, match="PROMETHEUS is /nowhere"):
        PROMETHEUS.find({"PROMETHEUS": "/nowhere", "PATH": os.defpath})


def test_what_is_missing_is_said_with_what_would_help() -> None:
    with pytest.raises(MissingTool, match=r"set NO_SUCH_PROGRAM .* docker pull no/such-image:0"):
        NOWHERE.find({"PATH": os.environ["PATH"]})


def test_nothing_watches_the_shop_unless_it_is_asked_for(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    layout = Layout.on_free_ports()

    with Observers(tmp_path, layout, console=console, environment={}) as observers:
        assert observers.settings == {}
        assert observers.guide == ""

    assert list(tmp_path.iterdir()) == []
