-- What else is done with messages. ARGV: what, and its arguments.
local time = now()
local ops = {}

function ops.extend(lease, ...)
  local kept = {}
  for index, receipt in ipairs({ ... }) do
    local still = held(receipt, time)
    if still then
      call('ZADD', NS .. 'held', text(time + tonumber(lease)), receipt)
    end
    kept[index] = still and 1 or 0
  end
  return kept
end

function ops.ack(...)
  local receipts, ids = {}, {}
  for _, receipt in ipairs({ ... }) do
    if held(receipt, time) then
      receipts[#receipts + 1] = receipt
      ids[#ids + 1] = id_of(receipt)
    end
  end
  forget(receipts, ids)
end

-- The last one first, so that the front of the lane is in the old order again.
local function give_back(receipts, delay)
  for index = #receipts, 1, -1 do
    local receipt = receipts[index]
    if held(receipt, time) then
      local id = id_of(receipt)
      local lane = lane_of(call('HGET', NS .. 'm', id))
      call('ZREM', NS .. 'held', receipt)
      if delay > 0 then
        park(id, lane, time + delay)
      else
        push_front(lane, id)
      end
    end
  end
  flush()
end

function ops.release(delay, ...)
  give_back({ ... }, tonumber(delay))
end

-- Give back what a fetch took whose reply was lost.
function ops.recover(fetch)
  local mine = {}
  for _, receipt in ipairs(call('ZRANGE', NS .. 'held', 0, -1)) do
    if string.sub(receipt, 1, #fetch + 1) == fetch .. '#' then
      mine[#mine + 1] = receipt
    end
  end
  give_back(mine, 0)
  return #mine
end

local function strike(receipt)
  if not held(receipt, time) then
    return 0
  end
  local id = id_of(receipt)
  local value = call('HGET', NS .. 'm', id)
  local count = math.min(255, string.byte(value, 3) + 1)
  call('HSET', NS .. 'm', id, string.sub(value, 1, 2) .. string.char(count) .. string.sub(value, 4))
  return count
end

function ops.strike(token, receipt)
  return once(token, function()
    return strike(receipt)
  end)
end

-- Where a message is: 1 queued, 2 parked, 0 not here; one that is held is told apart by `receipts`.
function ops.where(...)
  local found = {}
  for index, id in ipairs({ ... }) do
    if call('ZSCORE', NS .. 'parked', id) then
      found[index] = 2
    else
      found[index] = call('HEXISTS', NS .. 'm', id)
    end
  end
  return found
end

-- The ids of all messages, a slice at a time: {cursor, {id, ...}}.
function ops.ids(cursor)
  local slice = call('HSCAN', NS .. 'm', cursor, 'COUNT', '500')
  local ids = {}
  for index = 1, #slice[2], 2 do
    ids[#ids + 1] = slice[2][index]
  end
  return { slice[1], ids }
end

-- Receipts from a place on, and the lanes of their messages.
function ops.receipts(first, count)
  turn(time)
  local receipts, lanes = call('ZRANGE', NS .. 'held', first, first + count - 1), {}
  for index, receipt in ipairs(receipts) do
    local value = call('HGET', NS .. 'm', id_of(receipt))
    lanes[index] = value and lane_of(value) or ''
  end
  return { receipts, lanes }
end

-- {lane, length, ...}, {queue, parked, ...}, {paused queue, ...}
function ops.count()
  turn(time)
  local ready = {}
  for _, lane in ipairs(call('SMEMBERS', NS .. 'lanes')) do
    local length = call('LLEN', NS .. 'q:' .. lane)
    if length == 0 then
      call('SREM', NS .. 'lanes', lane)
    else
      ready[#ready + 1] = lane
      ready[#ready + 1] = length
    end
  end
  return { ready, call('HGETALL', NS .. 'later'), call('SMEMBERS', NS .. 'paused') }
end

local function wake_queue(queue)
  for _, lane in ipairs(call('SMEMBERS', NS .. 'lanes')) do
    if queue_of(lane) == queue and call('EXISTS', NS .. 'q:' .. lane) == 1 then
      wake(lane)
    end
  end
end

function ops.pause(queue)
  call('SADD', NS .. 'paused', queue)
end

function ops.resume(queue)
  call('SREM', NS .. 'paused', queue)
  wake_queue(queue)
end

-- A token that was taken by one who has no use for it.
function ops.wake(...)
  for _, lane in ipairs({ ... }) do
    if call('EXISTS', NS .. 'q:' .. lane) == 1 then
      wake(lane)
    end
  end
end

local function move(source, target, limit)
  turn(time)
  local lanes, left = {}, tonumber(limit)
  for _, lane in ipairs(call('SMEMBERS', NS .. 'lanes')) do
    if queue_of(lane) == source then
      lanes[#lanes + 1] = lane
    end
  end
  table.sort(lanes)
  for _, lane in ipairs(lanes) do
    local ids = left > 0 and call('LPOP', NS .. 'q:' .. lane, text(left)) or {}
    local other = target .. string.sub(lane, #source + 1)
    for _, id in ipairs(ids) do
      local value = call('HGET', NS .. 'm', id)
      local moved = string.sub(value, 1, 3) .. string.char(#other) .. other .. string.sub(value, 5 + #lane)
      call('HSET', NS .. 'm', id, moved)
      push(other, id)
    end
    left = left - #ids
  end
  flush()
  return tonumber(limit) - left
end

function ops.move(token, ...)
  local given = { ... }
  return once(token, function()
    return move(unpack(given))
  end)
end

local function cancel(ids)
  turn(time)
  local gone = {}
  for index, id in ipairs(ids) do
    gone[index] = 0
    if call('ZSCORE', NS .. 'parked', id) then
      unpark(id, lane_of(call('HGET', NS .. 'm', id)))
      call('HDEL', NS .. 'm', id)
      gone[index] = 1
    end
  end
  return gone
end

function ops.cancel(token, ...)
  local ids = { ... }
  return once(token, function()
    return cancel(ids)
  end)
end

return ops[ARGV[1]](unpack(ARGV, 2))
