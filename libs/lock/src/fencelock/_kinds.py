"""What holding a name means for others: nobody else, others that share it, or only so many."""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from fencelock._errors import ConfigurationError
from fencelock._shown import shown

PERMITS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Kind:
    """How many may hold a name at once: `Kind.EXCLUSIVE`, `Kind.SHARED` or ``Kind.permits(n)``."""

    name: Literal["exclusive", "shared", "permits"]
    limit: int
    """How many; 0 is any number."""

    EXCLUSIVE: ClassVar["Kind"]
    """Nobody else holds the name."""
    SHARED: ClassVar["Kind"]
    """Others may hold the name too, if they share it; nobody holds it exclusively meanwhile."""

    @staticmethod
    def permits(limit: int) -> "Kind":
        """A semaphore: ``limit`` leases may hold the name at once.

        The limit is that of whoever asks: in the middle of a change of it, each request counts
        those that hold the name against its own.

        Raises:
            ConfigurationError: the limit is not a whole number from 1 to 100,000.
        """
        given: object = limit
        if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= PERMITS_MAX:
            raise ConfigurationError(f"permits are 1 to {PERMITS_MAX}, not {shown(limit)}")
        return Kind("permits", limit)

    def __str__(self) -> str:
        return f"permits({self.limit})" if self.name == "permits" else self.name

    @property
    def ticket_suffix(self) -> str:
        """What says so in the line."""
        return "" if self.name == "exclusive" else f"/{self.limit}"

    def covers(self, wanted: "Kind") -> bool:
        """Whether who holds a name so may do what needs it held as ``wanted``."""
        return self == wanted or self.name == "exclusive"


EXCLUSIVE: Final = Kind("exclusive", 1)
SHARED: Final = Kind("shared", 0)
Kind.EXCLUSIVE, Kind.SHARED = EXCLUSIVE, SHARED


def _permits_like(kind: Kind) -> Kind | None:
    """The semaphore that a kind is, however it was made; None if it is none."""
    return Kind.permits(kind.limit) if kind.name == "permits" else None


def validate(kind: object) -> None:
    """Refuse what is no kind.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(kind, Kind) or kind not in (EXCLUSIVE, SHARED, _permits_like(kind)):
        raise ConfigurationError(
            f"kind is Kind.EXCLUSIVE, Kind.SHARED or Kind.permits(n), not {shown(kind)}"
        )
