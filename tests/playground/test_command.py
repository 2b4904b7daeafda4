"""The command: its port, and Ctrl-C at the worst moment."""

import os
import signal
import subprocess
import sys

import pytest
from tools.playground.command import listen

from devkit.errors import DevkitError, PortInUse
from devkit.ports import is_free

# Presses Ctrl-C while the command is being loaded, which takes seconds on a slow machine.
IMPATIENT = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, *rest):
        if name.endswith(".command"):
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
runpy.run_module(sys.argv.pop(1), run_name="__main__")
"""


def test_the_port_is_held_from_the_beginning() -> None:
    with listen({}) as first:
        port = first.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(PortInUse, match="another PLAY_PORT"):
            listen({"PLAY_PORT": str(port)})
        with listen({}) as second:
            assert second.getsockname()[1] != port


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "³", "1.0"])
def test_what_is_no_port_is_refused(port: str) -> None:
    with pytest.raises(DevkitError, match="PLAY_PORT must be"):
        listen({"PLAY_PORT": port})


@pytest.mark.parametrize("module", ["tools.playground", "devkit"])
def test_ctrl_c_while_it_is_loaded_ends_it_quietly(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", IMPATIENT, module, *(["up"] if module == "devkit" else [])],
        env={**os.environ, "PLAY_PORT": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGINT, "Interrupted.\n")
