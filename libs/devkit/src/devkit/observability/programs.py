"""Where Prometheus, promtool and Jaeger are on this machine: a program, or a container image."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devkit.errors import MissingTool

PROMETHEUS_IMAGE: Final = "prom/prometheus:v3.5.3"
JAEGER_IMAGE: Final = "jaegertracing/all-in-one:1.62.0"
DOCKER_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Program:
    """One program that may come as a file or inside an image.

    Args:
        name: what people call it.
        executable: its file's name on the PATH.
        variable: the environment variable that names another file.
        image: the image that has it as well.
        entrypoint: the program inside the image.
    """

    name: str
    executable: str
    variable: str
    image: str
    entrypoint: str

    def find(self, environment: Mapping[str, str] = os.environ) -> Found:
        """Find it: where its variable says, else on the PATH, else an image that is here already.

        Raises:
            MissingTool: It is nowhere; says what would help.
        """
        if chosen := environment.get(self.variable):
            if not Path(chosen).is_file():
                raise MissingTool(f"{self.variable} is {chosen}, but there is no such program.")
            return Found(self, chosen)
        if path := shutil.which(self.executable, path=environment.get("PATH")):
            return Found(self, path)
        if _has_image(self.image):
            return Found(self, None)
        raise MissingTool(
            f"No {self.name} here: put {self.executable} on the PATH, set {self.variable} to the "
            f"program, or run: docker pull {self.image}"
        )


PROMETHEUS: Final = Program(
    "Prometheus", "prometheus", "PROMETHEUS", PROMETHEUS_IMAGE, "prometheus"
)
PROMTOOL: Final = Program("promtool", "promtool", "PROMTOOL", PROMETHEUS_IMAGE, "promtool")
JAEGER: Final = Program(
    "Jaeger", "jaeger-all-in-one", "JAEGER", JAEGER_IMAGE, "/go/bin/all-in-one-linux"
)


@dataclass(frozen=True)
class Found:
    """A program that is here."""

    program: Program
    path: str | None
    """Its file; None for a container of its image."""

    def command(
        self, arguments: Sequence[str], *, folder: Path, reads: Sequence[Path], container: str
    ) -> list[str]:
        """The command that runs it with ``folder`` as its working directory.

        Args:
            arguments: What the program is told.
            folder: Where it writes.
            reads: What else it reads, read-only inside a container.
            container: The container's name, where it is one.
        """
        if self.path is not None:
            return [self.path, *arguments]
        mounts = [f"--volume={folder}:{folder}"]
        mounts += [f"--volume={path}:{path}:ro" for path in reads]
        return [
            *("docker", "run", "--rm", "--network=host", f"--name={container}"),
            *(f"--user={os.getuid()}:{os.getgid()}", f"--workdir={folder}", *mounts),
            *(f"--entrypoint={self.program.entrypoint}", self.program.image, *arguments),
        ]

    def remove(self, container: str) -> None:
        """Remove a container that is left over; nothing happens where there is none."""
        if self.path is None:
            subprocess.run(
                ["docker", "rm", "--force", container],
                capture_output=True,
                check=False,
                timeout=DOCKER_SECONDS,
            )


def _has_image(image: str) -> bool:
    """Whether a Docker engine answers and has the image; never downloads one."""
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(
            ["docker", "image", "inspect", "--format={{.Id}}", image],
            capture_output=True,
            check=False,
            timeout=DOCKER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0
