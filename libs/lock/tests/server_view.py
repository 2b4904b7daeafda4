"""What the server knows, seen from outside."""

from typing import Any

from libs.lock.tests.eventually import eventually
from redis.asyncio import Redis

from fencelock import _names


async def record(admin: Redis, name: str) -> str | None:
    """What is stored about the holder of a name: owner, fence and annotation."""
    value = await admin.get(f"fencelock:l:{_names.body(name)}")
    assert not isinstance(value, str)
    return None if value is None else value.decode()


async def holder(admin: Redis, name: str) -> str | None:
    """The owner of a name; of those that share it the first whose lease ends."""
    found = await record(admin, name)
    if found is not None and found.startswith("*"):
        owners: list[Any] = await admin.zrange(f"fencelock:p:{_names.body(name)}", 0, 0)
        return str(owners[0].decode())
    return None if found is None else found.split()[0]


async def queue_length(admin: Redis, name: str) -> int:
    """How many tickets stand in line, that of a holder who came from the line included."""
    return int(await _resolved(admin.llen(f"fencelock:q:{_names.body(name)}")))


async def lock_keys(admin: Redis) -> list[str]:
    """Every key of the library except the fence counter."""
    keys = [key.decode() async for key in admin.scan_iter("fencelock:*")]
    return sorted(key for key in keys if key != "fencelock:fence")


async def script_calls(admin: Redis) -> int:
    """How many scripts the server has run."""
    stats: dict[str, Any] = await admin.info("commandstats")
    names = ("cmdstat_evalsha", "cmdstat_eval")
    return sum(int(stats[name]["calls"]) for name in names if name in stats)


async def watched(admin: Redis, keys: int = 1) -> None:
    """Wait until the server tells holders of changes to so many keys."""

    async def tracked() -> bool:
        return int((await admin.info("stats"))["tracking_total_keys"]) >= keys

    await eventually(tracked, f"the server watches {keys} keys")


async def lock_connections(admin: Redis) -> int:
    """How many connections lock clients have open."""
    found = await admin.client_list()
    return sum(each["name"] == "fencelock" for each in found)


async def _resolved(result: Any) -> Any:
    return await result
