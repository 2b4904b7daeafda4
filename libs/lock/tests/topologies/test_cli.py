"""The command looks into whatever a URL leads to, or says why it does not."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from libs.lock.tests.topologies.servers import Clustered, Replicated, ask, until
from redis.exceptions import RedisError

from devkit.servers import RedisServer
from fencelock import LeaseLost, LockClient, NotOwner
from fencelock._cli.main import main

NAME = "order:{1}"
# In three slots, one on each master.
NAMES = [f"order:{{{number}}}" for number in range(12)]
Shell = Callable[..., tuple[int, list[Any], str]]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    """Runs the command with ``--json``: exit code, what it printed, what it complained about."""

    def run(url: str, verb: str, *arguments: str) -> tuple[int, list[Any], str]:
        capsys.readouterr()
        code = main([verb, "--url", url, "--json", *arguments])
        said = capsys.readouterr()
        return code, [json.loads(line) for line in said.out.splitlines()], said.err

    return run


@pytest.fixture(params=["Sentinel", "Sentinel with replicas", "Cluster"])
def url(request: pytest.FixtureRequest) -> str:
    """Of a topology in which some server knows who holds a name."""
    if request.param == "Cluster":
        clustered: Clustered = request.getfixturevalue("clustered")
        return clustered.url
    replicated: Replicated = request.getfixturevalue("replicated")
    return replicated.url + ("?replicas=1" if request.param.endswith("replicas") else "")


def test_ls_show_and_top_find_what_is_held(url: str, shell: Shell) -> None:
    with LockClient.from_url(url) as client:
        leases = {name: client.acquire(name) for name in NAMES}
        code, found, _ = shell(url, "ls")
        assert code == 0
        assert {each["name"]: each["fence"] for each in found} == {
            name: lease.fence for name, lease in leases.items()
        }
        code, some, _ = shell(url, "ls", "--match", "order:{1*", "--limit", "2")
        assert (code, len(some)) == (0, 2)
        for name, lease in leases.items():
            code, [shown], _ = shell(url, "show", name)
            assert (code, shown["held"]["fence"]) == (0, lease.fence)
        code, [top], _ = shell(url, "top", "--count", "1")
        assert (code, top["held"]) == (0, len(NAMES))
        for lease in leases.values():
            lease.release()
    assert shell(url, "ls")[:2] == (0, [])
    assert shell(url, "show", NAME)[0] == 1


def is_master(port: int) -> bool:
    try:
        return bool(ask(port, "ROLE")[0] == "master")
    except RedisError:  # it drops its connections when it becomes the master
        return False


def wait_until_seen(top: "subprocess.Popen[str]") -> None:
    """Until it has looked once: who never saw a server gives up."""
    assert top.stdout is not None
    assert "held" in json.loads(top.stdout.readline())


def wait_until_seen_again(top: "subprocess.Popen[str]") -> None:
    assert top.stdout is not None
    missed = False
    for look in map(json.loads, top.stdout):
        if missed and look.get("held") == 1:
            return
        missed = missed or "unavailable" in look


def test_while_a_master_is_replaced_each_command_says_so_or_goes_on(
    doomed: Replicated, shell: Shell, tmp_path: Path
) -> None:
    """`ls` and `show` are for a moment that may be the wrong one; `top` and `run` go on."""
    url, done = doomed.url, tmp_path / "done"
    waits = f"while [ ! -e {done} ]; do sleep 0.05; done"
    command = [sys.executable, "-m", "fencelock"]
    with ExitStack() as stack:

        def start(*arguments: str) -> "subprocess.Popen[str]":
            started = subprocess.Popen(
                [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            stack.enter_context(started)
            stack.callback(started.kill)
            return started

        top = start("top", "--url", url, "--json", "--interval", "0.2")
        running = start("run", NAME, "--url", url, "--ttl", "60", "--", "sh", "-c", waits)
        until(lambda: len(shell(url, "ls")[1]) == 1, "it runs")
        wait_until_seen(top)
        until(lambda: bool(ask(doomed.second.port, "EXISTS", f"fencelock:l:{NAME}")), "copied")
        doomed.master.kill()
        codes, said = set(), ""

        for _ in range(100):
            for verb in (("ls",), ("show", NAME), ("doctor", "--timeout", "1")):
                code, _, complaint = shell(url, *verb)
                codes.add(code)
                said += complaint
            if is_master(doomed.second.port):
                break
        # Gone for now, or found; never a traceback, nor a wrong idea of what is held.
        assert codes <= {0, 1, 69}, codes
        assert "Traceback" not in said
        # One Sentinel may still name the old master when another one knows the new.
        until(lambda: [each["name"] for each in shell(url, "ls")[1]] == [NAME], "ls finds it again")
        assert running.poll() is None, "it outlives the failover"
        wait_until_seen_again(top)
        assert top.poll() is None, "it saw the master go, and the next one come"
        done.touch()
        assert running.wait(60.0) == 0
        until(lambda: shell(url, "ls")[:2] == (0, []), "it is given back at the new master")
        top.send_signal(signal.SIGINT)
        _, complaint = top.communicate(timeout=30.0)
        assert "Traceback" not in complaint


def test_break_raises_the_fence_of_the_next_holder(url: str, shell: Shell) -> None:
    with LockClient.from_url(url) as client:
        for name in NAMES:
            lease = client.acquire(name)
            code, [broken], _ = shell(url, "break", name, "--reason", "a test")
            assert (code, broken["fence"]) == (0, lease.fence)
            with pytest.raises((LeaseLost, NotOwner)):
                lease.release()
            with client.lock(name, wait=0.0) as after:
                assert lease.fence < broken["raised_to"] < after.fence
        assert shell(url, "show", NAME)[1][0]["last_break"]["reason"] == "a test"
        assert shell(url, "break", NAME, "--reason", "a test")[0] == 1


def test_doctor_looks_at_every_server_and_takes_a_lock(url: str, shell: Shell) -> None:
    code, [found], _ = shell(url, "doctor")
    assert (code, found["fit"]) == (0, True), found
    servers = {each["server"] for each in found["checks"]} - {""}
    assert len(servers) == (3 if "cluster" in url else 0)
    assert found["checks"][-1]["check"] == "a lock"


def test_doctor_finds_the_one_server_of_a_quorum_that_is_gone(
    five: list[RedisServer], shell: Shell
) -> None:
    url = ",".join(each.url for each in five)
    code, [found], _ = shell(url, "doctor")
    assert (code, found["fit"]) == (0, True)
    five[3].kill()
    code, [found], _ = shell(url, "doctor", "--timeout", "2")
    bad = [each for each in found["checks"] if each["level"] == "bad"]
    assert (code, found["fit"]) == (1, False)
    assert [(each["check"], each["server"]) for each in bad] == [
        ("a connection", f"127.0.0.1:{five[3].port}")
    ]
    assert "ok" in {each["level"] for each in found["checks"] if each["check"] == "a lock"}


@pytest.mark.parametrize(
    "arguments",
    [("ls",), ("show", NAME), ("top", "--count", "1"), ("break", NAME, "--reason", "a test")],
)
def test_what_no_server_of_a_quorum_knows_is_refused(
    five: list[RedisServer], shell: Shell, arguments: tuple[str, ...]
) -> None:
    code, found, said = shell(",".join(each.url for each in five), *arguments)
    assert (code, found) == (78, [])
    assert "majority" in said


@pytest.mark.parametrize("arguments", [("ls",), ("show", NAME), ("doctor",)])
@pytest.mark.parametrize("scheme", ["redis+sentinel", "redis+cluster"])
def test_servers_that_nobody_can_find_are_told_from_a_wrong_url(
    shell: Shell, scheme: str, arguments: tuple[str, ...]
) -> None:
    path = "/locks" if scheme == "redis+sentinel" else ""
    assert shell(f"{scheme}://127.0.0.1:1{path}", *arguments)[0] == 69
    assert shell(f"{scheme}://:pw@127.0.0.1:1{path}?replica=1", *arguments)[0] == 78
