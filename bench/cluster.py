"""What the pods of the shop do in a cluster, and what each takes: ``python -m bench.cluster``.

The shop is installed already, with as many pods as are to be measured, and has nothing else to do.
A pod of the order service's image brings the load of ``bench.services`` from inside the cluster,
through the Service. CPU time and memory are those of each container's control group, so that no
metrics server is needed; beside them stands what the machine of the load's node used in all, so
that it can be seen whether a pod was at its end or the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.services import load
from bench.services.figures import percentile

STEP_SECONDS: Final = 120
SERVICES: Final = ("order", "invoice")
DATABASES: Final = ("order-postgres", "invoice-postgres")
STORES: Final = (*DATABASES, "redis")
WORKS: Final = ("create", "update", "read")
PORT: Final = 3000
LOAD_POD: Final = "bench-load"
REMOVE: Final = ("delete", "pod", LOAD_POD, "--grace-period=0", "--force")
# The newer form of control groups, else the older one: nanoseconds, bytes, bytes not to be missed.
USED: Final = """
cd /sys/fs/cgroup
if [ -e cpu.stat ]; then
  echo "$(sed -n 's/^usage_usec //p' cpu.stat)000 $(cat memory.current) \
$(sed -n 's/^inactive_file //p' memory.stat)"
else
  echo "$(cat cpuacct/cpuacct.usage) $(cat memory/memory.usage_in_bytes) \
$(sed -n 's/^total_inactive_file //p' memory/memory.stat)"
fi
"""
LOAD: Final = "load"
# The machine's jiffies before and after what is in between: user, nice, system, idle, and more.
WATCHED: Final = 'head -1 /proc/stat; python -c "$1"; echo; head -1 /proc/stat'
CONNECTIONS: Final = (
    'exec psql -At -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "SELECT count(*) FROM pg_stat_activity '
    "WHERE datname = current_database() AND backend_type = 'client backend' "
    'AND pid <> pg_backend_pid()"'
)


@dataclass(frozen=True)
class Used:
    """What a container has used so far, and has now."""

    cpu_seconds: float
    memory_mib: float

    @classmethod
    def read(cls, said: str) -> Used:
        """From what ``USED`` writes."""
        nanoseconds, everything, could_go = map(int, said.split())
        return cls(nanoseconds / 1e9, (everything - could_go) / 2**20)


def busy(before: str, after: str) -> float:
    """How much of the machine's processors was in use between two first lines of /proc/stat."""
    spent = [
        later - sooner
        for sooner, later in zip(
            map(int, before.split()[1:9]), map(int, after.split()[1:9]), strict=True
        )
    ]
    idle = spent[3] + spent[4]
    return 1 - idle / sum(spent)


@dataclass(frozen=True)
class Row:
    """One kind of work by so many clients."""

    work: str
    clients: int
    rate: float
    """Successes a second."""
    p50_ms: float
    p99_ms: float
    failed: Mapping[str, int]
    cores: Mapping[str, float]
    """What each pod used, in cores."""
    machine: float
    """How much of all processors of the load's node was in use, by whatever."""
    memory_mib: Mapping[str, float]
    connections: Mapping[str, int]
    """What each database has open."""


class Namespace:
    """The namespace that the shop is in."""

    def __init__(self, context: str, name: str, release: str) -> None:
        self._kubectl = [
            "kubectl",
            f"--namespace={name}",
            *([f"--context={context}"] if context else []),
        ]
        self.release = release

    def kubectl(
        self, *arguments: str, stdin: str = "", timeout_seconds: float = STEP_SECONDS
    ) -> str:
        """Run kubectl and return what it wrote.

        Raises:
            SystemExit: it failed; says why.
        """
        command = [*self._kubectl, *arguments]
        try:
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                text=True,
                check=True,
                timeout=timeout_seconds,
            )
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"kubectl {arguments[0]}: {error.stderr.strip()}") from error
        return done.stdout

    def pods(self) -> dict[str, str]:
        """The pods of each service and store, and that of the load; of several, each numbered."""
        found = {LOAD: LOAD_POD}
        for name in (*SERVICES, *STORES):
            pods = self._pods(name)
            alone = len(pods) == 1
            found |= {name if alone else f"{name} {n}": pod for n, pod in enumerate(pods, 1)}
        return found

    def image(self) -> str:
        """The image of the order service."""
        path = "jsonpath={.spec.template.spec.containers[0].image}"
        return self.kubectl("get", f"deployment/{self.release}-order", f"--output={path}")

    def used(self, pods: Mapping[str, str]) -> dict[str, Used]:
        """What each pod has used, all asked at the same time."""

        def ask(pod: str) -> Used:
            return Used.read(self.kubectl("exec", pod, "--", "sh", "-ec", USED))

        with ThreadPoolExecutor(len(pods)) as executor:
            return dict(zip(pods, executor.map(ask, pods.values()), strict=True))

    def connections(self, pods: Mapping[str, str]) -> dict[str, int]:
        """How many connections each database has."""
        return {
            name: int(self.kubectl("exec", pods[name], "--", "sh", "-c", CONNECTIONS))
            for name in DATABASES
        }

    def _pods(self, name: str) -> list[str]:
        labels = f"app.kubernetes.io/instance={self.release},app.kubernetes.io/name={name}"
        component = "api" if name in SERVICES else "database"
        listed = self.kubectl(
            "get",
            "pods",
            f"--selector={labels},app.kubernetes.io/component={component}",
            "--output=name",
        ).split()
        if not listed:
            raise SystemExit(f"{name} has no pod in this namespace")
        return [pod.removeprefix("pod/") for pod in listed]


