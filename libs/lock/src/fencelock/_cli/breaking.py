"""``break``: take a name away from whoever holds it."""

import getpass
import socket
from typing import Any

from redis import Redis

from fencelock import _names, _scripts
from fencelock._cli import page, view
from fencelock._cli.exits import Exit
from fencelock._cli.servers import Servers
from fencelock._protocol import LOCK_PREFIX, QUEUE_PREFIX

NOTE_SECONDS = 7 * 24 * 3600
REASON_LENGTH = 500


def break_(servers: Servers, name: str, *, reason: str, fence: int | None, as_json: bool) -> Exit:
    """End a lease from outside, hand the name over, and leave a note for ``show``."""
    chosen = _names.normalise([name])[0]
    redis = servers.of(chosen)
    answer = _run(redis, servers.fence_key(chosen), chosen, reason, fence)
    if answer[0] == 0:
        held = view.held(redis, chosen)
        now = "nobody holds it" if held is None else f"it is held with fence {held.fence} by now"
        page.complain(f"{chosen} was not broken: {now}")
        return Exit.NOT_FOUND
    # Whatever stood there was taken, a lock or not.
    client, former, raised = [view.text(part) for part in answer[1:]]
    if as_json:
        page.say_json(
            {"name": chosen, "client": client, "fence": int(former or 0), "raised_to": int(raised)}
        )
        return Exit.OK
    whom = (
        "all that shared it, the latest" if client.startswith("*") else f"{client}, which held it"
    )
    page.say(page.printable(f"{chosen}: taken from {whom} with fence {former}."))
    page.say(f"Its fence is raised to {raised}: storage that compares fences refuses the former")
    page.say("holder once anybody has written with a later one. It learns of its loss at once, or,")
    page.say("where the server does not tell, after a third of its TTL at the latest.")
    return Exit.OK


def _run(redis: Redis, counter: str, name: str, reason: str, fence: int | None) -> list[Any]:
    body = _names.body(name)
    keys = [counter, LOCK_PREFIX + body, QUEUE_PREFIX + body, view.BROKEN_PREFIX + body]
    arguments = ["" if fence is None else fence, reason, _who(), NOTE_SECONDS * 1000]
    answer: list[Any] = redis.eval(_scripts.whole("break").text, len(keys), *keys, *arguments)
    return answer


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user, as in many containers
        user = "?"
    return f"{user}@{socket.gethostname()}"
