"""Settings from the environment."""

import pytest
from pydantic import ValidationError

from servicekit.settings import DatabaseSettings, ServerSettings, explain, service_config


class Settings(ServerSettings, DatabaseSettings):
    model_config = service_config("SHOP_")


def test_variables_with_the_prefix_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"PORT": "1", "METRICS_PORT": "2", "REQUEST_TIMEOUT_SECONDS": "3"}
    for name, value in values.items():
        monkeypatch.setenv(f"SHOP_{name}", value)
    monkeypatch.setenv("SHOP_DATABASE_URL", "postgresql://u:hunter2@h/d")
    settings = Settings()
    assert (settings.port, settings.metrics_port, settings.request_timeout_seconds) == (1, 2, 3.0)
    assert "hunter2" not in repr(settings)


def test_what_is_wrong_is_named_in_one_line_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_PORT", "hunter2")
    with pytest.raises(ValidationError) as caught:
        Settings()
    line = explain(caught.value, prefix="SHOP_")
    assert "SHOP_PORT: " in line
    assert "SHOP_DATABASE_URL: Field required" in line
    assert "hunter2" not in line
    assert "\n" not in line
