"""The Lua scripts. Each is one atomic step; its first lines name its keys and arguments.

Keys: `life`, a hash with `id`, `run` (the server's run id) and `began`, without expiry;
`marker:<domain>:<aggregate id>`, a hash with `type`, `last` (event id), `life`, `born`, `tent`, and
while a note stands `pend` (event id), `prev`, `value` (the event's bytes), `noted`;
`done:<domain>:<event id>`, the id of the life that wrote it; `owner:<domain>:<partition>`, a life
and who decides the partition's commands in it; and claims, each by its own name; all behind the
fleet's prefix, if it has one. A life is what the contracts call an incarnation. Times are strings
of seconds with six decimals: Lua writes numbers with fewer.
"""

from collections.abc import Sequence
from hashlib import sha1

PLACEHOLDER = None
"""In a template: a word that each call brings, filled in as its length and its bytes."""
_WORD = b"$%d\r\n%b\r\n"


class Script:
    """A script with its constants in front, and the hash by which the server finds it."""

    def __init__(self, text: str, **constants: float) -> None:
        declared = (f"local {name} = {number!r}" for name, number in constants.items())
        self.text = "\n".join((*declared, text))
        self.sha = sha1(self.text.encode()).hexdigest()

    def template(self, keys: Sequence[bytes | None], arguments: Sequence[bytes | None]) -> bytes:
        """Pack a call for `%` to complete: what many calls have in common is packed once."""
        words = b"EVALSHA", self.sha.encode(), b"%d" % len(keys), *keys, *arguments
        return b"*%d\r\n%b" % (len(words), b"".join(map(_pack_word, words)))


def _pack_word(word: bytes | None) -> bytes:
    return _WORD if word is PLACEHOLDER else (_WORD % (len(word), word)).replace(b"%", b"%%")


INCARNATION = Script("""
-- KEYS: life. ARGV: run id of this server, a random value. Answers id, began, now.
local t = redis.call('TIME')
local now = t[1] .. '.' .. string.format('%06d', tonumber(t[2]))
-- Begins with the first look at an empty data set, or at one that another process has written:
-- a server that is promoted a second time does not take up its earlier life.
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'id', ARGV[1] .. ':' .. ARGV[2], 'run', ARGV[1], 'began', now)
end
local life = redis.call('HMGET', KEYS[1], 'id', 'began')
return {life[1], life[2], now}
""")

MARK = """
-- Constants: expiry and lease in seconds, memory in milliseconds.
-- KEYS: life, marker, done, and for an owner the one of its partition. ARGV: `allowed` has a NUL
-- before each type, which has none itself, and one at the end; it is empty where there is no rule.
-- `first` is '1' in the domain's first life. The last two are there with a basis only.
local run, life, first, seen, kind, allowed, id, value, deadline, owner = unpack(ARGV, 1, 10)
local basis_type, basis_id = ARGV[11], ARGV[12]
local t = redis.call('TIME')
local stamp = t[1] .. '.' .. string.format('%06d', tonumber(t[2]))
local now = tonumber(stamp)
seen = tonumber(seen)
local ttl = math.floor(expiry * 1000)

local here = redis.call('HMGET', KEYS[1], 'id', 'run', 'began')
if here[1] ~= life or here[2] ~= run then return {'again'} end
-- A look from the future is one from before the clock has stepped back.
if now - seen > expiry / 2 or seen > now then return {'again'} end
if KEYS[4] and redis.call('GET', KEYS[4]) ~= life .. ' ' .. owner then return {'disowned'} end
if now >= tonumber(deadline) then return {'late'} end

local m = redis.call('HMGET', KEYS[2], 'life', 'born', 'type', 'last', 'tent', 'pend')
local present, born, last_type, last, tent, pend = unpack(m, 1, 6)
if present == life then
  if seen <= tonumber(born) then return {'again'} end
else
  if not basis_id then return {'missing'} end
  last_type, last, pend = basis_type, basis_id, false
  tent = first == '' and now - tonumber(here[3]) < expiry and '1' or ''
  if present then redis.call('DEL', KEYS[2]) end
  redis.call('HSET', KEYS[2], 'life', life, 'born', stamp, 'type', last_type, 'last', last,
    'tent', tent)
  redis.call('PEXPIRE', KEYS[2], ttl)
end

local function note(verdict)
  local n = redis.call('HMGET', KEYS[2], 'prev', 'value')
  return {verdict, pend, n[1], tent, n[2]}
end
if pend == id then return note('mine') end
if redis.call('GET', KEYS[3]) == life then return {'done'} end
if pend then
  local noted = tonumber(redis.call('HGET', KEYS[2], 'noted'))
  if now - noted < lease then return {'busy'} end
  return note('stale')
end

if allowed ~= '' and not string.find(allowed, '\\0' .. last_type .. '\\0', 1, true) then
  return {'rejected', last_type, last, tent}
end

redis.call('HSET', KEYS[2], 'type', kind, 'last', id,
  'pend', id, 'prev', last, 'value', value, 'noted', stamp)
redis.call('PERSIST', KEYS[2]) -- with a note there is no expiry
redis.call('SET', KEYS[3], life, 'PX', memory)
return {'ok', last, tent}
"""

# Whether the note that the arguments name stands in this life, exactly so.
_MINE = """
local run, life, id, prev = unpack(ARGV, 1, 4)
local here = redis.call('HMGET', KEYS[1], 'id', 'run')
if here[1] ~= life or here[2] ~= run then return 0 end
local m = redis.call('HMGET', KEYS[2], 'life', 'pend', 'prev')
local mine = m[1] == life and m[2] == id and m[3] == prev
"""

CONFIRM = f"""
-- Constants: expiry and memory in milliseconds.
-- KEYS: life, marker, done. Answers 1 when the event is known as handled.
{_MINE}
if not mine then return redis.call('GET', KEYS[3]) == life and 1 or 0 end
redis.call('HDEL', KEYS[2], 'pend', 'prev', 'value', 'noted')
redis.call('HSET', KEYS[2], 'tent', '')
redis.call('PEXPIRE', KEYS[2], expiry)
redis.call('SET', KEYS[3], life, 'PX', memory)
return 1
"""

DROP = Script("""
-- KEYS: life, marker, done. ARGV: run, life, the latest event's id, and a word that is not used.
local here = redis.call('HMGET', KEYS[1], 'id', 'run')
if here[1] ~= ARGV[2] or here[2] ~= ARGV[1] then return 0 end
local m = redis.call('HMGET', KEYS[2], 'life', 'pend', 'last')
if m[1] == ARGV[2] and not m[2] and m[3] == ARGV[3] then redis.call('DEL', KEYS[2]) end
return 0
""")

WITHDRAW = Script(f"""
-- KEYS: life, marker, done.
{_MINE}
if mine then redis.call('DEL', KEYS[2], KEYS[3]) end
return 0
""")

CLAIM = """
-- Constants: kept, how long a claim outlives its deadline, in milliseconds.
-- KEYS: life, claim. ARGV: run, life, deadline. Answers the milliseconds left until the deadline.
local here = redis.call('HMGET', KEYS[1], 'id', 'run')
if here[1] ~= ARGV[2] or here[2] ~= ARGV[1] then return 0 end
local t = redis.call('TIME')
local left = math.floor((tonumber(ARGV[3]) - t[1] - t[2] / 1000000) * 1000)
if left <= 0 then return 0 end
return redis.call('SET', KEYS[2], '', 'NX', 'PX', left + kept) and left or 0
"""
