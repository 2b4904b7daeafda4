"""What must not be in the repository: download addresses, registry hosts, generated files.

Dependencies are pinned by hash, so where they come from is the affair of whoever installs them.
Run by ``make check`` as ``python -m tools.tracked``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

HOSTS: Final = re.compile(
    r"\b("
    r"(files\.)?pythonhosted\.org|pypi\.org|registry\.npmjs\.org|proxy\.golang\.org|crates\.io"
    r"|(index\.|registry-1\.)?docker\.io|ghcr\.io|quay\.io|gcr\.io|registry\.k8s\.io"
    r"|dl\.k8s\.io|get\.helm\.sh|github\.com/[\w.-]+/[\w.-]+/(releases/download|archive)"
    r")\b"
)
# Lock files of tools that write an address beside each hash.
ADDRESS_BOOKS: Final = frozenset({"uv.lock", "poetry.lock", "Pipfile.lock", "package-lock.json"})


def listed(root: Path, *options: str) -> list[Path]:
    """What ``git ls-files`` lists, below ``root``."""
    command = ["git", "-C", str(root), "ls-files", "-z", *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return [root / name for name in done.stdout.split("\0") if name]


def offences(root: Path) -> Iterator[str]:
    """One line for each thing that must not be tracked."""
    for path in listed(root, "--cached", "--ignored", "--exclude-standard"):
        yield f"{path.relative_to(root)}: generated (ignored by .gitignore), yet tracked"
    for path in listed(root):
        if path.name in ADDRESS_BOOKS:
            yield f"{path.relative_to(root)}: records download addresses"
        elif path.is_file() and not path.is_symlink():
            yield from hosts(path, path.relative_to(root))


def hosts(path: Path, shown: Path) -> Iterator[str]:
    """One line for each registry host in a text file."""
    content = path.read_bytes()
    if b"\0" in content:
        return
    for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
        if found := HOSTS.search(line):
            yield f"{shown}:{number}: names {found[0]}"


def main() -> int:
    """Print the offences; 1 if there are any."""
    found = list(offences(Path.cwd()))
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