@contextmanager
def load_pod(namespace: Namespace) -> Iterator[None]:
    """A pod that waits to be told what load to bring."""
    spec = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": LOAD_POD},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": 3600,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "load",
                    "image": namespace.image(),
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", "import signal; signal.pause()"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
    # One of a run that was ended before its end may be there still.
    namespace.kubectl(*REMOVE, "--ignore-not-found")
    namespace.kubectl("create", "--filename=-", stdin=json.dumps(spec))
    try:
        namespace.kubectl("wait", f"pod/{LOAD_POD}", "--for=condition=Ready", "--timeout=90s")
        yield
    finally:
        namespace.kubectl(*REMOVE)


def bring(
    namespace: Namespace, work: str, *, clients: int, seconds: float, orders: Sequence[str]
) -> dict[str, Any]:
    """Let the pod bring one load, and return what happened."""
    plan = {
        "host": f"{namespace.release}-order",
        "port": PORT,
        "work": work,
        "clients": clients,
        "seconds": seconds,
        "orders": list(orders),
    }
    program = Path(load.__file__).read_text()
    said = namespace.kubectl(
        *("exec", "--stdin", LOAD_POD, "--", "sh", "-ec", WATCHED, "sh", program),
        stdin=json.dumps(plan),
        timeout_seconds=seconds + STEP_SECONDS,
    )
    before, *lines, after = said.splitlines()
    happened: dict[str, Any] = json.loads("".join(lines))
    return happened | {"machine": busy(before, after)}


def measure(namespace: Namespace, *, clients: Sequence[int], seconds: float) -> Iterator[Row]:
    """Each kind of work by each number of clients, one after the other."""
    with load_pod(namespace):
        pods = namespace.pods()
        orders = bring(namespace, "create", clients=8, seconds=2.0, orders=[])["created"]
        for work in WORKS:
            for count in clients:
                before = namespace.used(pods)
                found = bring(namespace, work, clients=count, seconds=seconds, orders=orders)
                after = namespace.used(pods)
                yield row(work, count, found, before, after, namespace.connections(pods))


def row(  # noqa: PLR0917 - what one measurement brings
    work: str,
    clients: int,
    found: Mapping[str, Any],
    before: Mapping[str, Used],
    after: Mapping[str, Used],
    connections: Mapping[str, int],
) -> Row:
    """What one measurement amounts to."""
    done, seconds = found["done_ms"], found["seconds"]
    if not done:
        raise SystemExit(f"{work} by {clients} clients: nothing succeeded: {found['failed']}")
    spent = {name: after[name].cpu_seconds - before[name].cpu_seconds for name in after}
    return Row(
        work,
        clients,
        rate=len(done) / seconds,
        p50_ms=percentile(done, 0.5),
        p99_ms=percentile(done, 0.99),
        failed=found["failed"],
        cores={name: used / seconds for name, used in spent.items()},
        machine=found["machine"],
        memory_mib={name: used.memory_mib for name, used in after.items()},
        connections=connections,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    pods = list(rows[0].cores)
    head = [
        "work",
        "clients",
        "a second",
        "p50",
        "p99",
        "refused",
        *(f"{name}, cores" for name in pods),
        "of the machine",
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for each in rows:
        cells = [
            each.work,
            str(each.clients),
            f"{each.rate:.0f}",
            f"{each.p50_ms:.0f} ms",
            f"{each.p99_ms:.0f} ms",
            str(sum(each.failed.values())),
            *(f"{each.cores[name]:.2f}" for name in pods),
            f"{each.machine:.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    held = ["", "| pod | memory at most | connections to it |", "|---|---|---|"]
    for name in pods:
        memory = max(each.memory_mib[name] for each in rows)
        open_now = [each.connections[name] for each in rows if name in each.connections]
        held.append(f"| {name} | {memory:.0f} MiB | {max(open_now) if open_now else '-'} |")
    return "\n".join([*lines, *held])


def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument(
        "--context", default="", help="of the kubeconfig (default: the current one)"
    )
    parser.add_argument("--namespace", default="shop")
    parser.add_argument("--release", default="shop")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], metavar="N")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a row (default 5)")
    given = parser.parse_args()
    namespace = Namespace(given.context, given.namespace, given.release)
    rows = []
    for each in measure(namespace, clients=given.clients, seconds=given.seconds):
        rows.append(each)
        sys.stderr.write(f"{each.work} by {each.clients}: {each.rate:.0f} a second\n")
    print(table(rows))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
