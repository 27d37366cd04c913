-- Messages. The body of each is in the hash `m` under its id, and its id is in exactly one of these: a lane's list `q:`,
-- the zset `parked` (score: when it is due), or the zset `held` (score: when its lease ends). A member of `held` is a
-- receipt: the fetch that took the message, `#`, and its id.
--
-- A body begins with a head: whether it is suspect, how often it was lost, how often it was struck, the length of its
-- lane's name, and that name.

local pushed, touched = {}, {}

local function lane_of(value)
  return string.sub(value, 5, 4 + string.byte(value, 4))
end

local function queue_of(lane)
  return string.match(lane, '^(.*):[^:]*:[^:]*$')
end

local function id_of(receipt)
  return string.sub(receipt, string.find(receipt, '#', 1, true) + 1)
end

-- One token in `k:` tells one of those who wait for a lane that it may have something.
local function wake(lane)
  local token = NS .. 'k:' .. lane
  if call('EXISTS', token) == 0 then
    call('RPUSH', token, '1')
  end
end

-- What is made ready goes to its list at the end of the script, many at a time.
local function push(lane, id)
  local ids = pushed[lane]
  if not ids then
    ids = {}
    pushed[lane] = ids
  end
  ids[#ids + 1] = id
end

local function push_front(lane, id)
  call('LPUSH', NS .. 'q:' .. lane, id)
  touched[lane] = true
end

local function flush()
  for lane, ids in pairs(pushed) do
    each_slice(ids, function(...)
      call('RPUSH', NS .. 'q:' .. lane, ...)
    end)
    touched[lane] = true
  end
  for lane in pairs(touched) do
    call('SADD', NS .. 'lanes', lane)
    wake(lane)
  end
  pushed, touched = {}, {}
end

local function park(id, lane, due)
  call('ZADD', NS .. 'parked', text(due), id)
  call('HINCRBY', NS .. 'later', queue_of(lane), 1)
  -- Who sleeps until the first due time must wake earlier now.
  if call('ZRANGE', NS .. 'parked', 0, 0)[1] == id then
    wake(lane)
  end
end

local function unpark(id, lane)
  call('ZREM', NS .. 'parked', id)
  call('HINCRBY', NS .. 'later', queue_of(lane), -1)
end

-- A parcel is {id, lane, due or -1, body}. One whose id is here changes nothing (T10).
local function publish(parcels)
  for _, parcel in ipairs(parcels) do
    local id, lane, due = parcel[1], parcel[2], parcel[3]
    if call('HSETNX', NS .. 'm', id, parcel[4]) == 1 then
      if due < 0 then
        push(lane, id)
      else
        park(id, lane, due)
      end
    end
  end
end

local function held(receipt, time)
  local deadline = call('ZSCORE', NS .. 'held', receipt)
  return deadline and tonumber(deadline) > time
end

local function forget(receipts, ids)
  if #ids > 0 then
    each_slice(receipts, function(...)
      call('ZREM', NS .. 'held', ...)
    end)
    each_slice(ids, function(...)
      call('HDEL', NS .. 'm', ...)
    end)
  end
end

-- What is due becomes ready, at most 200 at a time.
local function promote(time)
  local due = call('ZRANGEBYSCORE', NS .. 'parked', '-inf', text(time), 'LIMIT', 0, 200)
  if #due == 0 then
    return
  end
  local values = call('HMGET', NS .. 'm', unpack(due))
  for index, id in ipairs(due) do
    if values[index] then
      local lane = lane_of(values[index])
      push(lane, id)
      unpark(id, lane)
    else
      call('ZREM', NS .. 'parked', id)
    end
  end
end

-- What was held too long comes back to the front of its lane, marked; at most 100 at a time.
local function reap(time)
  local lost = call('ZRANGEBYSCORE', NS .. 'held', '-inf', text(time), 'LIMIT', 0, 100)
  for index = #lost, 1, -1 do
    local receipt = lost[index]
    local id = id_of(receipt)
    local value = call('HGET', NS .. 'm', id)
    call('ZREM', NS .. 'held', receipt)
    if value then
      local count = math.min(255, string.byte(value, 2) + 1)
      call('HSET', NS .. 'm', id, '\1' .. string.char(count) .. string.sub(value, 3))
      push_front(lane_of(value), id)
    end
  end
end

local function turn(time)
  promote(time)
  reap(time)
  flush()
end
