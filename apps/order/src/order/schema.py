"""The migrations that this package brings."""

from pathlib import Path
from typing import Final

from servicekit.migrations import Migrations

DIRECTORY: Final = Path(__file__).parent / "migrations"
MIGRATIONS: Final = Migrations(DIRECTORY)
