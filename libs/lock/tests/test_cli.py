"""The command line, as a shell runs it, against a real server."""

import contextlib
import io
import json
import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from libs.lock.tests.eventually import PATIENCE_SECONDS
from libs.lock.tests.threads import eventually, looking_at
from redis import Redis
from redis.client import Pipeline

from devkit.servers import RedisServer
from fencelock import Kind, LeaseLost, LockClient, NotOwner
from fencelock._cli import doctor, page, view
from fencelock._cli.breaking import NOTE_SECONDS
from fencelock._cli.exits import Exit
from fencelock._cli.main import main


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[Redis]:
    with looking_at(redis_server.url) as redis:
        yield redis


@pytest.fixture
def client(redis_server: RedisServer, admin: Redis) -> Iterator[LockClient]:
    with LockClient.from_url(redis_server.url, ttl=30.0, wait=60.0, reply_timeout=7.0) as made:
        yield made


class Shell:
    """Calls the command in this process, which is quick, and reads what it says."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self._capsys = capsys
        self.complaint = ""

    def __call__(self, verb: str, *arguments: str) -> tuple[int, str]:
        """Exit code and standard output."""
        try:
            code = main([verb, "--url", self.url, *arguments])
        except SystemExit as error:
            code = int(str(error.code))
        said = self._capsys.readouterr()
        self.complaint = said.err
        return code, said.out

    def json(self, verb: str, *arguments: str) -> tuple[int, list[Any]]:
        """Exit code and the JSON of each line."""
        code, said = self(verb, "--json", *arguments)
        return code, [json.loads(line) for line in said.splitlines()]


@pytest.fixture
def shell(redis_server: RedisServer, capsys: pytest.CaptureFixture[str], admin: Redis) -> Shell:
    return Shell(redis_server.url, capsys)


def start(
    url: str, *arguments: str, stderr: IO[str] | int = subprocess.PIPE
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "fencelock", *arguments],
        env={**os.environ, "FENCELOCK_URL": url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def start_by_shell(url: str, line: str, *, before: str = ":") -> "subprocess.Popen[str]":
    """With what a shell writes behind the arguments, and what it is told before."""
    return subprocess.Popen(
        ["sh", "-c", f"{before}; exec {shlex.quote(sys.executable)} -m fencelock {line}"],
        env={**os.environ, "FENCELOCK_URL": url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", said: str | None = None) -> tuple[int, str, str]:
    out, err = process.communicate(said, timeout=PATIENCE_SECONDS)
    return process.returncode, out, err


def test_ls_lists_what_is_held_without_the_owners_secret(shell: Shell, client: LockClient) -> None:
    with client.lock("order:{1}", "invoice:{1}") as lease, client.lock("plain"):
        code, found = shell.json("ls")
        assert code == 0
        assert {each["name"] for each in found} == {"order:{1}", "invoice:{1}", "plain"}
        assert {each["fence"] for each in found} >= {lease.fence}
        assert all(0 < each["remaining_seconds"] <= 30.0 for each in found)
        code, said = shell("ls", "--match", "order:*")
        assert said.splitlines()[0].split() == [
            "NAME",
            "KIND",
            "HOLDER",
            "FENCE",
            "LEFT",
            "HELD",
            "FOR",
            "WAITING",
        ]
        assert len(said.splitlines()) == 2
        secret = lease.proof().split(".")[2]
        assert secret not in said
        assert secret not in json.dumps(found)
    assert shell.json("ls") == (0, [])


@pytest.mark.parametrize("pattern", ["nightly*", "*report", "nightly-report", "*", "*night*"])
def test_a_pattern_finds_names_with_and_without_a_hash_tag(
    shell: Shell, client: LockClient, pattern: str
) -> None:
    """The key of a name without one has braces that its user never wrote."""
    with client.lock("nightly-report"), client.lock("{nightly}-report"), client.lock("other"):
        _, found = shell.json("ls", "--match", pattern)
    wanted = {"nightly-report"}
    if pattern.startswith("*"):
        wanted.add("{nightly}-report")
    if pattern == "*":
        wanted.add("other")
    assert sorted(each["name"] for each in found) == sorted(wanted)


def test_a_name_that_several_hold_is_shown_with_all_of_them(
    shell: Shell, client: LockClient
) -> None:
    kinds = {"pool:{1}": Kind.permits(5), "report:{1}": Kind.SHARED}
    for name, kind in kinds.items():
        leases = [client.acquire(name, kind=kind) for _ in range(3)]
        code, [found] = shell.json("ls", "--match", name)
        assert (code, found["kind"], found["holders"]) == (0, str(kind), 3)
        code, [shown] = shell.json("show", name)
        assert [each["fence"] for each in shown["permits"]] == [each.fence for each in leases]
        assert all(0 < each["remaining_seconds"] <= 30.0 for each in shown["permits"])
        code, said = shell("show", name)
        assert "3 of 3 that hold it" in said
        assert str(leases[0].fence) in said
        code, said = shell("break", name, "--reason", "a test")
        assert (code, "all that shared it" in said) == (0, True)
        assert shell("show", name)[0] == 1
        for lease in leases:
            with pytest.raises((LeaseLost, NotOwner)):
                lease.release()


def test_those_who_share_a_name_are_listed_in_the_order_of_their_grants(
    shell: Shell, admin: Redis
) -> None:
    """Also where their leases end in the same millisecond."""
    admin.set("fencelock:l:{pool}", "*0 7 -", px=30_000)
    for owner, fence in (("a.x", 7), ("b.x", 5), ("c.x", 6)):
        admin.zadd("fencelock:p:{pool}", {owner: (time.time() + 30) // 1 * 1000})
        admin.set(f"fencelock:r:{owner}:{{pool}}", f"{owner} {fence} -", px=30_000)
    _, [shown] = shell.json("show", "pool")
    assert [each["client"] for each in shown["permits"]] == ["b", "c", "a"]


def test_ls_and_top_show_people_the_names_in_an_order(shell: Shell, admin: Redis) -> None:
    names = [f"n{index:02}" for index in range(30)]
    for name in names:
        admin.set(f"fencelock:l:{{{name}}}", "client.secret 17 -", px=60_000)
    assert [line.split()[0] for line in shell("ls")[1].splitlines()[1:]] == names
    _, [top] = shell.json("top", "--count", "1", "--limit", "30")
    assert [each["name"] for each in top["names"]] == names


def test_show_tells_who_holds_and_who_waits(shell: Shell, client: LockClient, admin: Redis) -> None:
    with client.lock("order:{1}") as lease:
        waiters = [
            threading.Thread(target=lambda: client.acquire("order:{1}").release()) for _ in range(3)
        ]
        for waiter in waiters:
            waiter.start()
        eventually(lambda: admin.llen("fencelock:q:order:{1}") == 3, "three in line")
        # One whose process has gone.
        admin.rpush("fencelock:q:order:{1}", "gone.x 30000 10000 - order:{1}")
        code, [found] = shell.json("show", "order:{1}")
        assert code == 0
        assert found["held"]["fence"] == lease.fence
        assert abs(found["held"]["held_seconds"]) < PATIENCE_SECONDS
        assert found["waiting"] == 4
        assert [each["listens"] for each in found["queue"]] == [True, True, True, False]
        code, said = shell("show", "order:{1}")
        assert f"fence:       {lease.fence}" in said
        assert "4 waiting:" in said
        assert "no: it will be skipped" in said
    for waiter in waiters:
        waiter.join()
    # The one whose process has gone keeps its turn for a moment, in case it only connects anew.
    eventually(lambda: shell("show", "order:{1}")[0] == 1, "nobody holding it")
    _, said = shell("show", "order:{1}")
    assert "nobody" in said


def test_a_holder_that_came_from_the_line_does_not_count_as_waiting(
    shell: Shell, client: LockClient, admin: Redis
) -> None:
    lease = client.acquire("order:{1}")
    second: list[Any] = []
    waiter = threading.Thread(target=lambda: second.append(client.acquire("order:{1}")))
    waiter.start()
    eventually(lambda: admin.llen("fencelock:q:order:{1}") == 1, "in line")
    lease.release()
    waiter.join()
    _, [listed] = shell.json("ls")
    assert listed["waiting"] == 0
    _, [shown] = shell.json("show", "order:{1}")
    assert (shown["waiting"], shown["queue"]) == (0, [])
    second[0].release()


def test_ten_thousand_names_are_read_in_small_steps(shell: Shell, admin: Redis) -> None:
    with admin.pipeline(transaction=False) as pipe:
        for index in range(10_000):
            pipe.set(f"fencelock:l:{{n{index}}}", "client.secret 17 -", px=60_000)
        pipe.execute()
    admin.config_resetstat()
    code, found = shell.json("ls", "--limit", "0")
    assert code == 0
    assert len({each["name"] for each in found}) == 10_000
    stats = admin.info("commandstats")
    assert "cmdstat_keys" not in stats
    assert stats["cmdstat_scan"]["calls"] >= 10
    code, said = shell("ls", "--limit", "7")
    assert len(said.splitlines()) == 8
    assert "more than 7" in shell.complaint
    code, [top] = shell.json("top", "--count", "1", "--limit", "3")
    assert (code, top["held"], len(top["names"])) == (0, 10_000, 3)


def test_control_characters_are_shown_and_not_obeyed(shell: Shell, admin: Redis) -> None:
    admin.set("fencelock:l:\x1b[2Jevil\u202e[bold]\n", "a\x07.b 5 c\x1b]0;x", px=60_000)
    code, said = shell("ls")
    assert code == 0
    assert "\\x1b[2Jevil\\u202e[bold]\\n" in said
    assert all(letter.isprintable() for line in said.splitlines() for letter in line)
    assert len(shell.json("ls")[1]) == 1


def test_what_is_not_a_lock_is_no_reason_to_fail(shell: Shell, admin: Redis) -> None:
    admin.set("fencelock:l:{x}", b"\xff\xfe")
    admin.lpush("fencelock:l:{list}", "x")
    admin.set("fencelock:q:{x}", "no list")
    code, found = shell.json("ls")
    assert code == 0
    assert [(each["name"], each["remaining_seconds"]) for each in found] == [("x", None)]


def test_what_is_not_a_lock_can_be_broken(shell: Shell, admin: Redis) -> None:
    for value in (b"\xff\xfe 17 -", b"\xff", b""):
        admin.set("fencelock:l:{x}", value)
        code, [said] = shell.json("break", "x", "--reason", "not ours")
        assert (code, said["fence"]) == (0, 17 if b"17" in value else 0)
        assert shell("show", "x")[0] == 1


def test_what_is_no_note_of_a_break_is_no_reason_to_fail(shell: Shell, admin: Redis) -> None:
    note = "fencelock:b:{x}"
    for at in ("yesterday", "9" * 30):
        admin.hset(note, mapping={"at": at, "by": "me", "reason": "none"})
        assert shell("show", "x")[0] == 1
    admin.hdel(note, "at")
    for _ in range(2):
        assert shell("show", "x")[0] == 1
        assert shell.json("show", "x")[1][0]["last_break"] is None
        admin.hdel(note, "by")


def test_a_lock_that_ends_while_it_is_read_does_not_run_for_ever(
    redis_server: RedisServer, admin: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question what it is and the one how long it runs."""
    admin.set("fencelock:l:{stays}", "client.secret 17 -", px=60_000)
    admin.set("fencelock:l:{ends}", "client.secret 18 -", px=50_000)
    execute = Pipeline.execute

    def ended_meanwhile(reply: object) -> object:
        return -2 if isinstance(reply, int) and 0 < reply <= 50_000 else reply

    monkeypatch.setattr(
        *(Pipeline, "execute"),
        lambda *asked, **options: [ended_meanwhile(each) for each in execute(*asked, **options)],
    )
    with view.connect(redis_server.url, timeout=5.0) as redis:
        assert [each.name for each in view.held_names(redis)] == ["stays"]


