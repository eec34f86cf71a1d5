"""The Lua scripts. Each is one atomic step, on keys and arguments named in its first lines.

Keys: `life`, a hash with `id`, `run` (the server's run id) and `began`, without expiry;
`marker:<domain>:<aggregate id>`, a hash with `type`, `last` (event id), `life`, `born`, `tent`, and
while a note stands `pend` (event id), `prev`, `value` (the event's bytes), `noted`;
`done:<domain>:<event id>`, the id of the life that wrote it. Times are strings of seconds with six
decimals: Lua writes numbers with fewer.
"""

from hashlib import sha1


class Script:
    """A script, and the name by which the server knows it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode()).hexdigest()


LIFE = Script("""
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

MARK = Script("""
-- KEYS: life, marker, done.
local run, life, seen, expiry, lease, memory = unpack(ARGV, 1, 6) -- memory in ms, others in s
local id, kind, value, ruled, based, basis_type, basis_id = unpack(ARGV, 7, 13)
-- ARGV from 14 on: the allowed types, where `ruled` is '1'.
local t = redis.call('TIME')
local stamp = t[1] .. '.' .. string.format('%06d', tonumber(t[2]))
local now = tonumber(stamp)
seen, expiry = tonumber(seen), tonumber(expiry)
local ttl = math.floor(expiry * 1000)

local here = redis.call('HMGET', KEYS[1], 'id', 'run', 'began')
if here[1] ~= life or here[2] ~= run or now - seen > expiry / 2 then return {'again'} end

local m = redis.call('HMGET', KEYS[2], 'life', 'born', 'type', 'last', 'tent', 'pend')
local present, born, last_type, last, tent, pend = unpack(m, 1, 6)
if present == life then
  if seen <= tonumber(born) then return {'again'} end
else
  if based ~= '1' then return {'missing'} end
  last_type, last, pend = basis_type, basis_id, false
  tent = now - tonumber(here[3]) < expiry and '1' or ''
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
  if now - noted < tonumber(lease) then return {'busy'} end
  return note('stale')
end

local allowed = ruled ~= '1'
for i = 14, #ARGV do allowed = allowed or ARGV[i] == last_type end
if not allowed then return {'rejected', last_type} end

redis.call('HSET', KEYS[2], 'type', kind, 'last', id,
  'pend', id, 'prev', last, 'value', value, 'noted', stamp)
redis.call('PERSIST', KEYS[2]) -- with a note there is no expiry
redis.call('SET', KEYS[3], life, 'PX', memory)
return {'ok', last, tent}
""")

# Whether the note that the arguments name stands in this life, exactly so.
_MINE = """
local run, life, id, prev = unpack(ARGV, 1, 4)
local here = redis.call('HMGET', KEYS[1], 'id', 'run')
if here[1] ~= life or here[2] ~= run then return 0 end
local m = redis.call('HMGET', KEYS[2], 'life', 'pend', 'prev')
local mine = m[1] == life and m[2] == id and m[3] == prev
"""

CONFIRM = Script(f"""
-- KEYS: life, marker, done. Answers 1 when the event is known as handled.
{_MINE}
if not mine then return redis.call('GET', KEYS[3]) == life and 1 or 0 end
redis.call('HDEL', KEYS[2], 'pend', 'prev', 'value', 'noted')
redis.call('HSET', KEYS[2], 'tent', '')
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('SET', KEYS[3], life, 'PX', ARGV[6])
return 1
""")

WITHDRAW = Script(f"""
-- KEYS: life, marker, done.
{_MINE}
if mine then redis.call('DEL', KEYS[2], KEYS[3]) end
return 0
""")

SCRIPTS = (LIFE, MARK, CONFIRM, WITHDRAW)
