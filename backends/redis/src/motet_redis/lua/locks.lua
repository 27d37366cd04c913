-- Locks, as workers ask for them. ARGV: what, and its arguments in msgpack.
local time = now()
local ops = {}

-- For how long a lock cannot be had, if nobody lets go; nil when it can.
local function busy(lock, owner)
  local name, kind, limit, window = lock[1], lock[2], lock[3], lock[4]
  if kind == 'rate' then
    if call('HEXISTS', owner_key(owner), '-' .. name) == 1 then
      return nil
    end
    local uses = call('ZRANGEBYSCORE', NS .. 'lr:' .. name, '(' .. text(time - window), '+inf', 'WITHSCORES')
    local count = #uses / 2
    return count >= limit and tonumber(uses[#uses - 2 * (limit - 1)]) + window - time or nil
  end
  -- Holders of another kind than was asked for are in the way: whoever changed the kind waits until they are gone.
  local ends, alike = {}, true
  for _, holder in ipairs(holders(name, time)) do
    if holder[1] ~= owner and not (kind == 'read' and holder[2] == 'read') then
      ends[#ends + 1] = holder[4]
      alike = alike and holder[2] == 'semaphore'
    end
  end
  table.sort(ends)
  if kind == 'semaphore' and alike then
    return #ends >= limit and ends[#ends - limit + 1] - time or nil
  end
  return #ends > 0 and ends[#ends] - time or nil
end

-- Whether an owner would get what it has not: then its fence must be above those of all before it (L2).
local function fresh(lock, owner)
  if lock[2] == 'rate' then
    return call('HEXISTS', owner_key(owner), '-' .. lock[1]) == 0
  end
  for _, holder in ipairs(holders(lock[1], time)) do
    if holder[1] == owner then
      return holder[2] ~= lock[2] and holder[2] ~= 'write'
    end
  end
  return true
end

local function kind_held(lock, owner)
  local held = call('HGET', holder_key(lock), owner)
  return held and string.match(held, '^%a+')
end

local function hold(name, kind, owner, fence, ending)
  call('HSET', holder_key(name), owner, kind .. ':' .. text(fence) .. ':' .. text(ending))
  call('HSET', owner_key(owner), '+' .. name, '1')
  keep(name, time)
end

-- A use stays in the set for a window; its member is the owner, who spends it once. The set goes after its last window.
local function spend(lock, owner)
  local key = NS .. 'lr:' .. lock[1]
  if call('HSETNX', owner_key(owner), '-' .. lock[1], '1') == 1 then
    call('ZREMRANGEBYSCORE', key, '-inf', text(time - lock[4]))
    call('ZADD', key, text(time), owner .. ':' .. text(call('INCR', NS .. 'uses')))
    if call('PTTL', key) < lock[4] then
      call('PEXPIRE', key, text(lock[4]))
    end
  end
end

-- What an owner was granted is remembered until its lease ends.
local function remember(owner, fence, ending)
  local key = owner_key(owner)
  local last = tonumber(call('HGET', key, 'until') or '0')
  ending = math.max(ending, last)
  call('HSET', key, 'fence', text(fence), 'until', text(ending))
  call('PEXPIRE', key, text(ending - time))
end

function ops.acquire(locks, owner, lease)
  local worst, which = nil, nil
  for _, lock in ipairs(locks) do
    local left = busy(lock, owner)
    if left and (not worst or left > worst) then
      worst, which = left, lock[1]
    end
  end
  if worst then
    return { 0, which, worst }
  end
  local fence = tonumber(call('HGET', owner_key(owner), 'fence') or '0')
  local new = fence == 0
  for _, lock in ipairs(locks) do
    new = fresh(lock, owner) or new
  end
  if new then
    fence = call('INCR', NS .. 'fences')
  end
  for _, lock in ipairs(locks) do
    if lock[2] == 'rate' then
      spend(lock, owner)
    else
      hold(lock[1], kind_held(lock[1], owner) == 'write' and 'write' or lock[2], owner, fence, time + lease)
    end
  end
  remember(owner, fence, time + lease)
  return { 1, fence }
end

function ops.renew(owner, lease)
  local key = owner_key(owner)
  local fence = call('HGET', key, 'fence')
  if not fence then
    return 0
  end
  local all = 1
  for _, lock in ipairs(granted(owner)) do
    local found = false
    for _, holder in ipairs(holders(lock, time)) do
      if holder[1] == owner then
        found = true
        call('HSET', holder_key(lock), owner, holder[2] .. ':' .. text(holder[3]) .. ':' .. text(time + lease))
      end
    end
    if found then
      keep(lock, time)
    else
      all = 0
    end
  end
  call('HSET', key, 'until', text(time + lease))
  call('PEXPIRE', key, text(lease))
  return all
end

function ops.release(owner)
  let_go(owner)
end

-- {lock, owner, fence, ms left, ...} of all locks whose name begins so.
function ops.held(prefix)
  call('ZREMRANGEBYSCORE', NS .. 'locks', '-inf', text(time))
  local found = {}
  for _, lock in ipairs(call('ZRANGE', NS .. 'locks', 0, -1)) do
    if string.sub(lock, 1, #prefix) == prefix then
      for _, holder in ipairs(holders(lock, time)) do
        found[#found + 1] = { lock, holder[1], holder[3], holder[4] - time }
      end
    end
  end
  return found
end

function ops.free(lock)
  local had = #holders(lock, time) > 0
  call('DEL', holder_key(lock))
  call('ZREM', NS .. 'locks', lock)
  return had and 1 or 0
end

return ops[ARGV[1]](unpack(cmsgpack.unpack(ARGV[2])))
