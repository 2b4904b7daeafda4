"""``ls``, ``show`` and ``top``: look at a server without changing anything."""

import signal
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

from fencelock._cli import page, view
from fencelock._cli.exits import EXPECTED, Exit, code_of
from fencelock._cli.servers import Servers
from fencelock._cli.view import Held

# What ends a process that does nothing about it.
_ENDING = (signal.SIGTERM, signal.SIGHUP)
HEADS = ("NAME", "KIND", "HOLDER", "FENCE", "LEFT", "HELD FOR", "WAITING")


def ls(servers: Servers, *, pattern: str, limit: int | None, as_json: bool) -> Exit:
    """The names that are held: in no order for programs, which read them as they are found."""
    # One more than is shown tells whether there are more.
    found = islice(_held(servers, pattern), None if limit is None else limit + 1)
    if as_json:
        for place, each in enumerate(found):
            if limit is None or place < limit:
                page.say_json(each.as_json())
        return Exit.OK
    names = list(found)
    shown = sorted(names[:limit], key=lambda each: each.name)
    page.table(HEADS, [_row(each) for each in shown])
    if limit is not None and len(names) > limit:
        page.complain(f"there are more than {limit}: --limit 0 shows all")
    return Exit.OK


def show(servers: Servers, name: str, *, as_json: bool) -> Exit:
    """Who holds a name and who waits for it."""
    redis = servers.of(name)
    found = view.held(redis, name)
    waiting, total = view.tickets(redis, name)
    broken = view.last_break(redis, name)
    shared = [] if found is None or found.kind == "exclusive" else view.permits(redis, name)
    if as_json:
        page.say_json(
            {
                "name": name,
                "held": None if found is None else found.as_json(),
                "permits": [each.as_json() for each in shared],
                "waiting": total,
                "queue": [ticket.as_json() for ticket in waiting],
                "last_break": broken,
            }
        )
    else:
        _show_people(name, found, broken)
        if found is not None and shared:
            page.say(f"\n{len(shared)} of {found.holders} that hold it:")
            page.table(
                ("HOLDER", "FENCE", "LEFT"),
                [(each.client, str(each.fence), page.duration(each.remaining)) for each in shared],
            )
        if total:
            some = f", the first {len(waiting)} of them:" if total > len(waiting) else ":"
            page.say(f"\n{total} waiting{some}")
            page.table(
                ("HOLDER TO BE", "SINCE", "CONNECTED", "KIND", "WANTS"),
                [_ticket(t) for t in waiting],
            )
    return Exit.NOT_FOUND if found is None else Exit.OK


def top(
    servers: Servers, *, pattern: str, limit: int, interval: float, count: int | None, as_json: bool
) -> Exit:
    """The names with most waiters, then those held longest, again and again."""
    screen = _Screen(as_json=as_json)
    with screen:
        rounds, lost = 0, False
        while True:
            try:
                if lost:
                    servers.find_again()
                names = sorted(_held(servers, pattern), key=_interest)
            except EXPECTED as error:
                # Whoever watches a failover wants to see its end, too.
                if rounds == 0 or code_of(error) != Exit.UNAVAILABLE:
                    raise
                lost = True
                screen.miss(str(error))
            else:
                lost = False
                screen.draw(names, limit)
            rounds += 1
            if count is not None and rounds >= count:
                return Exit.OK
            time.sleep(interval)


def _held(servers: Servers, pattern: str) -> Iterator[Held]:
    """What is held on each of them, one after the other."""
    for redis in servers.all_that_tell():
        yield from view.held_names(redis, pattern)


def _interest(each: Held) -> tuple[int, float, str]:
    return (-each.waiting, each.since or each.now, each.name)


def _row(each: Held) -> tuple[str, ...]:
    held_for = "?" if each.since is None else page.duration(each.now - each.since)
    left = page.duration(each.remaining)
    return (each.name, each.kind, each.client, str(each.fence), left, held_for, str(each.waiting))


def _ticket(ticket: view.Ticket) -> tuple[str, ...]:
    connected = "yes" if ticket.listens else "no: it will be skipped"
    since = view.iso(ticket.since) or "-"
    return (ticket.client, since, connected, ticket.kind, " ".join(ticket.names))


def _show_people(name: str, found: Held | None, broken: dict[str, str] | None) -> None:
    facts: list[tuple[str, str]] = [("name", name)]
    if found is None:
        facts.append(("holder", "nobody"))
    else:
        facts += [
            ("kind", found.kind),
            ("holder", found.client),
            ("fence", str(found.fence)),
            ("since", view.iso(found.since) or "unknown"),
            ("time left", page.duration(found.remaining)),
        ]
        if found.annotation is not None:
            facts.append(("annotation", found.annotation))
    if broken is not None:
        at = view.iso(int(broken["at"]) / 1e6)
        facts.append(("last broken", f"{at} by {broken['by']}: {broken['reason']}"))
    for label, text in facts:
        page.say(f"{label + ':':13}{page.printable(text)}")


class _Screen:
    """Where ``top`` draws: over itself on a terminal, one block after the other elsewhere."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._live: Any = None

    def __enter__(self) -> None:
        if not self._as_json and page.has_rich():
            from rich.live import Live  # noqa: PLC0415 (an extra)

            for number in _ENDING:
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, _end)
            self._live = Live(auto_refresh=False, screen=True)
            self._live.__enter__()

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.__exit__(*error)

    def miss(self, why: str) -> None:
        """Say that there is nothing to show for now."""
        if self._as_json:
            page.say_json({"unavailable": why})
        elif self._live is None:
            page.complain(f"nothing to see for now: {why}")
        else:
            from rich.text import Text  # noqa: PLC0415 (an extra)

            said = f"nothing to see for now: {page.printable(why)}"
            self._live.update(Text(said), refresh=True)

    def draw(self, names: list[Held], limit: int) -> None:
        """Show one moment."""
        waiting = sum(each.waiting for each in names)
        if self._as_json:
            shown = [each.as_json() for each in names[:limit]]
            page.say_json({"held": len(names), "waiting": waiting, "names": shown})
            return
        title = f"{len(names)} names held, {waiting} waiting"
        rows = [_row(each) for each in names[:limit]]
        if self._live is None:
            page.say(title)
            page.table(HEADS, rows)
            page.flush()
        else:
            from rich.console import Group  # noqa: PLC0415 (an extra)

            self._live.update(Group(title, page.rich_table(HEADS, rows)), refresh=True)


def _end(number: int, _: object) -> NoReturn:
    """End with the terminal as it was."""
    sys.exit(Exit.SIGNALLED + number)
