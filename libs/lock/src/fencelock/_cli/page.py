"""Printing: tables for people (with rich on a terminal, where it is), JSON for programs."""

import contextlib
import errno
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType


MINUTE_SECONDS = 60


def printable(text: str) -> str:
    """The text with everything escaped that could move the cursor or hide something."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def duration(seconds: float | None) -> str:
    """A time span in two units at most."""
    if seconds is None:
        return "for ever"
    if seconds < MINUTE_SECONDS:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for unit, size, part, of in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // of} {part}"
    return f"{whole // 60} min {whole % 60} s"


def prepare() -> None:
    """Let what the encoding of standard output lacks be shown escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """One line to standard output."""
    _output().write(text + "\n")


def complain(text: str) -> None:
    """One line to standard error, which leaves standard output to the programs that read it.

    That nobody hears it changes nothing of what is to be done.
    """
    # None if whoever started us closed it.
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"fencelock: {printable(text)}\n")


def say_json(value: object) -> None:
    """One line of JSON, at once."""
    say(json.dumps(value))
    flush()


def flush() -> None:
    """Write what was said."""
    if sys.stdout is not None:
        sys.stdout.flush()


def is_terminal(stream: TextIO | None) -> bool:
    """Whether it is one; not if whoever started us closed it."""
    return stream is not None and stream.isatty()


def has_rich() -> bool:
    """Whether to draw for a terminal."""
    return is_terminal(sys.stdout) and find_spec("rich") is not None


def _output() -> TextIO:
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return sys.stdout


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table whose cells are escaped."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if has_rich():
        from rich.console import Console  # noqa: PLC0415 (an extra)

        Console().print(rich_table(heads, cells))
    else:
        for line in plain_table(heads, cells):
            say(line)


def plain_table(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in aligned columns, none of them cut off."""
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [heads, *cells]
    ]


def rich_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> "RenderableType":
    """The same for rich."""
    from rich import box  # noqa: PLC0415 (an extra)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        # As Text: what looks like markup in a name is not.
        drawn.add_row(*[Text(printable(cell), overflow="fold") for cell in row])
    return drawn
