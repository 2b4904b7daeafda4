"""What the tests need to know about a pod."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Pod:
    """A pod as it was when it was looked at; of its containers, the ids of those that ran."""

    name: str
    uid: str
    node: str | None
    phase: str
    ready: bool
    leaving: bool
    restarts: int
    containers: tuple[str, ...]

    @classmethod
    def of(cls, seen: Any) -> Self:
        """From the Kubernetes client's object, where every field may be missing."""
        conditions = seen.status.conditions or []
        containers = seen.status.container_statuses or []
        return cls(
            name=seen.metadata.name,
            uid=seen.metadata.uid,
            node=seen.spec.node_name,
            phase=seen.status.phase,
            ready=any(each.type == "Ready" and each.status == "True" for each in conditions),
            leaving=seen.metadata.deletion_timestamp is not None,
            restarts=sum(each.restart_count for each in containers),
            containers=tuple(
                each.container_id.removeprefix("containerd://")
                for each in containers
                if each.state.running
            ),
        )

    @property
    def serving(self) -> bool:
        """Whether it is ready and not on its way out."""
        return self.ready and not self.leaving
