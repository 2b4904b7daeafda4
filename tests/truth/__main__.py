"""Make the requests by hand: ``python -m tests.truth [--requests N] [--seed N]``."""

# ruff: noqa: T201 - a command-line tool prints

import argparse
import secrets
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.together.processes import Nursery
from tests.together.shop import Templates
from tests.truth.run import open_shop, run

from devkit.servers import PostgresServer, RedisServer


def main() -> int:
    """Print a verdict; the exit status says whether an answer was untrue."""
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, help="of an earlier run, to make its requests again")
    options = parser.parse_args()
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(PostgresServer(folder / "postgres"))
        redis = stack.enter_context(RedisServer(folder / "redis"))
        nursery = stack.enter_context(Nursery())
        shop, proxies = stack.enter_context(
            open_shop(
                folder,
                nursery=nursery,
                postgres=postgres,
                redis_server=redis,
                templates=Templates.create(postgres),
            )
        )
        verdict = run(shop, proxies, seed=seed, requests=options.requests)
        if verdict.faults:
            print((shop.order.log).read_text(errors="replace")[-6000:])
    print(verdict)
    for fault in verdict.faults:
        print(fault)
    return int(bool(verdict.faults))


if __name__ == "__main__":
    sys.exit(main())
