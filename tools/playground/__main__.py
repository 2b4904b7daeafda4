"""``python -m tools.playground``: the shop, and a page on which to use and break it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import uvicorn
from rich.console import Console

from devkit.claim import Claim, Run
from devkit.errors import DevkitError, PortInUse
from devkit.guide import guide
from devkit.interrupts import SIGNALS, interruptible
from devkit.layout import Layout
from devkit.ports import HOST, free_port, is_free
from devkit.progress import Progress
from tools.playground.app import Playground, create_app
from tools.playground.world import World, stopping

PORT: Final = 3002
GOODBYE_SECONDS: Final = 2


class Server(uvicorn.Server):
    """Uvicorn without handlers of its own for signals: we stop more than a server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to us."""
        yield


def chosen_port(environment: Mapping[str, str]) -> int:
    """The page's port: ``PLAY_PORT``, else 3002, else one that is free.

    Raises:
        DevkitError: ``PLAY_PORT`` is no port.
        PortInUse: ``PLAY_PORT`` is taken.
    """
    text = environment.get("PLAY_PORT", "")
    if not text:
        return PORT if is_free(PORT) else free_port()
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65_535):  # noqa: PLR2004
        raise DevkitError(f"PLAY_PORT must be a port number from 1 to 65535, not {text!r}.")
    if not is_free(int(text)):
        raise PortInUse(f"Port {text} on {HOST} is in use. Choose another PLAY_PORT.")
    return int(text)


@contextmanager
def opened(console: Console, folder: Path | None) -> Iterator[World]:
    """The shop of ``make up`` in a folder, or one in a folder of its own that leaves nothing."""
    progress = Progress(console)
    with ExitStack() as stack:
        if folder is None:
            fresh = stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-play-"))
            yield stack.enter_context(World(Path(fresh), Layout.on_free_ports(), progress=progress))
            return
        layout = Layout.from_environment(os.environ)
        claim = stack.enter_context(Claim(folder))
        world = World(folder, layout, progress=progress, durable=True, inherit=[claim.descriptor])
        stack.enter_context(world)
        claim.publish(
            Run(
                pid=os.getpid(),
                order_url=layout.order_url,
                invoice_url=layout.invoice_url,
                order_environment=world.order_environment,
            )
        )
        console.print(guide(layout), markup=False)
        yield world


async def serve(world: World, *, port: int, console: Console, browser: bool) -> None:
    """Serve the page until a signal asks to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop.set)
    playground = Playground(world)
    with stopping(world):
        async with playground.open():
            server = Server(
                uvicorn.Config(
                    create_app(playground, port=port),
                    host=HOST,
                    port=port,
                    lifespan="off",
                    log_level="warning",
                    server_header=False,
                    timeout_graceful_shutdown=GOODBYE_SECONDS,
                )
            )
            serving = asyncio.create_task(server.serve())
            url = f"http://{HOST}:{port}/"
            console.print(f"\nThe playground is open: [bold]{url}[/]\nCtrl-C stops everything.")
            if browser:
                await asyncio.to_thread(show, url)
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            await playground.farewell()
            server.should_exit = True
            await serving
    for number in SIGNALS:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)  # stopping is bounded in time: let nobody cut it


def show(url: str) -> None:
    """Open the page where there is a browser with a window to open it in."""
    if sys.platform != "darwin" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return
    with contextlib.suppress(webbrowser.Error):
        webbrowser.open(url)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status: 0 stopped, 1 failed, 130 interrupted while starting."""
    parser = argparse.ArgumentParser(prog="python -m tools.playground", description=__doc__)
    parser.add_argument(
        "--folder",
        type=Path,
        help="keep data and logs there, as `make up` does (default: a folder that is removed)",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    chosen = parser.parse_args(arguments)
    folder = None if chosen.folder is None else chosen.folder.resolve()
    console = Console(soft_wrap=True, highlight=False)
    with interruptible():
        try:
            port = chosen_port(os.environ)
            console.print("Starting the shop and its playground")
            with opened(console, folder) as world:
                browser = not chosen.no_browser and sys.stdout.isatty()
                asyncio.run(serve(world, port=port, console=console, browser=browser))
                console.print("\nStopping …")
        except (DevkitError, OSError) as failure:
            print(f"playground: {failure}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            return 130
    console.print("Stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
