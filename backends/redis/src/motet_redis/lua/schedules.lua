-- Schedules. `t` has each by name, packed: due in microseconds or '', version, whether paused, spec. `t:due` has those that
-- shall fire, by time; `t:names` all, by name. ARGV: what, its arguments in msgpack, and a token of the call.
local ops = {}

local function read(name)
  local packed = call('HGET', NS .. 't', name)
  if packed then
    return cmsgpack.unpack(packed)
  end
end

local function write(name, due, version, paused, spec)
  call('HSET', NS .. 't', name, cmsgpack.pack({ due, version, paused, spec }))
  call('ZADD', NS .. 't:names', 0, name)
  if due ~= '' and not paused then
    call('ZADD', NS .. 't:due', due, name)
  else
    call('ZREM', NS .. 't:due', name)
  end
end

local function answer(name)
  local stored = read(name)
  return stored and { name, stored[1], stored[2], stored[3] and 1 or 0, stored[4] } or false
end

local function answers(names)
  local found = {}
  for index, name in ipairs(names) do
    found[index] = answer(name)
  end
  return found
end

function ops.save(name, due, version, paused, spec)
  local stored = read(name)
  if (stored and stored[2] or 0) == version then
    write(name, due, version + 1, paused, spec)
  end
  return answer(name)
end

function ops.fire(name, due, following, parcels)
  local stored = read(name)
  if not stored or stored[3] or stored[1] ~= due then
    return 0
  end
  publish(parcels)
  flush()
  write(name, following, stored[2] + 1, false, stored[4])
  return 1
end

function ops.get(names)
  return answers(names)
end

function ops.due(till, first, limit)
  return answers(call('ZRANGEBYSCORE', NS .. 't:due', '-inf', till, 'LIMIT', first, limit))
end

function ops.page(after, limit)
  return answers(call('ZRANGEBYLEX', NS .. 't:names', after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, limit))
end

function ops.remove(name)
  call('ZREM', NS .. 't:due', name)
  call('ZREM', NS .. 't:names', name)
  return call('HDEL', NS .. 't', name)
end

local function act()
  return ops[ARGV[1]](unpack(cmsgpack.unpack(ARGV[2])))
end

return ARGV[3] and once(ARGV[3], act) or act()
