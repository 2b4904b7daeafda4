"""`make up`: the shop on this machine until Ctrl-C."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from devkit.claim import Claim, Run
from devkit.errors import DidNotStart
from devkit.guide import guide
from devkit.layout import Layout
from devkit.observe import Observers
from devkit.progress import Progress
from devkit.shop import Shop

POLL_SECONDS: Final = 0.2


def up(console: Console, folder: Path) -> None:
    """Run the shop with its data in ``folder`` until interrupted.

    Raises:
        DevkitError: It could not start, or a part of it ended.
        KeyboardInterrupt: Interrupted while it was starting.
    """
    layout = Layout.from_environment(os.environ)
    progress = Progress(console)
    console.print(f"Starting the shop; data and logs are in {folder}")
    with (
        Claim(folder) as claim,
        Observers(
            folder, layout, console=console, environment=os.environ, inherit=[claim.descriptor]
        ) as observers,
        Shop(
            folder,
            layout,
            progress=progress,
            durable=True,
            inherit=[claim.descriptor],
            settings=observers.settings,
        ) as shop,
    ):
        claim.publish(
            Run(
                pid=os.getpid(),
                order_url=layout.order_url,
                invoice_url=layout.invoice_url,
                order_environment=shop.environment("order"),
            )
        )
        console.print(guide(layout), markup=False)
        if observers.guide:
            console.print(f"Watch it:\n{observers.guide}", markup=False)
        try:
            watch(shop)
        except KeyboardInterrupt:
            console.print("\nStopping …")
        except DidNotStart:
            console.print("\nA part of the shop has ended; stopping the rest …")
            raise
    console.print("Stopped. `make up` finds the data again, `make clean` removes it.")


def watch(shop: Shop) -> None:
    """Return never; raise when a part of the shop ends by itself.

    Raises:
        DidNotStart: Names the part, with the last lines of its log.
    """
    while True:
        if (ended := shop.ended()) is not None:
            raise ended
        time.sleep(POLL_SECONDS)
