"""Statements of SQLAlchemy Core, compiled once into what psycopg runs.

Building and compiling a statement costs more than running it, and so does SQLAlchemy's way to
psycopg. Tables, constraints and the construction of statements are SQLAlchemy's; what is run is
text that is made once a process.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.interfaces import Compiled
from sqlalchemy.sql import ClauseElement

_DIALECT: Final = PGDialect_psycopg()  # type: ignore[no-untyped-call]


class Statement:
    """One statement, compiled when it is first needed.

    A parameter without a value (``bindparam("id", type_=...)``) is given when it is run; it takes
    what psycopg takes: ``Jsonb(...)`` for JSON, the ``.value`` of an enumeration's member.

    Args:
        construct: the statement in SQLAlchemy Core.
    """

    def __init__(self, construct: ClauseElement) -> None:
        self._construct = construct

    @cached_property
    def text(self) -> str:
        """The statement as psycopg takes it."""
        return str(self._compiled)

    def with_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters: those given and those that the statement brings."""
        return {**self._fixed, **values}

    def __repr__(self) -> str:
        """Return its first words, for logs and failed tests."""
        return f"Statement({' '.join(self.text.split())[:60]!r})"

    @cached_property
    def _fixed(self) -> dict[str, Any]:
        values = self._compiled.params or {}
        return {name: value for name, value in values.items() if value is not None}

    @cached_property
    def _compiled(self) -> Compiled:
        return self._construct.compile(dialect=_DIALECT)
