"""The fields of a body, listed once: its columns, its payload and what is sent derive from them.

The list is the body's dataclass. How a value is a column and how it is JSON follows from its type,
or is said once for a type. In JSON a field that has its default is left out: what was written
before there was the field means the same, and so does what is written without it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields
from datetime import datetime
from enum import Enum
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, ClassVar, Final, Generic, NamedTuple, Protocol, TypeVar, get_args
from typing import get_type_hints as types_in
from uuid import UUID

from sqlalchemy import Boolean, Column, DateTime, Integer, Text, Uuid
from sqlalchemy.types import TypeEngine


class Body(Protocol):
    """A dataclass, whose instances are bodies."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


BodyT = TypeVar("BodyT", bound=Body)
Convert = Callable[[Any], Any]


class Form(NamedTuple):
    """How the values of one type are kept; a conversion that is None leaves them as they are."""

    column: TypeEngine[Any]
    to_json: Convert | None = None
    from_json: Convert | None = None
    to_column: Convert | None = None
    from_column: Convert | None = None


FORMS: Final[Mapping[type, Form]] = {
    bool: Form(Boolean()),
    int: Form(Integer()),
    str: Form(Text()),
    UUID: Form(Uuid(), to_json=str, from_json=UUID),
    datetime: Form(
        DateTime(timezone=True), to_json=datetime.isoformat, from_json=datetime.fromisoformat
    ),
}
"""The types that need not be explained; members of an enumeration are kept as their values."""


class Fields(Generic[BodyT]):
    """The fields of a body.

    Args:
        body: its dataclass. A field that may be None is a column that may be NULL.
        computed: properties that are kept too, for who reads the row without computing.
        forms: how types are kept that ``FORMS`` does not have, or has otherwise.

    Raises:
        TypeError: a field is of a type that neither has.
    """

    def __init__(
        self,
        body: type[BodyT],
        *,
        computed: tuple[str, ...] = (),
        forms: Mapping[type, Form] | None = None,
    ) -> None:
        self._body = body
        self._given = tuple(field.name for field in fields(body))
        self._defaults = {
            field.name: field.default for field in fields(body) if field.default is not MISSING
        }
        self.names = (*self._given, *computed)
        """All that is kept."""
        self.required = tuple(name for name in self.names if name not in self._defaults)
        """What every payload has: all but the fields that have a default."""
        known = {**FORMS, **(forms or {})}
        hints = {**types_in(body), **{name: _returned(body, name) for name in computed}}
        self._nullable = {name: NoneType in get_args(hints[name]) for name in self.names}
        self._forms = {name: _form(name, hints[name], known) for name in self.names}
        self._all_of = _getter(self.names)
        self._given_of = _getter(self._given)

    def columns(self) -> list[Column[Any]]:
        """Return columns for a table, new ones at each call."""
        return [
            Column(name, self._forms[name].column, nullable=self._nullable[name])
            for name in self.names
        ]

    def values(self, body: BodyT) -> dict[str, Any]:
        """Return all that is kept of a body, by name."""
        return dict(zip(self.names, self._all_of(body), strict=True))

    def to_columns(self, body: BodyT) -> dict[str, Any]:
        """Return a body as columns of a row."""
        return self.as_columns(self.values(body))

    def as_columns(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return some of the fields as columns of a row."""
        return {
            name: _converted(value, self._forms[name].to_column) for name, value in values.items()
        }

    def to_payload(self, body: BodyT) -> dict[str, Any]:
        """Return a body as JSON holds it."""
        return self.as_json(self.values(body))

    def as_json(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return some of the fields as JSON holds them, without those that have their default."""
        return {
            name: _converted(value, self._forms[name].to_json)
            for name, value in values.items()
            if name not in self._defaults or value != self._defaults[name]
        }

    def from_payload(self, payload: Mapping[str, Any]) -> BodyT:
        """Return the body that ``to_payload`` was given."""
        return self._body(**self.from_json(payload, self._given))

    def from_json(self, document: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """Return some of the fields that a JSON document has; one that it lacks has its default.

        Raises:
            KeyError: it lacks a field that has no default.
        """
        return {
            name: _converted(document[name], self._forms[name].from_json)
            if name in document or name not in self._defaults
            else self._defaults[name]
            for name in names
        }

    def from_row(self, row: Any) -> BodyT:  # noqa: ANN401 (a row of SQLAlchemy's or of psycopg's)
        """Return the body that the columns of a row hold."""
        kept = zip(self._given, self._given_of(row), strict=True)
        return self._body(
            **{name: _converted(value, self._forms[name].from_column) for name, value in kept}
        )

    def from_columns(self, row: Any, names: Iterable[str]) -> dict[str, Any]:  # noqa: ANN401
        """Return some of the fields that the columns of a row hold."""
        return {
            name: _converted(getattr(row, name), self._forms[name].from_column) for name in names
        }


def _converted(value: Any, convert: Convert | None) -> Any:  # noqa: ANN401 (whatever a field has)
    return value if convert is None or value is None else convert(value)


def _getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what reads several attributes at once."""
    if len(names) == 1:
        one = attrgetter(*names)
        return lambda source: (one(source),)
    return attrgetter(*names)


def _returned(body: type, name: str) -> Any:  # noqa: ANN401 (a type, or a union of types)
    return types_in(getattr(body, name).fget)["return"]


def _form(name: str, hint: Any, known: Mapping[type, Form]) -> Form:  # noqa: ANN401 (as above)
    if isinstance(hint, UnionType):
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
    if hint in known:
        return known[hint]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Form(Text(), to_json=_value, from_json=hint, to_column=_value, from_column=hint)
    raise TypeError(f"no form is known for the type of {name}, {hint}")


def _value(member: Enum) -> Any:  # noqa: ANN401 (text, in a column of text)
    return member.value
