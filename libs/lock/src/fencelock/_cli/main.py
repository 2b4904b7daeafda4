"""The arguments of the command, and what each leads to."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

from fencelock import _names
from fencelock._cli import page
from fencelock._cli.bench import bench
from fencelock._cli.breaking import REASON_LENGTH, break_
from fencelock._cli.doctor import doctor
from fencelock._cli.exits import EXPECTED, UNREACHED, Exit, code_of
from fencelock._cli.look import ls, show, top
from fencelock._cli.running import Program, Runner
from fencelock._cli.servers import Servers
from fencelock._cli.view import ANY
from fencelock._client import AsyncLockClient
from fencelock._protocol import MAX_SECONDS

DEFAULT_URL = "redis://localhost:6379"
DAY_SECONDS = 24 * 3600.0

_EXITS = """\
exit codes:
  0    done                         69   the server cannot be reached, or gave no answer
  1    nobody holds the name;       74   the output cannot be written
       doctor: change something     75   the lock was not free in time
  2    wrong arguments              76   the lock was lost while the program ran
                                    78   the URL, its credentials or the server do not fit
  126, 127  the program cannot be run, is not there;  128+N  it was ended by signal N

The URL is better given in the environment (FENCELOCK_URL): others can read arguments.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    page.prepare()
    options = _read(list(sys.argv[1:] if arguments is None else arguments))
    try:
        code = _dispatch(options)
        # Now: at its own end Python would only grumble.
        page.flush()
    except EXPECTED as error:
        page.complain(f"{error}" or type(error).__name__)
        return code_of(error)
    except OSError as error:
        if sys.stdout is not None:
            # Python must not try to write the rest at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            # Whoever read our output has seen enough.
            return Exit.OK
        page.complain(f"the output cannot be written: {error.strerror}")
        return Exit.UNWRITTEN
    except KeyboardInterrupt:
        return Exit.SIGNALLED + 2
    return code


def _read(given: list[str]) -> argparse.Namespace:
    """The arguments; of `run`, what follows "--" is the program, whatever it looks like."""
    cut = given.index("--") if given[:1] == ["run"] and "--" in given else len(given)
    parser = _parser()
    options = parser.parse_args(given[:cut])
    options.command = given[cut + 1 :]
    if options.verb == "run" and not options.command:
        parser.error("run needs a program after --")
    return options


def _dispatch(options: argparse.Namespace) -> int:
    if options.verb == "run":
        return asyncio.run(_run(options))
    if options.verb == "bench":
        work = bench(
            options.url, seconds=options.seconds, tasks=options.tasks, as_json=options.json
        )
        return asyncio.run(work)
    with Servers(options.url, options.timeout) as servers:
        try:
            return _WITH_SERVERS[options.verb](servers, options)
        except UNREACHED as error:
            servers.explain(error)
            raise


# What each verb does that only needs a plain client.
_WITH_SERVERS: dict[str, Callable[[Servers, argparse.Namespace], Exit]] = {
    "ls": lambda servers, given: ls(
        servers, pattern=given.match, limit=given.limit or None, as_json=given.json
    ),
    "show": lambda servers, given: show(servers, _name(given.name), as_json=given.json),
    "top": lambda servers, given: top(
        servers,
        pattern=given.match,
        limit=given.limit,
        interval=given.interval,
        count=given.count,
        as_json=given.json,
    ),
    "break": lambda servers, given: break_(
        servers, _name(given.name), reason=given.reason, fence=given.fence, as_json=given.json
    ),
    "doctor": lambda servers, given: doctor(servers, strict=given.strict, as_json=given.json),
}


async def _run(options: argparse.Namespace) -> int:
    client = AsyncLockClient.from_url(
        options.url, ttl=options.ttl, wait=options.wait, max_hold=options.max_hold
    )
    async with client:
        return await Runner(Program(options.command, options.grace)).run(client, options.names)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fencelock",
        description="Look into the locks on a Redis server, and run programs under one.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_looking(verbs)
    _add_break(verbs)
    _add_run(verbs)
    examine = _verb(verbs, "doctor", "check whether a server is fit for locks, and say what to do")
    examine.add_argument("--strict", action="store_true", help="exit 1 on warnings, too")
    measure = _verb(verbs, "bench", "measure locks on a server, on names of its own")
    measure.add_argument("--seconds", type=_positive, default=2.0, help="for each row (2)")
    measure.add_argument("--tasks", type=_count, default=32, help="in one process (32)")
    return parser


Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 (has no public name)


def _verb(verbs: Verbs, name: str, text: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    url = os.environ.get("FENCELOCK_URL", DEFAULT_URL)
    made.add_argument("--url", default=url, help=f"of the server (FENCELOCK_URL, {DEFAULT_URL})")
    if name != "run":
        made.add_argument("--json", action="store_true", help="one JSON object a line")
        made.add_argument("--timeout", type=_positive, default=5.0, help="seconds a reply may take")
    return made


def _add_looking(verbs: Verbs) -> None:
    listing = _verb(verbs, "ls", "list the names that are held")
    _add_match(listing)
    listing.add_argument(
        "--limit", type=_natural, default=1000, help="names at most; 0: all (1000)"
    )
    showing = _verb(verbs, "show", "who holds a name, and who waits for it")
    showing.add_argument("name")
    live = _verb(verbs, "top", "the names with most waiters, live")
    _add_match(live)
    live.add_argument("--limit", type=_count, default=20, help="names shown (20)")
    live.add_argument("--interval", type=_positive, default=1.0, help="seconds between looks (1)")
    live.add_argument("--count", type=_count, help="looks, then end")


def _add_match(looking: argparse.ArgumentParser) -> None:
    looking.add_argument("--match", type=_text, default=ANY, metavar="GLOB", help="only such names")


def _add_break(verbs: Verbs) -> None:
    breaking = _verb(verbs, "break", "take a name away from its holder and raise the fence")
    breaking.add_argument("name")
    breaking.add_argument("--reason", required=True, type=_reason, help="kept for a week, for show")
    breaking.add_argument("--fence", type=_count, help="only if it is still held with this fence")


def _add_run(verbs: Verbs) -> None:
    running = _verb(verbs, "run", "run a program under a lock: run NAME [NAME ...] -- PROGRAM")
    running.add_argument("names", nargs="+", metavar="NAME", help="several share a hash tag")
    running.add_argument("--ttl", type=_positive, default=10.0, help="seconds of the lease (10)")
    running.add_argument("--wait", type=_limit, default=0.0, help="seconds to stand in line (0)")
    running.add_argument(
        "--max-hold", type=_positive, default=DAY_SECONDS, help="seconds it may run (a day)"
    )
    running.add_argument(
        "--grace", type=_limit, default=5.0, help="seconds from SIGTERM to SIGKILL on a loss (5)"
    )


def _name(text: str) -> str:
    return _names.normalise([text])[0]


def _limit(text: str) -> float:
    value = float(text)
    if not 0 <= value <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"must be 0 to {MAX_SECONDS:.0f} (a year)")
    return value


def _positive(text: str) -> float:
    value = _limit(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if not 0 <= value < sys.maxsize:
        raise argparse.ArgumentTypeError(f"must be 0 to {sys.maxsize - 1}")
    return value


def _count(text: str) -> int:
    value = _natural(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _reason(text: str) -> str:
    if not 0 < len(text.strip()) <= REASON_LENGTH:
        raise argparse.ArgumentTypeError(f"must be 1 to {REASON_LENGTH} characters")
    return _text(text.strip())


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        # Python reads bytes that are none as lone surrogates.
        raise argparse.ArgumentTypeError("must be text in UTF-8") from None
    return text
