"""Compare the shop with what the same work costs with less: ``python -m bench.services``.

floor is the protocol's happy path and nothing else; bare is what an ordinary pair of services does,
without any promise. All use the same PostgreSQL and Redis, in one run, one after the other in every
round, so that a busy machine slows them all down; what counts are the ratios. Run it on a machine
that has nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from bench.services.contestants import everybody
from bench.services.figures import Figures, Sample, figures_of
from bench.services.report import Results, calibration, goals, table
from bench.services.rounds import WORKS, Row, Runner, measure


def main() -> int:
    """Run the rows, print them, and write what was asked for."""
    options = _options()
    rows = [Row(work, clients) for work in options.work for clients in options.clients]
    # Creations first: what they make is what deletions delete.
    rows.sort(key=lambda row: WORKS.index(row.work))
    results = _run(options, rows)
    print(f"\n{table(results)}\n\n{goals(results)}\n\n{calibration(results)}")  # noqa: T201
    if options.json:
        options.json.write_text(json.dumps(_document(options, results), indent=1) + "\n")
    if options.picture:
        from bench.services.picture import draw  # noqa: PLC0415  (needs matplotlib)

        draw(results, options.picture)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.services", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each row (default 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a row (default 3)")
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS), metavar="WORK")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32, 200], metavar="N")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=["shop", "traced", "floor", "bare"],
        default=["shop", "floor", "bare", "traced"],
        help="contestants (default all)",
        metavar="NAME",
    )
    parser.add_argument("--durable", action="store_true", help="flush commits to the disk")
    parser.add_argument("--json", type=Path, help="write everything there")
    parser.add_argument("--picture", type=Path, help="draw it there; needs matplotlib")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0 or min(options.clients) < 1:
        parser.error("rounds, seconds and clients must be positive")
    return options


def _run(options: argparse.Namespace, rows: list[Row]) -> Results:
    samples: dict[str, dict[Row, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder,
        everybody(Path(folder), options.only, durable=options.durable) as (servers, contestants),
    ):
        runners = [Runner(contestant, servers) for contestant in contestants.values()]
        for runner in runners:
            _tell(f"preparing {runner.contestant.name}")
            runner.prepare(max(options.clients))
        for name, row, sample in measure(
            runners, rows, rounds=options.rounds, seconds=options.seconds, tell=_tell
        ):
            samples[name][row].append(sample)
    summed: dict[str, dict[Row, Figures]] = {
        name: {row: figures_of(each) for row, each in found.items()}
        for name, found in samples.items()
    }
    return summed


def _document(options: argparse.Namespace, results: Results) -> dict[str, object]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "durable": options.durable,
        "results": {
            name: {str(row): figures.as_json() for row, figures in found.items()}
            for name, found in results.items()
        },
    }


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
