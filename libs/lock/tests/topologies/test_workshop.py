"""Where a lock of another language cannot be built, a test says why."""

from dataclasses import replace
from pathlib import Path

import pytest
from libs.lock.tests.topologies.workshop import (
    NODE_REDLOCK,
    REDISSON,
    Program,
    Unavailable,
    Workshop,
)

SHELL = replace(NODE_REDLOCK, tools=("sh",))
ANOTHER = (
    """echo '{"packages": {"node_modules/redlock": {"integrity": "sha512-x"}}}' """
    "> node_modules/.package-lock.json"
)


CASES: dict[str, tuple[Program, str]] = {
    "tools are missing": (
        replace(SHELL, tools=("sh", "no-such", "nor-this")),
        "^node-redlock needs no-such and nor-this on the PATH$",
    ),
    "a download fails": (
        replace(SHELL, fetch=("sh", "-c", "echo no way >&2; echo out; exit 1")),
        r"^node-redlock cannot be built: `sh -c` says no way / out$",
    ),
    "it does not compile": (
        replace(SHELL, folder="redsync", fetch=("true",), compile=("sh", "-c", "exit 2")),
        r"^redsync cannot be built: `sh -c` says nothing$",
    ),
    "a download hangs, and what it has started": (
        replace(SHELL, fetch=("sh", "-c", "sleep 60 & sleep 60"), seconds=0.2),
        r"^node-redlock cannot be built: `sh -c` has not ended after 0.2 s$",
    ),
    "a package is another": (
        replace(SHELL, fetch=("sh", "-c", "mkdir node_modules; " + ANOTHER)),
        r"^node-redlock is not made of the packages that are pinned: \['@ioredis/commands'",
    ),
    "a jar is another": (
        replace(
            REDISSON,
            tools=(),
            fetch=("sh", "-c", "mkdir jars; cut -c 67- jars.sha256 | (cd jars && xargs touch)"),
        ),
        r"^redisson is not made of the jars that are pinned: \['byte-buddy-1",
    ),
}


@pytest.mark.parametrize(("program", "why"), CASES.values(), ids=list(CASES))
def test_it_is_said_in_a_line(
    program: Program, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):  # what has failed once is not tried again
        with pytest.raises(Unavailable, match=why):
            program.build(tmp_path)
    monkeypatch.setenv("PEERS_REQUIRED", "0")
    with pytest.raises(pytest.skip.Exception, match=why):
        Workshop(tmp_path).start(program)
    monkeypatch.setenv("PEERS_REQUIRED", "1")
    with pytest.raises(pytest.fail.Exception, match=why):
        Workshop(tmp_path).start(program)
