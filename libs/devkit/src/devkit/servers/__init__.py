"""Real servers for tests and for `make up`: PostgreSQL and one that speaks the Redis protocol."""

from devkit.servers.postgres import PostgresServer
from devkit.servers.redis import RedisServer

__all__ = ["PostgresServer", "RedisServer"]
