"""Compare fencelock with its peers: ``python -m libs.lock.bench`` from the repository's root.

Every contestant runs in every round, one after the other, against the same server, so that a busy
machine slows them all down; what counts are the ratios.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from libs.lock.bench.rows import every_row

from devkit.servers import RedisServer


def main() -> None:
    """Run the rows and print them."""
    parser = argparse.ArgumentParser(prog="python -m libs.lock.bench", description=__doc__)
    parser.add_argument("--url", help="a server to use; its data is deleted")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each row (default 5)")
    parser.add_argument("--only", default="", help="rows whose title contains this")
    options = parser.parse_args()
    if options.url:
        asyncio.run(run(options.url, options.rounds, options.only))
        return
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        asyncio.run(run(server.url, options.rounds, options.only))


async def run(url: str, rounds: int, only: str) -> None:
    """Print each row as soon as it is there."""
    async for title, lines in every_row(url, rounds, only):
        sys.stdout.write(f"\n{title}\n")
        for line in lines:
            sys.stdout.write(f"  {line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
