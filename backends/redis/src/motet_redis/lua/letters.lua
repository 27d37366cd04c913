-- Dead letters. `x` has them by id, `letters` their places: by time in microseconds, and of one time by burial, because
-- a member begins with a number that rises. `x:at` has the member of each id; of those that are gone, at most 10,000, so
-- that whoever lists from there on finds the place again (X3).
local GONE = 10000

local function bury(id, at, blob)
  if call('HSETNX', NS .. 'x', id, blob) == 0 then
    return
  end
  local member = string.format('%015.0f', call('INCR', NS .. 'buried')) .. ':' .. id
  call('ZADD', NS .. 'letters', text(at), member)
  call('HSET', NS .. 'x:at', id, text(at) .. ':' .. member)
  call('LREM', NS .. 'x:gone', 1, id)
end

local function exhume(id)
  if call('HDEL', NS .. 'x', id) == 0 then
    return false
  end
  local member = string.match(call('HGET', NS .. 'x:at', id), '^%d+:(.*)$')
  call('ZREM', NS .. 'letters', member)
  if call('RPUSH', NS .. 'x:gone', id) > GONE then
    call('HDEL', NS .. 'x:at', call('LPOP', NS .. 'x:gone'))
  end
  return true
end