def test_break_hands_over_raises_the_fence_and_leaves_a_note(
    shell: Shell, client: LockClient, admin: Redis
) -> None:
    lease = client.acquire("order:{1}")
    successor: list[Any] = []
    waiter = threading.Thread(target=lambda: successor.append(client.acquire("order:{1}")))
    waiter.start()
    eventually(lambda: admin.llen("fencelock:q:order:{1}") == 1, "in line")
    code, [broken] = shell.json("break", "order:{1}", "--reason", "stuck\x1b since noon")
    assert (code, broken["fence"]) == (0, lease.fence)
    waiter.join(PATIENCE_SECONDS)
    assert lease.fence < broken["raised_to"] < successor[0].fence
    with pytest.raises((LeaseLost, NotOwner)):
        lease.release()
    successor[0].release()
    code, said = shell("show", "order:{1}")
    assert code == 1
    assert "stuck\\x1b since noon" in said
    assert 0 < admin.ttl("fencelock:b:order:{1}") <= NOTE_SECONDS


def test_break_with_another_fence_changes_nothing(shell: Shell, client: LockClient) -> None:
    with client.lock("order:{1}") as lease:
        fence = str(lease.fence - 1)
        code, _ = shell("break", "order:{1}", "--reason", "stuck", "--fence", fence)
        assert code == 1
        assert str(lease.fence) in shell.complaint
        lease.check()
    assert shell("break", "order:{1}", "--reason", "stuck")[0] == 1
    assert "nobody" in shell.complaint


