-- Locks, as workers ask for them. ARGV: what, its arguments in msgpack, and a token of the call.
local time = micros()
local ops = {}

local function rate_key(name)
  return NS .. 'lr:' .. name
end

-- The kind and the fence by which an owner holds a lock; nil when its lease is over, or somebody took the lock away.
local function share(name, owner)
  local ending = call('ZSCORE', holders_key(name), owner)
  if ending and tonumber(ending) > time then
    return string.match(call('HGET', owner_key(owner), '+' .. name) or '', '^(%a+):(%d+)$')
  end
end

-- All uses in the window are there, so the one that must have left it is found by its rank.
local function busy_rate(name, limit, window, owner)
  if call('HEXISTS', owner_key(owner), '-' .. name) == 1 then
    return nil
  end
  local use = call('ZREVRANGE', rate_key(name), limit - 1, limit - 1, 'WITHSCORES')[2]
  local left = use and tonumber(use) + window - time
  return left and left > 0 and left or nil
end

-- For how long a lock cannot be had, if nobody lets go; nil when it can. Holders of another kind than was asked for are in
-- the way: whoever changed the kind waits until they are gone.
local function busy(name, kind, limit, owner)
  local key = holders_key(name)
  call('ZREMRANGEBYSCORE', key, '-inf', text(time))
  local last, mine = call('ZREVRANGE', key, 0, 1), call('ZREVRANK', key, owner)
  local other = last[1] ~= owner and last[1] or last[2]
  if not other then
    return nil
  end
  local theirs, place = share(name, other), 0
  if kind == theirs and kind == 'read' then
    return nil
  elseif kind == theirs and kind == 'semaphore' then
    if mine or call('ZCARD', key) < limit then
      return nil
    end
    place = limit - 1
  end
  if mine and mine <= place then
    place = place + 1
  end
  return tonumber(call('ZREVRANGE', key, place, place, 'WITHSCORES')[2]) - time
end

-- Whether an owner would get what it has not: then its fence must be above those of all before it (L2).
local function fresh(name, kind, owner)
  if kind == 'rate' then
    return call('HEXISTS', owner_key(owner), '-' .. name) == 0
  end
  local mine = share(name, owner)
  return mine ~= kind and mine ~= 'write'
end

-- Above all before it, and not below the clock: so it rises even where a server that took over has lost the last ones.
local function next_fence()
  local fence = math.max(tonumber(call('GET', NS .. 'fence') or '0') + 1, time)
  call('SET', NS .. 'fence', text(fence))
  return fence
end

-- A writer that asks as a reader too goes on as what it is.
local function hold(name, kind, owner, fence, ending)
  kind = share(name, owner) == 'write' and 'write' or kind
  call('HSET', owner_key(owner), '+' .. name, kind .. ':' .. text(fence))
  call('ZADD', holders_key(name), text(ending), owner)
  tidy(name, time)
end

-- A use stays for its window, whoever lets go; at most 100 that have left it are forgotten with each that comes.
local function spend(name, window, owner, fence)
  if call('HSETNX', owner_key(owner), '-' .. name, '1') == 1 then
    local key = rate_key(name)
    local old = call('ZRANGEBYSCORE', key, '-inf', text(time - window), 'LIMIT', 0, 100)
    if #old > 0 then
      call('ZREM', key, unpack(old))
    end
    call('ZADD', key, text(time), text(fence))
    if call('PTTL', key) * 1000 < window then
      expire(key, time + window, time)
    end
  end
end

-- Forget locks that nobody asked for since they were free; the list itself goes with the last of them.
local function sweep()
  for _, name in ipairs(call('ZRANGEBYSCORE', NS .. 'locks', '-inf', text(time), 'LIMIT', 0, 10)) do
    tidy(name, time)
  end
  local last = call('ZREVRANGE', NS .. 'locks', 0, 0, 'WITHSCORES')[2]
  if last then
    expire(NS .. 'locks', tonumber(last), time)
  end
end

-- A lock is {name, kind, limit, window}. Answers {1, fence}, or {0, name, after}.
function ops.acquire(locks, owner, lease)
  local key, ending = owner_key(owner), time + lease
  local over = tonumber(call('HGET', key, 'over') or '0')
  if over <= time then
    call('DEL', key)
  end
  local worst, which
  for _, lock in ipairs(locks) do
    local name, kind, limit, window = unpack(lock)
    local left
    if kind == 'rate' then
      left = busy_rate(name, limit, window, owner)
    else
      left = busy(name, kind, limit, owner)
    end
    if left and (not worst or left > worst) then
      worst, which = left, name
    end
  end
  if worst then
    return { 0, which, worst }
  end
  local fence = tonumber(call('HGET', key, 'fence') or '0')
  local new = fence == 0
  for _, lock in ipairs(locks) do
    new = new or fresh(lock[1], lock[2], owner)
  end
  fence = new and next_fence() or fence
  call('HSET', key, 'fence', text(fence), 'over', text(math.max(over, ending)))
  expire(key, math.max(over, ending), time)
  for _, lock in ipairs(locks) do
    if lock[2] == 'rate' then
      spend(lock[1], lock[4], owner, fence)
    else
      hold(lock[1], lock[2], owner, fence, ending)
    end
  end
  sweep()
  return { 1, fence }
end

function ops.renew(owner, lease)
  local key, all = owner_key(owner), 1
  if tonumber(call('HGET', key, 'over') or '0') <= time then
    return 0
  end
  for _, name in ipairs(granted(owner)) do
    if share(name, owner) then
      call('ZADD', holders_key(name), text(time + lease), owner)
      tidy(name, time)
    else
      all = 0
    end
  end
  call('HSET', key, 'over', text(time + lease))
  expire(key, time + lease, time)
  sweep()
  return all
end

function ops.release(owner)
  let_go(owner)
end

-- A part of all locks: {cursor of the next part, {lock, owner, fence, left}, ...}.
function ops.held(prefix, cursor)
  local page = call('ZSCAN', NS .. 'locks', cursor, 'COUNT', 200)
  local found = { page[1] }
  for index = 1, #page[2], 2 do
    local name = page[2][index]
    if string.sub(name, 1, #prefix) == prefix then
      local holders = call('ZRANGEBYSCORE', holders_key(name), '(' .. text(time), '+inf', 'WITHSCORES')
      for place = 1, #holders, 2 do
        local _, fence = share(name, holders[place])
        found[#found + 1] = { name, holders[place], tonumber(fence or '0'), tonumber(holders[place + 1]) - time }
      end
    end
  end
  return found
end

function ops.free(name)
  local had = call('ZCOUNT', holders_key(name), '(' .. text(time), '+inf')
  call('DEL', holders_key(name))
  call('ZREM', NS .. 'locks', name)
  return had > 0 and 1 or 0
end

local function act()
  return ops[ARGV[1]](unpack(cmsgpack.unpack(ARGV[2])))
end

return ARGV[3] and once(ARGV[3], act) or act()
