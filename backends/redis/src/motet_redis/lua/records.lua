-- Records. Those of a run are fields of the hash `s:<run>`; of names that end in a number of 128 or more, of `s:<run>:<n>`
-- for each 128 of them, so that each hash stays small enough to be packed. A value begins with `-`, or with `+` and the
-- time at which it expires. Two marks in the first hash say what else there is: `\0<n>` another hash, `\1<name>` a barrier.
-- Counters are in `c:<run>`.

local waited -- whether anybody waits for any run: asked once in a script

local function home(run, name)
  local digits = #name > 4 and string.match(name, '%d+$')
  if digits and #digits > 2 then
    local number = tonumber(digits)
    if number >= 128 and number < 1e9 then
      return NS .. 's:' .. run .. ':' .. text(math.floor(number / 128)), math.floor(number / 128)
    end
  end
  return NS .. 's:' .. run, nil
end

local function wrap(value, ttl, time)
  if ttl < 0 then
    return '-' .. value
  end
  return '+' .. struct.pack('>d', time + ttl) .. value
end

-- The value, unless it has expired.
local function live(stored, time)
  if not stored then
    return nil
  end
  if string.byte(stored) == 45 then
    return string.sub(stored, 2)
  end
  if struct.unpack('>d', stored, 2) <= time then
    return nil
  end
  return string.sub(stored, 10)
end

local lasting = {} -- hashes that this script has made sure of: members of a group write to the same ones

-- A hash goes with the last of its fields.
local function age(key, ttl)
  if ttl < 0 then
    if not lasting[key] then
      call('PERSIST', key)
      lasting[key] = true
    end
    return
  end
  if call('HLEN', key) == 1 then
    call('PEXPIRE', key, text(ttl))
    lasting[key] = nil
  else
    local left = call('PTTL', key)
    if left >= 0 and left < ttl then
      call('PEXPIRE', key, text(ttl))
    end
  end
end

local function mark(run, field, ttl)
  local main = NS .. 's:' .. run
  call('HSET', main, field, '-')
  age(main, ttl)
end

local function began(run)
  call('ZADD', NS .. 'runs', 'NX', text(call('INCR', NS .. 'begun')), run)
end

local function write(run, name, value, ttl, time)
  local key, part = home(run, name)
  if part and call('EXISTS', key) == 0 then
    mark(run, '\0' .. text(part), ttl)
  end
  call('HSET', key, name, wrap(value, ttl, time))
  age(key, ttl)
  if name == 'r' then
    began(run)
  end
end

local function read(run, name, time)
  return live(call('HGET', home(run, name), name), time)
end

local function erase(run, name)
  call('HDEL', home(run, name), name)
  if name == 'r' then
    call('ZREM', NS .. 'runs', run)
  end
end

-- Tell every client that waits for a run to look again.
local function ring(run)
  if waited == nil then
    waited = call('EXISTS', NS .. 'waiters') == 1
  end
  if not waited then
    return
  end
  for _, client in ipairs(call('SMEMBERS', NS .. 'w:' .. run)) do
    call('RPUSH', NS .. 'rp:' .. client, run)
    call('PEXPIRE', NS .. 'rp:' .. client, 60000)
  end
end

-- Write where nothing is; answer what was there.
local function put_once(run, name, value, ttl, ends, time)
  local key, part = home(run, name)
  if ends then
    ring(run)
  end
  if part or name == 'r' then
    local stored = live(call('HGET', key, name), time)
    if stored then
      return stored
    end
    write(run, name, value, ttl, time)
    return nil
  end
  local wrapped = wrap(value, ttl, time)
  if call('HSETNX', key, name, wrapped) == 0 then
    local stored = live(call('HGET', key, name), time)
    if stored then
      return stored
    end
    call('HSET', key, name, wrapped)
  end
  age(key, ttl)
  return nil
end

-- A barrier is a hash: s size, m how many may fail, f whether it decides early, x how many failed; and a field for each
-- slot, with its place in the order of arrival.
local function barrier_key(run, name)
  return NS .. 'b:' .. run .. ':' .. name
end

local function open(run, name, size, max_failed, fast)
  local key = barrier_key(run, name)
  if call('EXISTS', key) == 0 then
    call('HSET', key, 's', text(size), 'm', text(max_failed), 'f', fast and '1' or '0', 'x', '0')
    mark(run, '\1' .. name, -1)
  end
end

local barriers = {} -- those that this script has read: members of a group arrive many at a time

local function barrier(key)
  local known = barriers[key]
  if not known then
    local state = call('HMGET', key, 's', 'm', 'f', 'x')
    if not state[1] then
      return nil
    end
    known = { size = tonumber(state[1]), max_failed = tonumber(state[2]), fast = state[3] == '1', failed = tonumber(state[4]) }
    known.arrived = call('HLEN', key) - 4
    barriers[key] = known
  end
  return known
end

-- Answer the barrier; nil when there is none. Level-triggered: whether the slot had arrived before makes no difference
-- (C15).
local function arrive(run, name, slot, failed)
  local key = barrier_key(run, name)
  local level = barrier(key)
  if level and call('HSETNX', key, text(slot), text(level.arrived)) == 1 then
    level.arrived = level.arrived + 1
    if failed > 0 then
      level.failed = call('HINCRBY', key, 'x', text(failed))
    end
  end
  return level
end

-- The log of cancelled scopes: a zset by number, whose members begin with the time.
local FLAGS_KEPT = 3600000

local function trim_flags(time)
  local oldest = call('ZRANGE', NS .. 'flags', 0, 63)
  for _, member in ipairs(oldest) do
    if tonumber(string.match(member, '^%d+:(%d+):')) >= time - FLAGS_KEPT then
      return
    end
    call('ZREM', NS .. 'flags', member)
  end
end

local function flag(scope, time)
  local number = text(call('INCR', NS .. 'flagged'))
  call('ZADD', NS .. 'flags', number, number .. ':' .. text(time) .. ':' .. scope)
  trim_flags(time)
end
