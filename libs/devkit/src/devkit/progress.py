"""Telling a person what is being done, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console


@dataclass
class Step:
    """Something under way; ``name`` may become more exact until it is done."""

    name: str


class Progress:
    """Steps on a console: a spinner while one runs (on a terminal), a line when it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Show a step while the body runs."""
        step = Step(name)
        started = time.monotonic()
        with self._console.status(f"{name} …"):
            yield step
        seconds = time.monotonic() - started
        self._console.print(f"  [green]✓[/] {step.name} [dim]({seconds:.1f} s)[/]")
