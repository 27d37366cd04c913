-- Dead letters, as people ask for them. ARGV: what, and its arguments in msgpack.
local ops = {}

function ops.bury(letters)
  for _, letter in ipairs(letters) do
    bury(letter[1], letter[2], letter[3])
  end
end

function ops.get(ids)
  local found = {}
  for index, id in ipairs(ids) do
    found[index] = call('HGET', NS .. 'x', id)
  end
  return found
end

-- Letters from a place on, the newest or the oldest first; times in microseconds, `before` exclusive. Of those that died
-- at one moment the place tells which come after it.
function ops.slice(newest, after, since, before, count)
  local low, high, skip = since, '(' .. before, nil
  local place = after ~= '' and call('HGET', NS .. 'x:at', after)
  if place then
    local at, member = string.match(place, '^(%d+):(.*)$')
    skip = member
    if newest then
      high = tonumber(at) < tonumber(before) and at or high
    else
      low = tonumber(at) > tonumber(since) and at or low
    end
  end
  local found, first = {}, 0
  while #found < count * 2 do
    local members
    if newest then
      members = call('ZREVRANGEBYSCORE', NS .. 'letters', high, low, 'LIMIT', first, count)
    else
      members = call('ZRANGEBYSCORE', NS .. 'letters', low, high, 'LIMIT', first, count)
    end
    for _, member in ipairs(members) do
      local passed = skip and string.match(place, '^%d+') == call('ZSCORE', NS .. 'letters', member)
      if not (passed and ((newest and member >= skip) or (not newest and member <= skip))) and #found < count * 2 then
        local id = string.sub(member, 17)
        found[#found + 1] = id
        found[#found + 1] = call('HGET', NS .. 'x', id)
      end
    end
    if #members < count then
      break
    end
    first = first + count
  end
  return found
end

function ops.replay(replays)
  local done = {}
  for index, replay in ipairs(replays) do
    done[index] = 0
    if exhume(replay[1]) then
      publish({ replay[2] })
      done[index] = 1
    end
  end
  flush()
  return done
end

function ops.remove(ids)
  local done = {}
  for index, id in ipairs(ids) do
    done[index] = exhume(id) and 1 or 0
  end
  return done
end

return ops[ARGV[1]](unpack(cmsgpack.unpack(ARGV[2])))
