"""The command ``python -m tools.playground``: starts the shop and its page, and stops both."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import uvicorn
from rich.console import Console

from devkit.claim import Claim, Run
from devkit.errors import DevkitError, PortInUse, Unexpected
from devkit.guide import guide
from devkit.interrupts import SIGNALS
from devkit.layout import Layout
from devkit.observe import Observers
from devkit.ports import HOST
from devkit.progress import Progress
from tools.playground.app import Playground, create_app
from tools.playground.world import World, stopping

PORT: Final = 3002
GOODBYE_SECONDS: Final = 2
BACKLOG: Final = 128


class Server(uvicorn.Server):
    """Uvicorn without handlers of its own for signals: we stop more than a server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to us."""
        yield


def listen(environment: Mapping[str, str]) -> socket.socket:
    """Listen on the page's port: ``PLAY_PORT``, else 3002, else one that is free.

    Done before anything is started, so that nobody takes the port meanwhile; a browser that comes
    early waits.

    Raises:
        DevkitError: ``PLAY_PORT`` is no port.
        PortInUse: ``PLAY_PORT`` is taken.
    """
    text = environment.get("PLAY_PORT", "")
    if text and not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65_535):  # noqa: PLR2004
        raise DevkitError(f"PLAY_PORT must be a port number from 1 to 65535, not {text!r}.")
    try:
        return _listener(int(text or PORT))
    except OSError as taken:
        if text:
            reason = f"Port {text} on {HOST} cannot be used: {taken.strerror}."
            raise PortInUse(f"{reason} Choose another PLAY_PORT.") from taken
        return _listener(0)


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


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
        inherit = [claim.descriptor]
        observers = stack.enter_context(
            Observers(folder, layout, console=console, environment=os.environ, inherit=inherit)
        )
        world = World(
            folder,
            layout,
            progress=progress,
            durable=True,
            inherit=inherit,
            settings=observers.settings,
            traces_url=observers.traces_url,
        )
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
        if observers.guide:
            console.print(f"Watch it:\n{observers.guide}", markup=False)
        yield world


async def serve(world: World, *, listener: socket.socket, console: Console, browser: bool) -> None:
    """Serve the page until a signal asks to stop.

    Raises:
        Unexpected: What looks at the shop, or brings its parts back, has failed.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop.set)
    playground = Playground(world)
    port = listener.getsockname()[1]
    with stopping(world):
        async with playground.open():
            server = Server(
                uvicorn.Config(
                    create_app(playground, port=port),
                    host=HOST,
                    port=port,
                    lifespan="off",
                    log_level="warning",
                    ws="none",
                    server_header=False,
                    timeout_graceful_shutdown=GOODBYE_SECONDS,
                )
            )
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            url = f"http://{HOST}:{port}/"
            console.print(f"\nThe playground is open: [bold]{url}[/]\nCtrl-C stops everything.")
            if browser:  # some browsers return only when they are closed
                threading.Thread(target=show, args=(url,), daemon=True).start()
            stopped = asyncio.create_task(stop.wait())
            ends = {serving, stopped, *playground.keepers}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            await playground.farewell()
            server.should_exit = True
            await serving
            _check(playground.keepers)
    for number in SIGNALS:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)  # stopping is bounded in time: let nobody cut it


def _check(keepers: Sequence[asyncio.Task[None]]) -> None:
    for keeper in keepers:
        if keeper.done() and not keeper.cancelled() and (error := keeper.exception()) is not None:
            raise Unexpected(f"The playground cannot go on: {error!r}.") from error


def show(url: str) -> None:
    """Open the page where there is a browser with a window to open it in."""
    if sys.platform != "darwin" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return
    with contextlib.suppress(webbrowser.Error):
        webbrowser.open(url)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit status: 0 stopped, 1 failed.

    Raises:
        KeyboardInterrupt: Interrupted while it was starting.
    """
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
    try:
        with listen(os.environ) as listener:
            console.print("Starting the shop and its playground")
            with opened(console, folder) as world:
                browser = not chosen.no_browser and sys.stdout.isatty()
                asyncio.run(serve(world, listener=listener, console=console, browser=browser))
                console.print("\nStopping …")
    except (DevkitError, OSError) as failure:
        print(f"playground: {failure}", file=sys.stderr)
        return 1
    console.print("Stopped.")
    return 0
