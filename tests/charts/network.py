"""What NetworkPolicies allow, worked out from the manifests as a cluster would."""

from __future__ import annotations

from collections.abc import Iterator

from tests.charts.rendering import Manifest, of_kind, pods

Labels = dict[str, str]


class Network:
    """The pods and policies of one release, in one namespace."""

    def __init__(self, manifests: list[Manifest]) -> None:
        self.policies = of_kind(manifests, "NetworkPolicy")
        self.pods = {name: dict(pod["metadata"]["labels"]) for name, pod in pods(manifests)}
        self.ports = {name: dict(named_ports(pod)) for name, pod in pods(manifests)}

    def allows(self, source: str, target: str, port: int) -> bool:
        """Whether ``source`` may open a TCP connection to ``target``: both sides must agree."""
        return self.passes("Egress", source, target, port) and self.passes(
            "Ingress", target, source, port
        )

    def passes(self, direction: str, pod: str, peer: str, port: int) -> bool:
        """Whether the policies of one side let the connection through."""
        own = self.pods.get(pod, {"stranger": "yes"})
        policies = [
            policy["spec"]
            for policy in self.policies
            if direction in policy["spec"]["policyTypes"]
            and selects(policy["spec"]["podSelector"], own)
        ]
        receiver = pod if direction == "Ingress" else peer
        return not policies or any(
            self.matches(rule, direction, peer, port, receiver)
            for spec in policies
            for rule in spec.get(direction.lower()) or []
        )

    def matches(self, rule: Manifest, direction: str, peer: str, port: int, receiver: str) -> bool:
        """Whether one rule covers this peer and port."""
        named = self.ports.get(receiver, {})
        ports = [each["port"] for each in rule.get("ports", []) if each["protocol"] == "TCP"]
        numbers = [named.get(each) if isinstance(each, str) else each for each in ports]
        peers = rule.get("from" if direction == "Ingress" else "to")
        labels = self.pods.get(peer, {"stranger": "yes"})
        return (port in numbers or not rule.get("ports")) and (
            not peers or any(selects(each.get("podSelector", {}), labels) for each in peers)
        )


def selects(selector: Manifest, labels: Labels) -> bool:
    """Whether a label selector selects these labels."""
    wanted: Labels = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def named_ports(pod: Manifest) -> Iterator[tuple[str, int]]:
    """The ports of a pod by name."""
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", []):
            yield port["name"], port["containerPort"]
