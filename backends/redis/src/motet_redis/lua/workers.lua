-- The roll of workers: `roll` has what each said last, `roll:over` when each is forgotten. Both go with the last of them.
-- ARGV: what, and its arguments.
local time = now()
local roll, over = NS .. 'roll', NS .. 'roll:over'
local ops = {}

function ops.beat(id, about, ttl)
  call('HSET', roll, id, about)
  call('ZADD', over, text(time + tonumber(ttl)), id)
  local silent = call('ZRANGEBYSCORE', over, '-inf', text(time), 'LIMIT', 0, 100)
  if #silent > 0 then
    call('HDEL', roll, unpack(silent))
    call('ZREM', over, unpack(silent))
  end
  local last = call('ZREVRANGE', over, 0, 0, 'WITHSCORES')[2]
  if last then
    call('PEXPIRE', roll, text(last - time + 1000))
    call('PEXPIRE', over, text(last - time + 1000))
  end
end

function ops.leave(id)
  call('HDEL', roll, id)
  call('ZREM', over, id)
end

-- A part of those who are there: {id, about, ...}.
function ops.present(first, count)
  local ids, found = call('ZRANGEBYSCORE', over, '(' .. text(time), '+inf', 'LIMIT', first, count), {}
  for _, id in ipairs(ids) do
    found[#found + 1] = id
    found[#found + 1] = call('HGET', roll, id)
  end
  return found
end

return ops[ARGV[1]](unpack(ARGV, 2))
