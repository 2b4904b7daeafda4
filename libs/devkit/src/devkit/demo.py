"""`make demo`: drives a running shop for a person who watches, and checks every answer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console

from devkit.claim import Run, read_run
from devkit.client import Client
from devkit.errors import Unexpected
from devkit.layout import Layout
from devkit.play import play
from devkit.progress import Progress
from devkit.shop import Shop
from devkit.stage import Stage


def demo(console: Console, folder: Path) -> None:
    """Drive the shop that runs from ``folder``, or one started for the purpose.

    Raises:
        DevkitError: An answer differs from what is promised, or the shop did not start.
    """
    with running(console, folder) as run:
        client = Client(run.order_url, run.invoice_url)
        try:
            play(Stage(console), client, run)
        except httpx.HTTPError as failure:
            raise Unexpected(f"A request failed: {failure!r}") from failure
        finally:
            client.close()
    console.print("\n[green]Every answer was the one expected.[/]")


@contextmanager
def running(console: Console, folder: Path) -> Iterator[Run]:
    """The run that `make up` holds, or a fresh one on free ports that leaves nothing behind."""
    run = read_run(folder)
    if run is not None:
        console.print(f"Driving the shop that runs: {run.order_url} and {run.invoice_url}")
        yield run
        return
    console.print("Nothing runs here, so the demo starts a shop of its own on free ports")
    layout = Layout.on_free_ports()
    with (
        tempfile.TemporaryDirectory(prefix="shop-") as fresh,
        Shop(Path(fresh), layout, progress=Progress(console)) as shop,
    ):
        yield Run(
            pid=0,
            order_url=layout.order_url,
            invoice_url=layout.invoice_url,
            order_environment=shop.environment("order"),
        )
