-- Records, asked for one by one. ARGV: what, and its arguments in msgpack.
local time = now()
local ops = {}

function ops.get(keys)
  local found = {}
  for index = 1, #keys, 2 do
    found[#found + 1] = read(keys[index], keys[index + 1], time) or false
  end
  return found
end

function ops.put_once(records)
  local stored = {}
  for index, record in ipairs(records) do
    stored[index] = put_once(record[2], record[3], record[4], record[5], record[6], time) or false
  end
  return stored
end

function ops.put(records)
  for _, record in ipairs(records) do
    write(record[2], record[3], record[4], record[5], time)
  end
end

function ops.drop(keys)
  for index = 1, #keys, 2 do
    erase(keys[index], keys[index + 1])
  end
end

-- A counter has its end beside it. The hash itself stays as long as any of its counters.
local function add(run, name, amount, ttl)
  local key, ending = NS .. 'c:' .. run, '\0' .. name
  local over = call('HGET', key, ending)
  if over and tonumber(over) <= time then
    call('HDEL', key, name, ending)
  end
  local sum = call('HINCRBY', key, name, amount)
  if ttl < 0 then
    call('HDEL', key, ending)
    call('PERSIST', key)
  else
    call('HSET', key, ending, text(time + ttl))
    if call('HLEN', key) == 2 then
      call('PEXPIRE', key, text(ttl))
    elseif call('PTTL', key) >= 0 and call('PTTL', key) < ttl then
      call('PEXPIRE', key, text(ttl))
    end
  end
  return sum
end

function ops.add(token, ...)
  local given = { ... }
  return once(token, function()
    return add(unpack(given))
  end)
end

function ops.open(barriers)
  for _, op in ipairs(barriers) do
    open(op[2], op[3], op[4], op[5], op[6])
  end
end

function ops.arrive(run, name, slot, failed)
  local level = arrive(run, name, slot, failed)
  return level and { level.size, level.arrived, level.failed, level.max_failed, level.fast and 1 or 0 } or false
end

function ops.barriers(keys)
  local found = {}
  for index = 1, #keys, 2 do
    found[#found + 1] = call('HGETALL', barrier_key(keys[index], keys[index + 1]))
  end
  return found
end

function ops.flag(scopes)
  for _, scope in ipairs(scopes) do
    flag(scope, time)
  end
end

function ops.flags(since)
  trim_flags(time)
  local last = call('GET', NS .. 'flagged') or '0'
  return { last, call('ZRANGEBYSCORE', NS .. 'flags', '(' .. since, '+inf') }
end

local function begins(name, prefix)
  return string.sub(name, 1, #prefix) == prefix
end

function ops.names(run, prefix)
  local found, parts = {}, { NS .. 's:' .. run }
  for _, field in ipairs(call('HKEYS', parts[1])) do
    if string.byte(field) == 0 then
      parts[#parts + 1] = NS .. 's:' .. run .. ':' .. string.sub(field, 2)
    end
  end
  for _, key in ipairs(parts) do
    for _, name in ipairs(call('HKEYS', key)) do
      local first = string.byte(name)
      if first ~= 0 and first ~= 1 and begins(name, prefix) and live(call('HGET', key, name), time) then
        found[#found + 1] = name
      end
    end
  end
  return found
end

-- Remove records, then counters and barriers, at most so many of each in one call.
function ops.sweep(run, limit)
  local main = NS .. 's:' .. run
  local fields = call('HSCAN', main, 0, 'COUNT', text(math.max(limit, 10)))[2]
  local barriers, gone = {}, 0
  for index = 1, #fields, 2 do
    local field = fields[index]
    local first = string.byte(field)
    if first == 1 then
      barriers[#barriers + 1] = field
    elseif gone >= limit then
      return 0
    elseif first == 0 then
      local part = main .. ':' .. string.sub(field, 2)
      local names = call('HKEYS', part)
      if gone + #names > limit then
        call('HDEL', part, unpack(names, 1, limit - gone))
        return 0
      end
      call('UNLINK', part)
      call('HDEL', main, field)
      gone = gone + #names
    else
      call('HDEL', main, field)
      gone = gone + 1
    end
  end
  call('ZREM', NS .. 'runs', run)
  if gone == 0 or call('HLEN', main) == #barriers then
    for index = 1, math.min(#barriers, limit) do
      call('UNLINK', barrier_key(run, string.sub(barriers[index], 2)))
      call('HDEL', main, barriers[index])
    end
  end
  if call('EXISTS', main) == 1 then
    return 0
  end
  call('UNLINK', NS .. 'c:' .. run)
  return 1
end

-- Runs after one, the newest first; those whose record has gone by itself are passed over, and forgotten.
function ops.runs(before, limit)
  local rank = before ~= '' and call('ZREVRANK', NS .. 'runs', before)
  local first, found = rank and rank + 1 or 0, {}
  while #found < limit * 2 do
    local names = call('ZREVRANGE', NS .. 'runs', first, first + 99)
    if #names == 0 then
      break
    end
    for _, run in ipairs(names) do
      local value = read(run, 'r', time)
      if not value then
        call('ZREM', NS .. 'runs', run)
      elseif #found < limit * 2 then
        found[#found + 1] = run
        found[#found + 1] = value
        first = first + 1
      end
    end
  end
  return found
end

return ops[ARGV[1]](unpack(cmsgpack.unpack(ARGV[2])))
