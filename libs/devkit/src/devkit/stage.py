"""Showing a person what is done, what is expected and what came."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from devkit.errors import Unexpected


class Stage:
    """Where steps are shown: what is done, what is expected, what came."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = 0
        self._title = ""

    def step(self, title: str) -> None:
        """Announce the next step."""
        self._number += 1
        self._title = title
        self._console.print(f"\n[bold]{self._number}. {escape(title)}[/]")

    def note(self, text: str) -> None:
        """Show something on the way to what is expected."""
        self._console.print(f"   {escape(text)}")

    def check(self, *, expected: str, came: str, holds: bool) -> None:
        """Show what was expected beside what came.

        Raises:
            Unexpected: They differ.
        """
        mark = "[green]✓[/]" if holds else "[red]✗[/]"
        self._console.print(f"   expected  {escape(expected)}")
        self._console.print(f"   came      {escape(came)} {mark}")
        if not holds:
            raise Unexpected(f"{self._title}: expected {expected}, but came {came}")
