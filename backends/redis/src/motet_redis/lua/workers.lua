-- The roll of workers: `roll` has what each said last, `roll:until` when each is forgotten. ARGV: what, id, about, ttl.
local time = now()
local op, id = ARGV[1], ARGV[2]
if op == 'beat' then
  call('HSET', NS .. 'roll', id, ARGV[3])
  call('ZADD', NS .. 'roll:until', text(time + tonumber(ARGV[4])), id)
elseif op == 'leave' then
  call('HDEL', NS .. 'roll', id)
  call('ZREM', NS .. 'roll:until', id)
end
local silent = call('ZRANGEBYSCORE', NS .. 'roll:until', '-inf', text(time), 'LIMIT', 0, 1000)
if #silent > 0 then
  call('HDEL', NS .. 'roll', unpack(silent))
  call('ZREM', NS .. 'roll:until', unpack(silent))
end
return op == 'present' and call('HGETALL', NS .. 'roll') or nil
