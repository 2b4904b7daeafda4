"""Pin every dependency with hashes, and without download addresses.

Writes requirements/dev.txt (all members and the developer tools), requirements/build.txt (what
installs everything else and builds the members, here and in the images) and one requirements.txt
per service (what its image installs). Run by ``make lock``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from devkit.services import SERVICES

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = {
    "fencelock": ROOT / "libs/lock",
    "servicekit": ROOT / "libs/servicekit",
    "fencelock-tandem": ROOT / "libs/tandem",
    "devkit": ROOT / "libs/devkit",
    **{f"shop-{service}": ROOT / f"apps/{service}" for service in SERVICES},
}
# uv installs the lists, hatchling builds the members, editables links them where they are edited.
BUILDERS = {"editables", "hatchling", "uv"}


def declared(member: str, *, extras: bool) -> set[str]:
    """The dependencies a member declares, and those of its extras where they are wanted."""
    table = tomllib.loads((MEMBERS[member] / "pyproject.toml").read_text())["project"]
    optional = table.get("optional-dependencies", {}).values() if extras else ()
    return {*table.get("dependencies", []), *(name for extra in optional for name in extra)}


def requirements(*members: str, extras: bool) -> set[str]:
    """The third-party requirements of these members and of the members they need."""
    found: set[str] = set()
    for member in members:
        for requirement in declared(member, extras=extras):
            name = requirement.split("[")[0]
            known = name in MEMBERS
            found |= requirements(name, extras=extras) if known else {requirement}
    return found


def pin(names: set[str], output: Path, *constraints: Path) -> None:
    """Resolve ``names`` for every platform and write the pinned, hashed list to ``output``."""
    with tempfile.NamedTemporaryFile("w", suffix=".in") as source:
        source.write("\n".join(sorted(names)) + "\n")
        source.flush()
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"]
        command += ["--python-version", "3.11", "--generate-hashes", "--no-emit-index-url"]
        command += ["--no-annotate", "--no-header"]
        command += [f"--constraint={path}" for path in constraints]
        command += [f"--output-file={output}", source.name]
        subprocess.run(command, check=True)
    print(f"wrote {output.relative_to(ROOT)}")


def main() -> None:
    """Write all lists; a service's image gets the very versions the tests ran with."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    everything = ROOT / "requirements/dev.txt"
    pin(requirements(*MEMBERS, extras=True) | set(tools), everything)
    pin(BUILDERS, ROOT / "requirements/build.txt", everything)
    for service in SERVICES:
        # An image serves: what members have beside it, such as a command for people, stays out.
        names = requirements(f"shop-{service}", extras=False)
        pin(names, ROOT / f"apps/{service}/requirements.txt", everything)


if __name__ == "__main__":
    main()
