"""Compare fencelock with its peers: ``python -m libs.lock.bench`` from the repository's root.

Every contestant runs in every round, one after the other, against the same server, so that a busy
machine slows them all down; what counts are the ratios.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from libs.lock.bench import peers
from libs.lock.bench.rows import Bench, every_row

from devkit.servers import RedisServer


def main() -> None:
    """Run the rows and print them."""
    parser = argparse.ArgumentParser(prog="python -m libs.lock.bench", description=__doc__)
    parser.add_argument("--url", help="a server to use; its data is deleted")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each row (default 5)")
    parser.add_argument("--only", default="", help="rows whose title contains this")
    parser.add_argument(
        "--one-processor",
        action="store_true",
        help="keep the server and all others on one, so that how long it takes to wake another "
        "does not count",
    )
    others = parser.add_mutually_exclusive_group()
    others.add_argument(
        "--peers", type=Path, help="an interpreter that has the locks of libs/lock/bench/peers.txt"
    )
    others.add_argument(
        "--with-peers", action="store_true", help="install them into an environment for this run"
    )
    options = parser.parse_args()
    if options.peers is not None and not options.peers.is_file():
        parser.error(f"--peers: {options.peers} is no interpreter")
    if options.one_processor:
        if not hasattr(os, "sched_setaffinity"):
            parser.error("--one-processor: this system cannot keep a process on one")
        # What is started later inherits it.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        python = options.peers
        if options.with_peers:
            python = peers.make_environment(Path(folder) / "peers")
        url = options.url
        if url is None:
            url = stack.enter_context(RedisServer(Path(folder) / "server")).url
        beside = peers.start(python, url)
        for each in beside:
            stack.callback(each.close)
        asyncio.run(run(Bench(url, options.rounds, beside), options.only))


async def run(bench: Bench, only: str) -> None:
    """Print each row as soon as it is there."""
    async for title, lines in every_row(bench, only):
        sys.stdout.write(f"\n{title}\n")
        for line in lines:
            sys.stdout.write(f"  {line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
