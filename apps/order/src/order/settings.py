"""The settings of the order service, from ``ORDER_*`` environment variables."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from servicekit import settings
from servicekit.settings import (
    Port,
    PositiveSeconds,
    Seconds,
    service_config,
)
from servicekit.urls import HttpUrl


class Settings(settings.ServeSettings):
    """Everything that can be set."""

    model_config = service_config("ORDER_")

    port: Port = 3000
    metrics_port: Port = 9100
    request_timeout_seconds: PositiveSeconds = 15.0
    invoice_url: HttpUrl = "http://127.0.0.1:3001"
    invoice_token_file: Path | None = None
    """The access token to show the invoice service, of the scope shop:internal; read again when it
    changes."""
    invoice_timeout_seconds: PositiveSeconds = 3.0
    """Limit for one call of the invoice service."""
    lock_ttl_seconds: Annotated[float, Field(ge=0.05, le=300, allow_inf_nan=False)] = 10.0
    """How long the locks outlive a process that has died; at most as long as
    fencelock holds a lock at all."""
    lock_wait_seconds: Seconds = 2.0
    """How long a request waits for its turn among those of its order in this process, and then for
    the locks, before it is answered 423: for each of the two at most so long."""
    update_time_skew_seconds: Annotated[float, Field(ge=0, le=315_576_000, allow_inf_nan=False)] = (
        300.0
    )
    """How far ahead of our clock an ``update_time`` may lie, and how far behind it at creation."""
    max_requests_per_order: Annotated[int, Field(gt=0)] = 64
    """How many requests to change one order may be in this process; more get 423. One of them is
    worked on at a time, the others wait outside and take no place from those of other orders."""
    reconcile_interval_seconds: PositiveSeconds = 1.0
    """How often recovery looks for pending operations without being woken."""
    purge_interval_seconds: PositiveSeconds = 600.0
    """How often keys past their retention are removed, and operations moved to the archive."""

    @model_validator(mode="after")
    def _limits_are_nested(self) -> Self:
        """A limit inside another must be shorter, or the outer one always speaks first."""
        for name in ("statement_timeout_seconds", "invoice_timeout_seconds", "lock_wait_seconds"):
            if getattr(self, name) >= self.request_timeout_seconds:
                prefix = self.model_config.get("env_prefix", "")
                raise ValueError(
                    f"{prefix}{name.upper()} must be less than {prefix}REQUEST_TIMEOUT_SECONDS"
                )
        return self


class MigrateSettings(settings.MigrateSettings):
    """What ``order migrate`` needs."""

    model_config = service_config("ORDER_")
