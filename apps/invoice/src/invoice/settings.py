"""The settings of the invoice service, from ``INVOICE_*`` environment variables."""

from servicekit import settings
from servicekit.settings import (
    Port,
    PositiveSeconds,
    service_config,
)


class Settings(settings.ServeSettings):
    """Everything that can be set."""

    model_config = service_config("INVOICE_")

    port: Port = 3001
    metrics_port: Port = 9101
    request_timeout_seconds: PositiveSeconds = 5.0
    lock_check_timeout_seconds: PositiveSeconds = 1.0
    """Limit for asking Redis whether the caller holds the lock."""
    commit_patience_seconds: PositiveSeconds = 10.0
    """How long after its deadline a request waits for the end of its commit."""
    purge_interval_seconds: PositiveSeconds = 600.0
    """How often operations of direct clients past their retention are removed, and those of orders
    moved to the archive."""


class MigrateSettings(settings.MigrateSettings):
    """What ``invoice migrate`` needs."""

    model_config = service_config("INVOICE_")
