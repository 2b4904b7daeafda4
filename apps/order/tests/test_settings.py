"""Settings that contradict each other are refused at the start."""

import pytest
from pydantic import ValidationError

from order.settings import Settings

NEEDED = {"database_url": "postgresql://u:secret@h/d", "redis_url": "redis://:secret@h"}


def test_the_defaults_fit_together() -> None:
    settings = Settings.model_validate(NEEDED)
    assert (settings.port, settings.metrics_port) == (3000, 9100)
    assert settings.statement_timeout_seconds < settings.request_timeout_seconds
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    "name", ["statement_timeout_seconds", "invoice_timeout_seconds", "lock_wait_seconds"]
)
def test_a_limit_inside_another_must_be_shorter(name: str) -> None:
    with pytest.raises(ValidationError, match=name.upper()):
        Settings.model_validate(NEEDED | {name: 15})
