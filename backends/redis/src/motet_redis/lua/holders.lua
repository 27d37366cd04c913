-- Locks. `l:<name>` has its holders by owner, as kind:fence:until; `lo:<owner>` what was granted to an owner: `fence`,
-- `until`, the locks as `+name`, and the rates it has spent as `-name`; `lr:<name>` the uses of a rate, by time.
-- `locks` has the names of all locks that are held, by the time when the last holder's lease ends.

local function holder_key(lock)
  return NS .. 'l:' .. lock
end

local function owner_key(owner)
  return NS .. 'lo:' .. owner
end

-- Holders of a lock whose lease runs: {owner, kind, fence, until} of each. Those whose lease is over are forgotten.
local function holders(lock, time)
  local fields, found = call('HGETALL', holder_key(lock)), {}
  for index = 1, #fields, 2 do
    local kind, fence, ending = string.match(fields[index + 1], '^(%a+):(%d+):(%d+)$')
    if tonumber(ending) <= time then
      call('HDEL', holder_key(lock), fields[index])
    else
      found[#found + 1] = { fields[index], kind, tonumber(fence), tonumber(ending) }
    end
  end
  return found
end

-- A lock's hash, and its place in the list of locks, last as long as its last lease.
local function keep(lock, time)
  local last = 0
  for _, holder in ipairs(holders(lock, time)) do
    last = math.max(last, holder[4])
  end
  if last == 0 then
    call('ZREM', NS .. 'locks', lock)
  else
    call('PEXPIRE', holder_key(lock), text(last - time))
    call('ZADD', NS .. 'locks', text(last), lock)
  end
end

local function granted(owner)
  local locks = {}
  for _, field in ipairs(call('HKEYS', owner_key(owner))) do
    if string.sub(field, 1, 1) == '+' then
      locks[#locks + 1] = string.sub(field, 2)
    end
  end
  return locks
end

-- Let go of all that an owner holds.
local function let_go(owner)
  local time = now()
  for _, lock in ipairs(granted(owner)) do
    call('HDEL', holder_key(lock), owner)
    keep(lock, time)
  end
  call('DEL', owner_key(owner))
end
