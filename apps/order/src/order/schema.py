"""The migrations that this package brings."""

from pathlib import Path
from typing import Final

from servicekit.migrations import Migrations

MIGRATIONS: Final = Migrations(Path(__file__).parent / "migrations")
