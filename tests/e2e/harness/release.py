"""Helm releases."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.harness.namespace import Namespace
from tests.e2e.harness.programs import run


@dataclass(frozen=True)
class Release:
    """A chart installed, or about to be, under a name in a namespace."""

    name: str
    namespace: Namespace
    chart: Path

    def install(self, *options: str, timeout_seconds: float) -> None:
        """Install it and wait until all of it is ready."""
        self._helm("install", self.name, str(self.chart), *options, timeout_seconds=timeout_seconds)

    def upgrade(self, *options: str, timeout_seconds: float) -> None:
        """Upgrade it and wait until all of it is ready."""
        self._helm("upgrade", self.name, str(self.chart), *options, timeout_seconds=timeout_seconds)

    def rollback(self, *, timeout_seconds: float) -> None:
        """Go back to the revision before, and wait until all of it is ready."""
        self._helm("rollback", self.name, timeout_seconds=timeout_seconds)

    def test(self, *, timeout_seconds: float) -> str:
        """Run the chart's own tests."""
        return self._run(
            "test",
            self.name,
            f"--timeout={timeout_seconds:.0f}s",
            timeout_seconds=timeout_seconds + 30,
        )

    def uninstall(self, *, timeout_seconds: float) -> str:
        """Remove it and wait until what it had is gone; returns what Helm says is kept."""
        return self._run(
            "uninstall",
            self.name,
            "--wait",
            f"--timeout={timeout_seconds:.0f}s",
            timeout_seconds=timeout_seconds + 30,
        )

    def revision(self) -> dict[str, Any]:
        """What Helm says about the newest revision."""
        said = self._run("history", self.name, "--output", "json", timeout_seconds=30)
        newest: dict[str, Any] = json.loads(said)[-1]
        return newest

    def manifest(self) -> str:
        """What Helm has given to the cluster."""
        return self._run("get", "manifest", self.name, timeout_seconds=30)

    def notes(self) -> str:
        """What Helm tells the person who has installed it."""
        return self._run("get", "notes", self.name, timeout_seconds=30)

    def _helm(self, *command: str, timeout_seconds: float) -> None:
        self._run(
            *command,
            "--wait",
            "--wait-for-jobs",
            f"--timeout={timeout_seconds:.0f}s",
            timeout_seconds=timeout_seconds + 30,
        )

    def _run(self, *command: str, timeout_seconds: float) -> str:
        place = (
            "--kubeconfig",
            str(self.namespace.cluster.kubeconfig),
            "--namespace",
            self.namespace.name,
        )
        return run("helm", *command, *place, timeout_seconds=timeout_seconds)
