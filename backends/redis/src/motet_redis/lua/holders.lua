-- Locks. `l:<name>` has a lock's holders, by when their leases end; all of them hold it by the same kind. `lo:<owner>` has
-- what an owner was granted: its `fence`, when its lease is `over`, each lock as `+name` with kind and fence, and each rate
-- that it has spent as `-name`. `lr:<name>` has the uses of a rate, by when. `locks` has all names, by their last lease.
--
-- Times are microseconds: a window must not be too short by what was rounded off (L5).

local function micros()
  local time = call('TIME')
  return time[1] * 1000000 + time[2]
end

local function holders_key(lock)
  return NS .. 'l:' .. lock
end

local function owner_key(owner)
  return NS .. 'lo:' .. owner
end

-- A key goes by itself, a second late: what is in it says when it is over, and a key's clock may be behind ours.
local function expire(key, ending, time)
  call('PEXPIRE', key, text(math.max(0, math.ceil((ending - time) / 1000)) + 1000))
end

-- Forget holders whose lease is over, and keep what is left of the lock for as long as its last lease.
local function tidy(lock, time)
  local key = holders_key(lock)
  call('ZREMRANGEBYSCORE', key, '-inf', text(time))
  local last = call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]
  if last then
    expire(key, tonumber(last), time)
    call('ZADD', NS .. 'locks', last, lock)
  else
    call('ZREM', NS .. 'locks', lock)
  end
end

-- The names of the locks that were granted to an owner.
local function granted(owner)
  local locks = {}
  for _, field in ipairs(call('HKEYS', owner_key(owner))) do
    if string.sub(field, 1, 1) == '+' then
      locks[#locks + 1] = string.sub(field, 2)
    end
  end
  return locks
end

-- Let go of all that an owner holds. What it has spent stays spent.
local function let_go(owner)
  local time = micros()
  for _, lock in ipairs(granted(owner)) do
    if call('ZREM', holders_key(lock), owner) == 1 then
      tidy(lock, time)
    end
  end
  call('DEL', owner_key(owner))
end
