"""The marker's two scripts for the hand-written loops, and connections to run them on."""

import asyncio
from collections.abc import Sequence
from hashlib import sha1
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import hiredis

READ_BYTES = 262_144

INCARNATION_SCRIPT = """
local t = redis.call('TIME')
local now = t[1] .. '.' .. string.format('%06d', tonumber(t[2]))
local life = redis.call('HMGET', KEYS[1], 'id', 'run')
if life[2] ~= ARGV[1] then return redis.error_reply('another life') end
return {life[1], now}
"""

# KEYS: life, marker, done. ARGV: run, life, seen, expiry, lease, memory, id, type, value,
# 1 if a head is given, its type, its id, the allowed types.
MARK_SCRIPT = """
local t = redis.call('TIME')
local stamp = t[1] .. '.' .. string.format('%06d', tonumber(t[2]))
local now, seen, expiry = tonumber(stamp), tonumber(ARGV[3]), tonumber(ARGV[4])
local here = redis.call('HMGET', KEYS[1], 'id', 'run', 'began')
if here[1] ~= ARGV[2] or here[2] ~= ARGV[1] or now - seen > expiry / 2 then return {'again'} end
local m = redis.call('HMGET', KEYS[2], 'life', 'born', 'type', 'last', 'tent', 'pend', 'noted')
local kind, last, tent = m[3], m[4], m[5]
local based = m[1] ~= ARGV[2]
if based then
  if ARGV[10] ~= '1' then return {'missing'} end
  kind, last = ARGV[11], ARGV[12]
  tent = now - tonumber(here[3]) < expiry and '1' or ''
  if m[1] then redis.call('DEL', KEYS[2]) end
  redis.call('HSET', KEYS[2], 'life', ARGV[2], 'born', stamp, 'type', kind, 'last', last,
    'tent', tent)
elseif seen <= tonumber(m[2]) then
  return {'again'}
elseif m[6] == ARGV[7] then
  return {'mine'}
end
if redis.call('GET', KEYS[3]) == ARGV[2] then return {'done'} end
if m[6] and not based then
  return {now - tonumber(m[7]) < tonumber(ARGV[5]) and 'busy' or 'stale'}
end
for i = 13, #ARGV do
  if ARGV[i] == kind then
    redis.call('HSET', KEYS[2], 'type', ARGV[8], 'last', ARGV[7],
      'pend', ARGV[7], 'prev', last, 'value', ARGV[9], 'noted', stamp)
    redis.call('PERSIST', KEYS[2])
    redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[6])
    return {tent == '' and 'ok' or 'tentative', last}
  end
end
if based then redis.call('PEXPIRE', KEYS[2], math.floor(expiry * 1000)) end
return {'rejected', kind}
"""

# KEYS: life, marker, done. ARGV: run, life, id, prev, expiry and memory in ms.
CONFIRM_SCRIPT = """
local here = redis.call('HMGET', KEYS[1], 'id', 'run')
if here[1] ~= ARGV[2] or here[2] ~= ARGV[1] then return 0 end
local m = redis.call('HMGET', KEYS[2], 'life', 'pend', 'prev')
if m[1] ~= ARGV[2] or m[2] ~= ARGV[3] or m[3] ~= ARGV[4] then
  return redis.call('GET', KEYS[3]) == ARGV[2] and 1 or 0
end
redis.call('HDEL', KEYS[2], 'pend', 'prev', 'value', 'noted')
redis.call('HSET', KEYS[2], 'tent', '')
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[6])
return 1
"""

# KEYS: the latest type. ARGV: the type. Used by the loop that does not survive a crash.
CHECK_SCRIPT = """
local latest = redis.call('GET', KEYS[1])
if latest and latest ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', 3600000)
return 1
"""

KEY_COUNTS = {INCARNATION_SCRIPT: 1, MARK_SCRIPT: 3, CONFIRM_SCRIPT: 3, CHECK_SCRIPT: 1}
SHAS = {script: sha1(script.encode()).hexdigest() for script in KEY_COUNTS}


class RedisConnection:
    """A connection whose pipelines are packed and parsed by hiredis alone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._parser = reader, writer, hiredis.Reader()

    @classmethod
    async def open(cls, url: str) -> Self:
        parts = urlsplit(url)
        tls = {"ssl": True} if parts.scheme == "rediss" else {}
        connection = cls(*await asyncio.open_connection(parts.hostname, parts.port or 6379, **tls))
        if parts.password:
            names = [unquote(parts.username)] if parts.username else []
            await connection.exchange([("AUTH", *names, unquote(parts.password))])
        await connection.exchange([("SELECT", parts.path.strip("/") or "0")])
        await connection.exchange([("SCRIPT", "LOAD", script) for script in KEY_COUNTS])
        return connection

    async def exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        self._writer.write(b"".join([hiredis.pack_command(command) for command in commands]))
        replies: list[Any] = []
        while len(replies) < len(commands):
            self._parser.feed(await self._reader.read(READ_BYTES))
            while (reply := self._parser.gets()) is not False:
                if isinstance(reply, hiredis.HiredisError):
                    raise reply
                replies.append(reply)
        return replies

    def close(self) -> None:
        self._writer.close()


class RedisPool:
    """A pool of connections; each call is one pipeline on one of them."""

    def __init__(self, idle: list[RedisConnection], run_id: str) -> None:
        self._idle, self._available = idle, asyncio.Semaphore(len(idle))
        self.run_id = run_id

    @classmethod
    async def open(cls, url: str, count: int) -> Self:
        connections = [await RedisConnection.open(url) for _ in range(count)]
        (info,) = await connections[0].exchange([("INFO", "server")])
        lines = (line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
        return cls(connections, dict(lines)["run_id"])

    async def run(self, script: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the script's reply to each call (keys and arguments)."""
        if not calls:
            return []
        head = "EVALSHA", SHAS[script], KEY_COUNTS[script]
        async with self._available:
            connection = self._idle.pop()
            try:
                return await connection.exchange([(*head, *call) for call in calls])
            finally:
                self._idle.append(connection)

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