def test_doctor_says_what_to_change(shell: Shell, admin: Redis) -> None:
    code, [found] = shell.json("doctor")
    assert code == 0
    assert found["fit"]
    assert next(each for each in found["checks"] if each["check"] == "a lock")["level"] == "ok"
    admin.set("fencelock:l:{endless}", "a.b 1 -")
    admin.config_set("maxmemory", "100mb")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        code, [found] = shell.json("doctor")
        bad = {each["check"] for each in found["checks"] if each["level"] == "bad"}
        assert (code, found["fit"], bad) == (1, False, {"eviction", "a lock", "expiry"})
        assert "noeviction" in shell("doctor")[1]
    finally:
        admin.config_set("maxmemory-policy", "noeviction")
        admin.config_set("maxmemory", "0")


@pytest.mark.parametrize("seconds", ["0.1", "1e-9"])
def test_bench_leaves_nothing_behind(shell: Shell, admin: Redis, seconds: str) -> None:
    code, [found] = shell.json("bench", "--seconds", seconds, "--tasks", "4")
    assert code == 0
    assert all(row["locks_per_second"] > 0 for row in found.values())
    assert admin.keys("fencelock:*") == ["fencelock:fence"]


def test_run_gives_the_programs_exit_code_and_tells_it_the_fence(
    redis_server: RedisServer, admin: Redis
) -> None:
    program = (
        "import os, sys, redis; "
        "server = redis.Redis.from_url(os.environ['FENCELOCK_URL']);"
        "held = server.get('fencelock:l:{job}').decode();"
        "print(held.split()[1] == os.environ['FENCELOCK_FENCE'], os.environ['FENCELOCK_NAMES']);"
        "sys.exit(7)"
    )
    ran = start(redis_server.url, "run", "job", "--", sys.executable, "-c", program)
    assert finish(ran) == (7, "True job\n", "")
    assert admin.keys("fencelock:*") == ["fencelock:fence"]


