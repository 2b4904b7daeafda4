"""Settings blocks that a service combines into its one ``Settings`` class.

A service inherits the blocks it needs and fixes its own environment prefix::

    class Settings(ServerSettings, DatabaseSettings, LoggingSettings):
        model_config = service_config("ORDER_")

Every duration carries its unit in its name. URLs with passwords are ``SecretStr``: neither ``repr``
nor a log line shows them.
"""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65535)]
PositiveSeconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]


def service_config(prefix: str) -> SettingsConfigDict:
    """Return the pydantic configuration of a service whose variables start with ``prefix``."""
    return SettingsConfigDict(env_prefix=prefix, frozen=True, extra="ignore")


class ServerSettings(BaseSettings):
    """Where the service listens, how much it takes at once and how it stops."""

    host: str = "127.0.0.1"
    port: Port
    metrics_port: Port
    drain_seconds: Seconds = 0.0
    """How long ``/readyz`` says draining before the listener closes."""
    shutdown_seconds: PositiveSeconds = 20.0
    """Limit for the requests in flight once the listener has closed."""
    idle_grace_seconds: Seconds = 2.0
    """How long a connection may still bring a request once the listener has closed."""
    request_timeout_seconds: PositiveSeconds
    max_body_bytes: Annotated[int, Field(gt=0)] = 65_536
    max_concurrent_requests: Annotated[int, Field(gt=0)] = 64
    """Requests worked on at once; the next wait their turn as long as their time allows."""
    max_connections: Annotated[int, Field(gt=0, le=100_000)] = 1_000
    """Clients connected at once; lowered where the process may not open as many descriptors."""
    idempotency_retention_seconds: Annotated[int, Field(gt=0)] = 86_400
    failpoints: str = ""


class DatabaseSettings(BaseSettings):
    """How to reach the service's own Postgres."""

    database_url: SecretStr
    database_pool_size: Annotated[int, Field(gt=0)] = 10
    statement_timeout_seconds: PositiveSeconds = 5.0


class RedisSettings(BaseSettings):
    """How to reach the Redis that keeps the locks."""

    redis_url: SecretStr


class LoggingSettings(BaseSettings):
    """How the service logs."""

    log_format: LogFormat = "auto"
    log_level: LogLevel = "info"


class MigrateSettings(DatabaseSettings, LoggingSettings):
    """What a service's ``migrate`` command needs."""


def explain(error: ValidationError, *, prefix: str) -> str:
    """Return one line that names each wrong environment variable, without repeating its value."""
    return "; ".join(
        f"{prefix}{'_'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)
    )
