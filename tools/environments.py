"""Make the environment with old pips, and see that every pin can be installed wherever it shall be.

``make env`` meets the pip that came with somebody's Python, which may be years old, and a registry
that has newer releases than the lists name. Run by ``make envs``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The pip that the first release of each supported Python carries (its Lib/ensurepip/__init__.py).
OLDEST_PIP = {"3.11": "22.3", "3.12": "23.2.1", "3.13": "24.2", "3.14": "25.2"}
PLATFORMS = (
    "x86_64-manylinux_2_28",
    "aarch64-manylinux_2_28",
    "x86_64-apple-darwin",
    "aarch64-apple-darwin",
)
# Every developer's pin; those of the images are the same ones (tools/pins.py).
PINS = "requirements/dev.txt"


def main() -> None:
    """Try everything; say what took how long, and fail at the first that cannot be made."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    pips = [pip for python, pip in OLDEST_PIP.items() if _key(python) >= _key(running)]
    for pip in pips:
        print(f"make env, begun by pip {pip}: {_make(pip):.0f} s", flush=True)
    for python in OLDEST_PIP:
        for platform in PLATFORMS:
            _find_wheels(python, platform)
        print(f"Python {python}: a wheel of every pin on {', '.join(PLATFORMS)}", flush=True)


def _key(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _make(pip: str) -> float:
    """Make an environment in a folder of its own, and import the services from it."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        make = ["make", "--no-print-directory", "env", f"VENV={folder}/env", f"PIP_VERSION={pip}"]
        _run([*make, f"PYTHON={sys.executable}"])
        took = time.monotonic() - started
        _run([f"{folder}/env/bin/python", "-c", "import order.app, invoice.app, devkit, pytest"])
        return took


def _find_wheels(python: str, platform: str) -> None:
    """Resolve nothing, build nothing: ask only whether each pin has a wheel of a recorded hash."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--dry-run"]
        command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", folder]
        command += ["--python-version", python, "--python-platform", platform, "-r", PINS]
        _run(command)


def _run(command: list[str]) -> None:
    result = subprocess.run(command, cwd=ROOT, check=False)
    if result.returncode:
        sys.exit(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    main()
