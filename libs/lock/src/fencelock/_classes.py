"""Classes of locks, of which there are only so many: they become metric labels and span names."""

from fencelock._names import OTHER_CLASS

MAX_CLASSES = 100


class Classes:
    """First come, first served up to a limit; whatever comes later is ``other``."""

    def __init__(self, limit: int = MAX_CLASSES) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def value(self, wanted: str) -> str:
        """The class to use for ``wanted``."""
        if wanted in self._known:
            return wanted
        if len(self._known) >= self._limit:
            return OTHER_CLASS
        self._known.add(wanted)
        return wanted
