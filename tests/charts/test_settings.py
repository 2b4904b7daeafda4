"""What the charts may set is what the services take: each limit, tried on the settings."""

from __future__ import annotations

import importlib
import json
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError
from tests.charts.rendering import Charts, Refused, Values, one
from tests.e2e.harness.programs import ROOT

from devkit.services import SERVICES

TINY = 0.001


def schema_of(service: str) -> dict[str, Any]:
    path = ROOT / "charts" / service / "values.schema.json"
    found: dict[str, Any] = json.loads(path.read_text())["properties"]["config"]["properties"]
    return found


def extremes(rules: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The outermost values that a schema takes, and those just outside."""
    if "enum" in rules:
        return list(rules["enum"]), ["CRITICAL", "critical", "loud", ""]
    if rules["type"] == "string":
        return [""], []
    step = 1 if rules["type"] == "integer" else TINY
    inside: list[Any] = []
    outside: list[Any] = []
    if "exclusiveMinimum" in rules:
        inside.append(rules["exclusiveMinimum"] + step)
        outside.append(rules["exclusiveMinimum"])
    if "minimum" in rules:
        inside.append(rules["minimum"])
        outside.append(rules["minimum"] - step)
    if "maximum" in rules:
        inside.append(rules["maximum"])
        outside.append(rules["maximum"] + step)
    return inside, outside


def snake(key: str) -> str:
    """A key of the values as the services' settings have it."""
    return "".join(f"_{c}" if c.isupper() else c for c in key).lower()


CASES = [(service, key) for service in SERVICES for key in schema_of(service)]


def start(service: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the settings as the service does when it starts."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    importlib.import_module(f"{service}.settings").Settings()


def variables(charts: Charts, service: str, values: Values) -> dict[str, str]:
    """The environment that a pod of the release has."""
    manifests = charts.render(service, values)
    deployment = one(manifests, "Deployment", f"rel-{service}")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    prefix = service.upper()
    urls = {
        f"{prefix}_DATABASE_URL": "postgresql://u:p@h:5432/d",
        f"{prefix}_REDIS_URL": "redis://h:6379/0",
    }
    return {each["name"]: each["value"] for each in container["env"] if "value" in each} | urls


def beside(key: str, value: Any) -> Values:
    """The values with one extreme, and room for it in the limits around."""
    config: Values = {key: value}
    if (
        key != "requestTimeoutSeconds"
        and isinstance(value, float | int)
        and key.endswith("Seconds")
    ):
        config["requestTimeoutSeconds"] = 86_400
    if key == "requestTimeoutSeconds":
        inner = ("statementTimeoutSeconds", "invoiceTimeoutSeconds")
        config |= dict.fromkeys(inner, max(value / 2, TINY))
        config |= {"lockWaitSeconds": 0}
    return {"config": config}


@pytest.mark.parametrize(("service", "key"), CASES)
def test_the_services_start_with_the_outermost_values_that_the_chart_takes(
    charts: Charts, service: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in extremes(schema_of(service)[key])[0]:
        values = beside(key, value)
        known = schema_of(service)
        values["config"] = {k: v for k, v in values["config"].items() if k in known}
        try:
            found = variables(charts, service, values)
        except Refused as refusal:
            assert "must be less than config.requestTimeoutSeconds" in str(refusal), value  # noqa: PT017
            continue
        with monkeypatch.context() as patch:
            start(service, found, patch)


def bounds(rules: dict[str, Any]) -> tuple[float | None, float | None]:
    """The least and the greatest value that a JSON schema takes; of whole numbers if it says so."""
    least = rules.get("minimum")
    if rules["type"] == "integer" and "exclusiveMinimum" in rules:
        least = rules["exclusiveMinimum"] + 1
    return least, rules.get("maximum")


@pytest.mark.parametrize(("service", "key"), CASES)
def test_the_chart_has_the_bounds_of_the_service(service: str, key: str) -> None:
    """A value that only the service refuses ends in a pod that starts again and again."""
    settings = importlib.import_module(f"{service}.settings").Settings.model_json_schema()
    rules = schema_of(service)[key]
    if rules["type"] in ("integer", "number"):
        assert bounds(rules) == bounds(settings["properties"][snake(key)])


@pytest.mark.parametrize(("service", "key"), CASES)
def test_what_the_services_refuse_the_chart_refuses(
    service: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = schema_of(service)[key]
    name = f"{service}_{snake(key)}".upper()
    prefix = service.upper()
    urls = {
        f"{prefix}_DATABASE_URL": "postgresql://u:p@h:5432/d",
        f"{prefix}_REDIS_URL": "redis://h:6379/0",
    }
    for value in extremes(rules)[1]:
        with monkeypatch.context() as patch:
            try:
                start(service, {**urls, name: str(value)}, patch)
            except ValidationError:
                assert not jsonschema.Draft7Validator(rules).is_valid(value), value


def test_a_limit_that_is_not_shorter_than_the_one_around_it_is_refused_by_both(
    charts: Charts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("statementTimeoutSeconds", "invoiceTimeoutSeconds", "lockWaitSeconds"):
        with pytest.raises(Refused, match=f"config.{key} is 15: it must be less"):
            charts.render("order", {"config": {key: 15}})
        found = variables(charts, "order", {"config": {key: 14}})
        name = f"order_{snake(key)}".upper()
        with (
            monkeypatch.context() as patch,
            pytest.raises(ValidationError, match="must be less than"),
        ):
            start("order", {**found, name: "15"}, patch)
