"""What must not be in the repository is found."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tools.tracked import offences


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, timeout=60)
    return tmp_path


def track(repository: Path, name: str, content: str | bytes) -> None:
    path = repository / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    subprocess.run(["git", "-C", str(repository), "add", "-f", name], check=True, timeout=60)


def test_a_clean_repository_has_no_offences(repository: Path) -> None:
    track(repository, "README.md", "See https://docs.python.org and redis:8.\n")
    track(repository, "picture.png", b"\x89PNG\0")
    assert list(offences(repository)) == []


@pytest.mark.parametrize("parts", [("pypi", "org"), ("files.pythonhosted", "org"), ("ghcr", "io")])
def test_a_registry_host_is_found_with_its_line(repository: Path, parts: tuple[str, str]) -> None:
    host = ".".join(parts)
    track(repository, "file.txt", f"one\nfrom https://{host}/simple\n")
    assert list(offences(repository)) == [f"file.txt:2: names {host}"]


def test_a_tracked_file_that_is_ignored_is_found(repository: Path) -> None:
    track(repository, ".gitignore", "build/\n*.pyc\n")
    track(repository, "module.pyc", "code")
    assert list(offences(repository)) == [
        "module.pyc: generated (ignored by .gitignore), yet tracked"
    ]


def test_a_lock_file_with_addresses_is_found(repository: Path) -> None:
    track(repository, "uv.lock", "version = 1\n")
    assert list(offences(repository)) == ["uv.lock: records download addresses"]
