"""Settings blocks that a service combines into its one ``Settings`` class.

A service inherits the blocks it needs and fixes its own environment prefix::

    class Settings(ServerSettings, DatabaseSettings, LoggingSettings):
        model_config = service_config("ORDER_")

Every duration carries its unit in its name. URLs with passwords are ``SecretStr``: neither ``repr``
nor a log line shows them.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from servicekit.auth.settings import AuthSettings
from servicekit.root_path import RootPath
from servicekit.urls import DatabaseUrl, RedisUrl

Port = Annotated[int, Field(ge=0, le=65535)]
# A millisecond is the least that Postgres and Redis know; 0 would mean no limit to Postgres.
PositiveSeconds = Annotated[float, Field(ge=0.001, le=86_400, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]
Pooler = Literal["session", "transaction"]
# What Kubernetes adds for a Service of the same name, and nobody has set.
_SERVICE_LINK: Final = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_\w+)$")


def service_config(prefix: str) -> SettingsConfigDict:
    """Return the pydantic configuration of a service whose variables start with ``prefix``."""
    return SettingsConfigDict(env_prefix=prefix, frozen=True, extra="ignore")


class ServerSettings(AuthSettings):
    """Where the service listens, whom it serves, how much it takes at once and how it stops."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Port
    metrics_port: Port
    root_path: RootPath = ""
    """The path of its host below which clients reach the service, such as ``/shop``."""
    drain_seconds: Seconds = 0.0
    """How long ``/readyz`` says draining before the listener closes."""
    shutdown_seconds: PositiveSeconds = 20.0
    """Limit for the requests in flight once the listener has closed."""
    idle_grace_seconds: Seconds = 2.0
    """How long a connection may still bring a request once the listener has closed."""
    request_timeout_seconds: PositiveSeconds
    max_body_bytes: Annotated[int, Field(gt=0, le=1_073_741_824)] = 65_536
    max_concurrent_requests: Annotated[int, Field(gt=0, le=100_000)] = 16
    """Requests worked on at once, a quarter of them, and one at least, reads; the next wait their
    turn as long as their time allows. At 1 a read has a place beside a change. More
    makes nothing faster, and each slower: ``python -m bench.services.overload`` measures it."""
    max_connections: Annotated[int, Field(gt=0, le=100_000)] = 1_000
    """Clients connected at once; lowered where the process may not open as many descriptors."""
    idempotency_retention_seconds: Annotated[int, Field(gt=0, le=315_576_000)] = 86_400
    operation_retention_seconds: Annotated[int, Field(ge=0, le=315_576_000)] = 0
    """How long after the change that superseded it an operation stays in the journal; then it moves
    to the archive. 0: for ever."""
    failpoints: str = ""


class DatabaseSettings(BaseSettings):
    """How to reach the service's own Postgres."""

    database_url: DatabaseUrl
    database_pool_size: Annotated[int, Field(gt=0, le=1000)] = 10
    database_pooler: Pooler = "session"
    """``transaction`` behind a pooler that gives a connection for one transaction, as PgBouncer
    does: no prepared statements, and the session's settings are those of the role."""
    statement_timeout_seconds: PositiveSeconds = 5.0


class RedisSettings(BaseSettings):
    """How to reach the Redis that keeps the locks."""

    redis_url: RedisUrl


class LoggingSettings(BaseSettings):
    """How the service logs."""

    log_format: LogFormat = "auto"
    log_level: LogLevel = "info"


class ServeSettings(ServerSettings, DatabaseSettings, RedisSettings, LoggingSettings):
    """What every service's ``serve`` command needs."""


class MigrateSettings(DatabaseSettings, LoggingSettings):
    """What a service's ``migrate`` command needs."""


def explain(error: ValidationError, *, prefix: str) -> str:
    """Return one line that names each wrong environment variable, without repeating its value."""
    return "; ".join(_explained(error, prefix))


def _explained(error: ValidationError, prefix: str) -> Iterator[str]:
    for item in error.errors(include_input=False, include_url=False):
        message = item["msg"].removeprefix("Value error, ")
        name = "_".join(str(part) for part in item["loc"]).upper()
        # What contradicts another setting belongs to no variable, and names them itself.
        yield f"{prefix}{name}: {message}" if name else message


def variables(*settings: type[BaseSettings]) -> dict[str, dict[str, Any]]:
    """Return each environment variable that these settings read, with its JSON schema."""
    found: dict[str, dict[str, Any]] = {}
    for each in settings:
        prefix = each.model_config.get("env_prefix", "")
        schema = each.model_json_schema()
        for name, field in schema["properties"].items():
            required = name in schema.get("required", [])
            found.setdefault(f"{prefix}{name}".upper(), field | {"required": required})
    return found


def unknown(
    environment: Mapping[str, str], *, prefix: str, known: Mapping[str, object]
) -> Iterator[str]:
    """Yield a line for each variable with the prefix that nothing reads."""
    for name in sorted(environment):
        upper = name.upper()
        if upper.startswith(prefix) and upper not in known and not _SERVICE_LINK.search(upper):
            near = difflib.get_close_matches(upper, known, n=1)
            yield f"{name} is not a setting" + (f": is {near[0]} meant?" if near else "")
