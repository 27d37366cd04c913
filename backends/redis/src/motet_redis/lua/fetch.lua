-- Take messages. ARGV: lease in ms, how many, name of this fetch, whether from paused queues too, whether it was sent
-- before, lanes from the first to be served. Answers {ms until time alone may make something ready, lane, {id, body, ...}, lane, ...}.
local time = now()
local lease, want, fetch, even_paused, again = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1', ARGV[5] == '1'
local FIRST = 6 -- of the lanes
turn(time)

-- What this fetch took before its answer was lost, it takes again.
local function taken_before()
  local by_lane = {}
  for _, receipt in ipairs(call('ZRANGE', NS .. 'held', 0, -1)) do
    if string.sub(receipt, 1, #fetch + 1) == fetch .. '#' then
      local id = id_of(receipt)
      local value = call('HGET', NS .. 'm', id)
      local lane = lane_of(value)
      by_lane[lane] = by_lane[lane] or {}
      table.insert(by_lane[lane], id)
      table.insert(by_lane[lane], value)
      want = want - 1
    end
  end
  return by_lane
end
local before = again and taken_before() or {}

local paused = {}
if not even_paused then
  for _, queue in ipairs(call('SMEMBERS', NS .. 'paused')) do
    paused[queue] = true
  end
end

local deadline, answer = text(time + lease), { -1 }
for index = FIRST, #ARGV do
  local lane = ARGV[index]
  local key = NS .. 'q:' .. lane
  if before[lane] then
    answer[#answer + 1] = index - FIRST
    answer[#answer + 1] = before[lane]
  end
  if want > 0 and not (next(paused) and paused[queue_of(lane)]) then
    local ids = call('LPOP', key, text(want))
    if ids and #ids > 0 then
      local values, taken, marks = call('HMGET', NS .. 'm', unpack(ids)), {}, {}
      for place, id in ipairs(ids) do
        if values[place] then
          taken[#taken + 1] = id
          taken[#taken + 1] = values[place]
          marks[#marks + 1] = deadline
          marks[#marks + 1] = fetch .. '#' .. id
        end
      end
      if #marks > 0 then
        each_slice(marks, function(...)
          call('ZADD', NS .. 'held', ...)
        end)
        answer[#answer + 1] = index - FIRST
        answer[#answer + 1] = taken
        want = want - #marks / 2
      end
      if call('EXISTS', key) == 1 then
        wake(lane)
      end
    end
  end
end

-- Whoever finds nothing sleeps until then.
local next_due = call('ZRANGE', NS .. 'parked', 0, 0, 'WITHSCORES')[2]
local next_loss = call('ZRANGE', NS .. 'held', 0, 0, 'WITHSCORES')[2]
for _, moment in ipairs({ next_due or false, next_loss or false }) do
  if moment then
    local left = math.max(0, tonumber(moment) - time)
    if answer[1] < 0 or left < answer[1] then
      answer[1] = left
    end
  end
end
return answer
