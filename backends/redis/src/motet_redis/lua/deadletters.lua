-- Dead letters, as people ask for them. ARGV: what, its arguments in msgpack, and a token of the call.
local MUCH = 1048576 -- bytes of letters in one answer, and one letter more
local ops = {}

function ops.bury(letters)
  for _, letter in ipairs(letters) do
    bury(letter[1], letter[2], letter[3])
  end
end

-- Letters by id, as many as one answer takes; the caller asks for the others again.
function ops.get(ids)
  local found, size = {}, 0
  for index, id in ipairs(ids) do
    found[index] = call('HGET', NS .. 'x', id)
    size = size + #(found[index] or '')
    if size > MUCH then
      break
    end
  end
  return found
end

-- Letters after a place, or after an id; `low` is the first time that is listed, `high` the first that is not. Answers
-- {whether there may be more, place and id, letter, ...}.
function ops.slice(newest, id, place, low, high, count)
  if place == '' and id ~= '' then
    place = call('HGET', NS .. 'x:place', id) or ''
  end
  local first, last = low == '' and '-' or '[' .. low, high == '' and '+' or '(' .. high
  local members
  if newest then
    last = place ~= '' and (high == '' or place < high) and '(' .. place or last
    members = call('ZREVRANGEBYLEX', NS .. 'x:list', last, first, 'LIMIT', 0, count)
  else
    first = place ~= '' and place > low and '(' .. place .. '\255' or first
    members = call('ZRANGEBYLEX', NS .. 'x:list', first, last, 'LIMIT', 0, count)
  end
  local found, size = { #members == count and 1 or 0 }, 0
  for _, member in ipairs(members) do
    local letter = call('HGET', NS .. 'x', string.sub(member, PLACE + 1))
    found[#found + 1] = member
    found[#found + 1] = letter
    size = size + #(letter or '')
    if size > MUCH then
      found[1] = 1
      break
    end
  end
  return found
end

-- Removing comes last: what breaks a script off before leaves the letter.
function ops.replay(replays)
  local done, sent = {}, {}
  for index, replay in ipairs(replays) do
    local id = replay[1]
    local there = not sent[id] and call('HEXISTS', NS .. 'x', id) == 1
    if there then
      publish({ replay[2] })
      sent[id] = true
    end
    done[index] = there and 1 or 0
  end
  flush()
  for id in pairs(sent) do
    exhume(id)
  end
  return done
end

function ops.remove(ids)
  local done = {}
  for index, id in ipairs(ids) do
    done[index] = exhume(id) and 1 or 0
  end
  return done
end

local function act()
  return ops[ARGV[1]](unpack(cmsgpack.unpack(ARGV[2])))
end

return ARGV[3] and once(ARGV[3], act) or act()
