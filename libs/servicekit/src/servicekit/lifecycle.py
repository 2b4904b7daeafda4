"""Whether this process still takes new work."""


class Lifecycle:
    """Shared by the server, which begins to drain, and ``/readyz``, which says so."""

    def __init__(self) -> None:
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether the process has been asked to stop."""
        return self._draining

    def start_draining(self) -> None:
        """Ask for no new work; there is no way back."""
        self._draining = True
