"""The images: what their Dockerfiles promise, and what an engine finds in them."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any

import pytest
from tests.e2e.harness.programs import ROOT, CommandFailed, run

from devkit.services import SERVICES

BASE = "python:3.13-slim"
# What a service adds to its base: 156 MB when this was written. SQLAlchemy, gRPC, uvloop,
# cryptography (16, for signed tokens), psycopg and aiohttp are 110 of them.
BUDGET_MEGABYTES = 160
BUILD_SECONDS = 600
INSIDE = """
import importlib.util, json, pathlib
ours = ["devkit", "fencelock", "invoice", "order", "servicekit", "tandem"]
tools = ["hatchling", "pip", "pytest", "setuptools"]
app = importlib.util.find_spec("{service}.app")
print(json.dumps({{
    "there": [name for name in ours + tools if importlib.util.find_spec(name)],
    "compiled": pathlib.Path(app.cached).exists(),
}}))
"""


def dockerfile(service: str) -> str:
    return (ROOT / "apps" / service / "Dockerfile").read_text()


@pytest.mark.parametrize("service", SERVICES)
def test_every_stage_starts_from_the_base_that_is_asked_for(service: str) -> None:
    text = dockerfile(service)
    assert f"ARG PYTHON_IMAGE={BASE}" in text
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert set(bases) == {"${PYTHON_IMAGE}", "runtime"}
    assert "# syntax=" not in text


@pytest.mark.parametrize("service", SERVICES)
def test_it_runs_as_a_numbered_user_without_a_shell(service: str) -> None:
    text = dockerfile(service)
    assert "USER 65532:65532" in text
    starts = re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", text, re.MULTILINE)
    assert all(isinstance(json.loads(start), list) for start in starts)


@pytest.mark.parametrize("service", SERVICES)
def test_everything_installed_is_pinned_by_hash(service: str) -> None:
    steps = dockerfile(service).replace("\\\n", " ").splitlines()
    installs = [part for step in steps for part in step.split("&&") if " install " in part]
    assert installs
    for command in installs:
        assert "--require-hashes" in command or "--no-index" in command, command


def test_both_services_are_built_alike() -> None:
    order = dockerfile("order").replace("order", "SERVICE").replace("ORDER", "PREFIX")
    invoice = dockerfile("invoice").replace("invoice", "SERVICE").replace("INVOICE", "PREFIX")
    assert order.replace("Order", "Title") == invoice.replace("Invoice", "Title")


def docker(*arguments: str) -> str:
    return run("docker", *arguments, timeout_seconds=BUILD_SECONDS).strip()


def inspect(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]
    return found


@pytest.fixture(scope="module", params=SERVICES)
def image(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A service and the image built of it."""
    if shutil.which("docker") is None:
        pytest.skip("the docker program is not on the PATH")
    try:
        docker("image", "inspect", BASE)
    except CommandFailed:
        pytest.skip(f"no engine answers, or {BASE} is not in it: `docker pull {BASE}`")
    service = str(request.param)
    arguments = ["--build-arg=VERSION=1.2.3", "--build-arg=REVISION=abc"]
    return service, docker("build", "--quiet", f"--file=apps/{service}/Dockerfile", *arguments, ".")


@pytest.mark.timeout(BUILD_SECONDS)
def test_it_says_what_it_is(image: tuple[str, str]) -> None:
    service, reference = image
    config = inspect(reference)["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["python", "-m", service]
    assert config["Cmd"] == ["serve"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == service
    assert labels["org.opencontainers.image.version"] == "1.2.3"
    assert labels["org.opencontainers.image.revision"] == "abc"


@pytest.mark.timeout(BUILD_SECONDS)
def test_it_stays_within_its_size(image: tuple[str, str]) -> None:
    _, reference = image
    added = inspect(reference)["Size"] - inspect(BASE)["Size"]
    assert added < BUDGET_MEGABYTES * 10**6


@pytest.mark.timeout(BUILD_SECONDS)
def test_it_holds_its_service_compiled_and_nothing_to_build_or_test_with(
    image: tuple[str, str],
) -> None:
    service, reference = image
    script = INSIDE.format(service=service)
    hardened = ["--read-only", "--cap-drop=ALL", "--network=none", "--entrypoint=python"]
    said = json.loads(docker("run", "--rm", *hardened, reference, "-c", script))
    assert said == {
        "there": sorted([service, "fencelock", "servicekit", "tandem"]),
        "compiled": True,
    }