def test_run_does_not_start_the_program_without_the_lock(
    redis_server: RedisServer, client: LockClient, tmp_path: Path
) -> None:
    with client.lock("job"):
        ran = start(redis_server.url, "run", "job", "--", "touch", str(tmp_path / "ran"))
        code, _, complaint = finish(ran)
    assert code == 75
    assert "job" in complaint
    assert not (tmp_path / "ran").exists()


def test_run_forwards_signals_and_says_which_one_ended_the_program(
    redis_server: RedisServer, admin: Redis
) -> None:
    handled = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    ran = start(redis_server.url, "run", "job", "--", "sh", "-c", handled)
    assert ran.stdout is not None
    assert ran.stdout.readline() == "ready\n"
    ran.send_signal(signal.SIGTERM)
    assert finish(ran)[:2] == (5, "got it\n")
    ran = start(redis_server.url, "run", "job", "--", "sh", "-c", "kill -9 $$")
    assert finish(ran)[0] == 128 + 9
    assert admin.keys("fencelock:*") == ["fencelock:fence"]


def test_run_stops_the_program_and_its_children_when_the_lock_is_lost(
    redis_server: RedisServer, admin: Redis
) -> None:
    stubborn = "trap '' TERM; sleep 600 & echo $!; while :; do sleep 0.05; done"
    ran = start(
        *(redis_server.url, "run", "job", "--ttl", "1", "--grace", "0.2", "--"),
        *("sh", "-c", stubborn),
    )
    assert ran.stdout is not None
    grandchild = int(ran.stdout.readline())
    admin.delete("fencelock:l:{job}")
    code, _, complaint = finish(ran)
    assert code == 76
    assert "lost" in complaint
    eventually(lambda: not _runs(grandchild), "the grandchild was killed too")


def test_run_ended_while_it_waits_leaves_no_ticket(
    redis_server: RedisServer, client: LockClient, admin: Redis
) -> None:
    with client.lock("job"):
        ran = start(redis_server.url, "run", "job", "--wait", "60", "--", "true")
        eventually(lambda: admin.llen("fencelock:q:{job}") == 1, "in line")
        ran.send_signal(signal.SIGTERM)
        assert finish(ran)[0] == 128 + signal.SIGTERM
        eventually(lambda: not admin.exists("fencelock:q:{job}"), "withdrawn")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can do that")
