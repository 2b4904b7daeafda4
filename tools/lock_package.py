"""Build fencelock's wheel, install it where nothing else is, and try it there.

First with nothing but what it requires, then with its extras and what its tests need: they run
against the installed package, from a folder from which the sources cannot be imported. Run by
``make test-package``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "libs/lock"
PINS = ROOT / "requirements/dev.txt"
EXTRAS = "cli,otel,prometheus,sqlalchemy"
FOR_TESTS = (
    *("hypothesis", "pytest", "pytest-asyncio", "pytest-timeout", "pytest-xdist"),
    *("greenlet", "opentelemetry-sdk", "uvloop", "pottery", "python-redis-lock"),
)
MUST_CONTAIN = ("fencelock/py.typed", "fencelock/lua/acquire.lua", "pytest_fencelock.py")
# What a user's type checker sees: the public names, fully typed.
TYPED = """\
import asyncio

import fencelock
from fencelock.guard import fenced_update
from fencelock.testing import FakeServer


async def ship(locks: fencelock.AsyncLockClient) -> int:
    async with locks.lock("order:{1}", wait=1.0) as lease:
        lease.check()
        return lease.fence


def report(locks: fencelock.LockClient) -> str:
    with locks.lock("report") as lease:
        return lease.proof()


fence: int = asyncio.run(ship(FakeServer().client()))
with FakeServer().blocking_client() as client:
    proof: str = report(client)
statement: str = fenced_update("orders", where=["id"], values=["state"])
"""
PYTEST = """\
[tool.pytest.ini_options]
addopts = ["--import-mode=importlib", "-p", "no:cacheprovider"]
pythonpath = ["."]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
timeout = 120
filterwarnings = ["error"]
markers = ["topologies: starts many servers (`make test-topologies`)"]
"""


def main() -> None:
    """Try everything; fail at the first that does not work."""
    with tempfile.TemporaryDirectory(prefix="fencelock-") as folder:
        place = Path(folder)
        wheel = _build(place / "dist")
        bare = _environment(place / "bare", str(wheel))
        _run([bare, "-c", "import fencelock, fencelock.testing, fencelock.guard"], place)
        _run([str(Path(bare).parent / "fencelock"), "--help"], place)
        print("installed alone: it can be imported, and the command runs", flush=True)
        full = _environment(
            place / "full", f"{wheel}[{EXTRAS}]", str(ROOT / "libs/devkit"), *FOR_TESTS
        )
        _check_types(place, full)
        _run_tests(place / "tests", full)


def _build(folder: Path) -> Path:
    hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    _run(hatchling, LOCK)
    (wheel,) = folder.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        missing = set(MUST_CONTAIN) - set(archive.namelist())
    if missing:
        sys.exit(f"{wheel.name} lacks {', '.join(sorted(missing))}")
    print(f"built {wheel.name}, {wheel.stat().st_size // 1024} KiB", flush=True)
    return wheel


def _environment(folder: Path, *packages: str) -> str:
    """Make an environment with these packages, each dependency as pinned; returns its Python."""
    _run([sys.executable, "-m", "uv", "venv", "-q", "--python", sys.executable, str(folder)], ROOT)
    python = str(folder / "bin/python")
    # Without the hashes: they would be asked for the wheel, too, which was made just now.
    constraints = folder / "constraints.txt"
    lines = [line.split(" \\")[0] for line in PINS.read_text().splitlines()]
    constraints.write_text("\n".join(line for line in lines if line and line[0].isalnum()))
    command = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python]
    _run([*command, "-c", str(constraints), *packages], ROOT)
    return python


def _check_types(place: Path, python: str) -> None:
    user = place / "user.py"
    user.write_text(TYPED)
    _run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "user.py"], place
    )
    _run([python, "user.py"], place)
    print("typed: mypy --strict finds nothing in a program that uses it", flush=True)


def _run_tests(folder: Path, python: str) -> None:
    shutil.copytree(LOCK / "tests", folder / "libs/lock/tests")
    shutil.copy(LOCK / "README.md", folder / "libs/lock")
    (folder / "pyproject.toml").write_text(PYTEST)
    (folder / "conftest.py").write_text('pytest_plugins = ["devkit.testing"]\n')
    _run(
        [python, "-m", "pytest", "-q", "-n", "4", "-m", "not topologies", "libs/lock/tests"], folder
    )


def _run(command: list[str], folder: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=clean, check=False)
    if done.returncode != 0:
        sys.exit(f"failed ({done.returncode}): {' '.join(command)}")


if __name__ == "__main__":
    main()
