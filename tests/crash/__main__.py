"""Run the failures by hand: ``python -m tests.crash [--lock-only]``."""

# ruff: noqa: T201 - a command-line tool prints

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.crash import control
from tests.crash.cases import POINTS, cases
from tests.crash.matrix import lanes_on, open_stages, row_of
from tests.crash.table import render
from tests.together.processes import Nursery
from tests.together.shop import Templates

from devkit.servers import PostgresServer, RedisServer
from tandem.testing.crashes import ACTIONS, run_all


def main() -> int:
    """Print a table; the exit status says whether anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument(
        "--lock-only", action="store_true", help="the same with the lock and without the protocol"
    )
    parser.add_argument("--lanes", type=int, default=4, help="how many failures at once")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(PostgresServer(folder / "postgres"))
        redis = stack.enter_context(RedisServer(folder / "redis"))
        nursery = stack.enter_context(Nursery())
        if options.lock_only:
            alone = control.Control(folder, nursery=nursery, postgres=postgres, redis=redis)
            stack.callback(alone.close)
            return with_the_lock_alone(alone, workers=options.lanes)
        stages = open_stages(
            stack,
            [folder / f"lane{number}" for number in range(options.lanes)],
            nursery=nursery,
            postgres=postgres,
            redis_server=redis,
            templates=Templates.create(postgres),
        )
        wanted = [
            each for service in POINTS for action in ACTIONS for each in cases(service, action)
        ]
        results = run_all(lanes_on(stages), wanted)
    print(render([row_of(result) for result in results]))
    for result in results:
        for fault in result.faults:
            print(f"{result.case}: {fault}")
    return int(any(result.faults for result in results))


def with_the_lock_alone(alone: control.Control, *, workers: int) -> int:
    """Run the control and print what it loses."""
    losses = control.run_all(alone, workers=workers)
    print(render([loss.row() for loss in losses]))
    return int(any(loss.lost for loss in losses))


if __name__ == "__main__":
    sys.exit(main())