def test_run_that_is_killed_takes_its_program_along(
    redis_server: RedisServer, admin: Redis
) -> None:
    ran = start(redis_server.url, "run", "job", "--", "sh", "-c", "echo $$; exec sleep 600")
    assert ran.stdout is not None
    child = int(ran.stdout.readline())
    ran.kill()
    eventually(lambda: not _runs(child), "the program ended")
    finish(ran)


def _runs(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_run_needs_none_of_the_standard_streams(
    redis_server: RedisServer, admin: Redis, closed: str
) -> None:
    ran = start_by_shell(redis_server.url, f"run job -- sh -c 'exit 3' {closed}")
    assert finish(ran) == (3, "", "")


def test_run_stops_the_program_also_if_nobody_hears_why(
    redis_server: RedisServer, admin: Redis, tmp_path: Path
) -> None:
    program = f"echo $$ > {tmp_path}/pid; exec sleep 600"
    with Path("/dev/full").open("w") as full:
        ran = start(redis_server.url, "run", "job", "--", "sh", "-c", program, stderr=full)
        eventually(lambda: (tmp_path / "pid").exists() and admin.exists("fencelock:l:{job}"), "on")
        admin.delete("fencelock:l:{job}")
        assert finish(ran)[0] == 76
    child = int((tmp_path / "pid").read_text())
    eventually(lambda: not _runs(child), "the program ended")


def test_run_leaves_alone_what_its_caller_made_it_ignore(
    redis_server: RedisServer, admin: Redis
) -> None:
    """As nohup does with HUP, and a shell with INT and QUIT of what it runs in the background."""
    ran = start_by_shell(
        redis_server.url, "run job -- sh -c 'echo on; read _; echo ended'", before="trap '' HUP INT"
    )
    assert ran.stdout is not None
    assert ran.stdout.readline() == "on\n"
    ran.send_signal(signal.SIGHUP)
    ran.send_signal(signal.SIGINT)
    # Long enough for a program to die of it.
    time.sleep(0.5)
    assert finish(ran, "\n") == (0, "ended\n", "")


def test_run_learns_how_the_program_ended_also_if_its_caller_asks_nobody(
    redis_server: RedisServer, admin: Redis
) -> None:
    """Who ignores SIGCHLD has the system collect its children, and so have those it starts."""
    program = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            "-m",
            "fencelock",
            "run",
            "job",
            "--",
            "sh",
            "-c",
            "exit 7",
        ],
        env={**os.environ, "FENCELOCK_URL": redis_server.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (7, "")


def test_run_that_is_told_twice_to_end_ends_in_order(
    redis_server: RedisServer, client: LockClient, admin: Redis
) -> None:
    with client.lock("job"):
        ran = start(redis_server.url, "run", "job", "--wait", "60", "--", "true")
        eventually(lambda: admin.llen("fencelock:q:{job}") == 1, "in line")
        # Nothing that changes a key is answered, so that to withdraw takes its time.
        admin.client_pause(1_500, all=False)
        ran.send_signal(signal.SIGINT)
        time.sleep(0.3)
        ran.send_signal(signal.SIGINT)
        assert finish(ran) == (128 + signal.SIGINT, "", "")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "job"], 2),
        (["run", "a b", "--", "true"], 2),
        (["run", "a:{1}", "b:{2}", "--", "true"], 2),
        (["run", "job", "--", "no-such-program-here"], 127),
        (["run", "job", "--", "/"], 126),
        (["run", "job", "--wait", "inf", "--", "true"], 2),
        (["ls", "--", "true"], 2),
        (["break", "job"], 2),
        (["break", "job", "--reason", " "], 2),
        (["break", "job", "--reason", "\udcff"], 2),
        (["ls", "--match", "\udcff"], 2),
        (["ls", "--limit", str(sys.maxsize)], 2),
        (["ls", "--timeout", "1e300"], 2),
        (["top", "--count", "2", "--interval", "1e300"], 2),
        (["show", ""], 2),
        (["ls", "--url", "redis://127.0.0.1:1"], 69),
        (["doctor", "--url", "redis://127.0.0.1:1"], 69),
        (["bench", "--url", "redis://127.0.0.1:1"], 69),
        (["ls", "--url", "http://nowhere"], 78),
    ],
)
def test_every_failure_has_its_exit_code(
    shell: Shell,
    arguments: list[str],
    code: int,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FENCELOCK_URL", redis_server.url)
    try:
        found = main(arguments)
    except SystemExit as error:
        found = int(str(error.code))
    assert found == code


@pytest.mark.parametrize(
    ("options", "level"),
    [("", "ok"), ("ssl_cert_reqs=none", "warning"), ("ssl_check_hostname=False", "note")],
)
def test_doctor_says_what_tls_protects(options: str, level: str) -> None:
    assert doctor._transport(f"rediss://h?{options}").level == level


def test_who_does_not_answer_a_handshake_is_said_to(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"rediss://127.0.0.1:{mute.getsockname()[1]}"
        code, _ = shell("ls", "--url", url, "--timeout", "0.2")
    assert code == 69
    assert "TLS handshake" in shell.complaint


def test_wrong_credentials_are_told_from_a_server_that_is_down(shell: Shell) -> None:
    shell.url = shell.url.replace("redis://:", "redis://:wrong")
    code, _ = shell("ls")
    assert code == 78
    assert "wrong" not in shell.complaint


def test_a_reader_that_leaves_early_is_no_error(redis_server: RedisServer, admin: Redis) -> None:
    with admin.pipeline(transaction=False) as pipe:
        for index in range(3000):
            pipe.set(f"fencelock:l:{{n{index}}}", "client.secret 17 -", px=60_000)
        pipe.execute()
    ran = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m fencelock ls --limit 0 --json | head -n 1"],
        env={**os.environ, "FENCELOCK_URL": redis_server.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("locks", [1, 3000])
def test_output_that_cannot_be_written_is_said(
    redis_server: RedisServer, admin: Redis, locks: int
) -> None:
    for index in range(locks):
        admin.set(f"fencelock:l:{{n{index}}}", "client.secret 17 -", px=60_000)
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "fencelock", "ls", "--limit", "0"],
            env={**os.environ, "FENCELOCK_URL": redis_server.url},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    said = "fencelock: the output cannot be written: No space left on device\n"
    assert (ran.returncode, ran.stderr) == (74, said)


def test_output_that_is_closed_is_said(redis_server: RedisServer, admin: Redis) -> None:
    said = "fencelock: the output cannot be written: Bad file descriptor\n"
    for command in ("ls", "ls --json", "top --count 1"):
        admin.set("fencelock:l:{x}", "client.secret 17 -", px=60_000)
        assert finish(start_by_shell(redis_server.url, f"{command} >&-")) == (74, "", said)


def test_what_the_terminal_cannot_show_is_shown_escaped(
    redis_server: RedisServer, admin: Redis
) -> None:
    admin.hset("fencelock:b:{x}", mapping={"at": "17", "by": "me", "reason": "défaut ☃"})
    for encoding, shown in (("ascii", r"d\xe9faut \u2603"), ("utf-8", "défaut ☃")):
        before = f"export PYTHONIOENCODING={encoding}"
        code, said, _ = finish(start_by_shell(redis_server.url, "show x", before=before))
        assert (code, said.splitlines()[-1].rpartition(": ")[2]) == (1, shown)


def test_names_that_begin_with_a_dash_follow_two(shell: Shell, client: LockClient) -> None:
    client.acquire("-x")
    assert shell("show", "--", "-x")[0] == 0
    assert shell("break", "--reason", "a test", "--", "-x")[0] == 0
    assert shell("show", "--", "-x")[0] == 1


def test_what_is_drawn_on_a_terminal_takes_names_literally() -> None:
    from rich.console import Console

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(page.rich_table(("NAME",), [("[red]\x1b[31m",)]))
    assert "[red]\\x1b[31m" in console.export_text()


def test_top_gives_the_terminal_back_however_it_is_ended(
    redis_server: RedisServer, admin: Redis
) -> None:
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "fencelock", "top", "--interval", "0.1"]
    environment = {**os.environ, "FENCELOCK_URL": redis_server.url, "TERM": "xterm"}
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment) as top:
        os.close(its)
        drawn = b""
        while b"names held" not in drawn:
            drawn += os.read(ours, 65536)
        assert b"\x1b[?1049h" in drawn
        top.send_signal(signal.SIGTERM)
        # At the end of the last process on it a terminal says EIO.
        with contextlib.suppress(OSError):
            while more := os.read(ours, 65536):
                drawn += more
        assert top.wait(timeout=30) == Exit.SIGNALLED + signal.SIGTERM
    os.close(ours)
    assert b"\x1b[?1049l" in drawn


def test_durations_are_short() -> None:
    spans = [0.04, 59.9, 61, 3661, 90_000]
    said = ["0.0 s", "59.9 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]
    assert [page.duration(span) for span in spans] == said
    assert page.duration(None) == "for ever"
    assert view.name_of("{a}{b}") == "{a}{b}"
