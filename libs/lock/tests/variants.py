"""The library's scripts with one promise broken each: what the safety tests must catch."""

from fencelock._scripts import Scripts, assemble, packaged, source


def broken(name: str) -> Scripts:
    """The scripts of the variant ``name``."""
    script, old, new = _CHANGES[name]
    assert source(script).count(old) == 1, f"{old!r} is not in {script}.lua once"
    return assemble(lambda each: source(each).replace(old, new) if each == script else source(each))


def sound() -> Scripts:
    """The scripts as they ship."""
    return packaged()


_CHANGES: dict[str, tuple[str, str, str]] = {
    # One after the other finds a permit.
    "permits are not counted": ("permits", "if limit == 0 then", "if true then"),
    # Whoever may share does, whoever waits.
    "readers overtake": (
        "acquire",
        "if seen.taken and #seen.mine == 0",
        """if limit and not seen.taken then
  local fence = mint(time)
  sharing().share(bodies_of(count), owner, fence, annotation, ttl, limit, time)
  seen = look()
  for _, key in ipairs(seen.mine) do redis.call('PEXPIRE', key, ttl) end
  return {'granted', seen.fence, ttl, stamp, '-'}
end
if seen.taken and #seen.mine == 0""",
    ),
    # Takes names that somebody else holds.
    "acquire ignores the holder": (
        "acquire",
        "if not limit and redis.call('EXISTS', unpack(KEYS, 2)) == 0 then",
        "if not limit then",
    ),
    # The classic mistake: DEL without comparing the owner.
    "release deletes whoever holds": (
        "release",
        "if value and string.sub(value, 1, #owner + 1) == owner .. ' ' then",
        "if value then",
    ),
    # Takes what is free, name by name, and keeps it when the rest is not.
    "acquire takes the names one by one": (
        "acquire",
        "local function blocked(seen)",
        """local function blocked(seen)
  for i = 2, count + 1 do
    if redis.call('EXISTS', KEYS[i]) == 0 then
      redis.call('SET', KEYS[i], owner .. ' ' .. mint(time) .. ' -', 'PX', ttl)
    end
  end""",
    ),
    # A plain counter starts again when the data is lost.
    "fence without the clock": ("record", "math.max(last + 1, time)", "last + 1"),
    # The clock alone repeats itself, or falls when it is set back.
    "fence without the counter": ("record", "math.max(last + 1, time)", "time"),
    # A counter that stays for ever, though nobody locks any more.
    "fence for ever": ("record", "'PX', FENCE_TTL_MS, 'GET'", "'GET'"),
    # What the network kept back counts however late it comes.
    "acquire ignores its time": ("acquire", "time > not_after then", "false then"),
    # A new request overtakes those that stand in line.
    "acquire ignores the queue": (
        "acquire",
        "redis.call('EXISTS', unpack(KEYS, 2)) == 0 then",
        "redis.call('EXISTS', unpack(KEYS, 2, count + 1)) == 0 then",
    ),
    # The last to come is the first to be served.
    "last come, first served": (
        "acquire",
        "else redis.call('RPUSH', KEYS[i], ticket) end",
        "else redis.call('LPUSH', KEYS[i], ticket) end",
    ),
    # Nobody is told.
    "release wakes nobody": (
        "grant",
        "redis.call('PUBLISH', channel, 'grant '",
        "redis.call('ECHO', 'grant '",
    ),
    # A repeated acquire takes its own key for somebody else's.
    "acquire does not know itself": (
        "acquire",
        "if owned(value, owner) then",
        "if false then",
    ),
    # Whoever asks is told yes.
    "verify fails open": ("verify", "then return -1 end", "then return 1000 end"),
    # A stale holder goes on for ever.
    "renew does not look at the owner": (
        "renew",
        "if not owned(values[k], owner) then held = 0 end",
        "",
    ),
    # Trusts that every waiter is still there.
    "grant does not look who listens": (
        "grant",
        "lease_ms = math.min(lease_ms, RECONNECT_MS)",
        "",
    ),
    # A frozen process keeps what it was granted for the whole lease.
    "grant for the whole lease": (
        "grant",
        "hold(ticket.bodies, ticket.owner, fence, ticket.annotation, lease_ms)",
        "hold(ticket.bodies, ticket.owner, fence, ticket.annotation, 3600000)",
    ),
}
