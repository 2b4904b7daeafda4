"""docs/own-services.md: its commands do what it says, and its code is that of the example."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devkit.ports import free_port

pytestmark = pytest.mark.pair

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-services.md").read_text()
PORTS = ("8101", "8102", "8103")
SECONDS = 90


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_code_on_the_page_is_the_examples() -> None:
    sources = [path.read_text() for path in (ROOT / "examples" / "box_office").glob("*.py")]
    found = blocks("python")
    assert found
    assert [block for block in found if not any(block in source for source in sources)] == []


def test_the_commands_on_the_page_say_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "\n".join(blocks("sh")).replace("make env\n", "")
    script = script.replace(".venv/bin/python", sys.executable)
    ports = {port: str(free_port()) for port in PORTS}
    for port, free in ports.items():
        script = re.sub(rf"(localhost:|tickets ){port}", rf"\g<1>{free}", script)
    monkeypatch.setenv("TICKETS_PORT", ports["8101"])
    monkeypatch.setenv("SEATS_PORT", ports["8102"])
    said = run(script, tmp_path)
    expected = "\n".join(blocks("text"))
    pattern = ".*?".join(re.escape(part) for part in re.split(r"…|\n+", expected))
    assert re.search(pattern, said, re.DOTALL), said


def run(script: str, folder: Path) -> str:
    """What a shell says to a script; nothing of it is left running."""
    shell = subprocess.Popen(
        ["bash", "-u", "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "no_proxy": "*"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        return shell.communicate(timeout=SECONDS)[0]
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGTERM)
        return shell.communicate(timeout=SECONDS)[0]
