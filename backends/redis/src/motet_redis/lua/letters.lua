-- Dead letters. `x` has them by id. `x:place` has the place of each id: a text that rises with the time of death and, in
-- one moment, with the burial; `x:list` all places, each with its id behind it. Of letters that are gone the last 10,000
-- places are remembered, so that whoever lists goes on after one (X3); `x:gone` tells which of them went first.
local GONE = 10000
local PLACE = 33 -- digits of a place: 18 of the time, 15 of a number that rises

local function rise()
  return string.format('%015.0f', call('INCR', NS .. 'x:last'))
end

local function bury(id, at, blob)
  if call('HEXISTS', NS .. 'x', id) == 1 then
    return
  end
  local place = at .. rise()
  call('ZADD', NS .. 'x:list', 0, place .. id)
  call('HSET', NS .. 'x:place', id, place)
  call('ZREM', NS .. 'x:gone', id)
  call('HSET', NS .. 'x', id, blob)
end

-- Forget a letter, but not yet where it was; whether there was one.
local function exhume(id)
  if call('HEXISTS', NS .. 'x', id) == 0 then
    return false
  end
  call('ZREM', NS .. 'x:list', (call('HGET', NS .. 'x:place', id) or '') .. id)
  call('ZADD', NS .. 'x:gone', rise(), id)
  if call('ZCARD', NS .. 'x:gone') > GONE then
    call('HDEL', NS .. 'x:place', call('ZPOPMIN', NS .. 'x:gone')[1])
  end
  call('HDEL', NS .. 'x', id)
  return true
end
