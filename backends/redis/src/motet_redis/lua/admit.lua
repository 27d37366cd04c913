-- Publish parcels subject to their keys. ARGV: {key, rule, parcel, window in ms, name of the outcome, its bytes} for each.
local time = now()
turn(time)

-- Take a message that nobody holds out of the broker; of those that are queued only with `queued`.
local function withdraw(id, queued)
  local value = call('HGET', NS .. 'm', id)
  if not value then
    return false
  end
  local lane = lane_of(value)
  if call('ZSCORE', NS .. 'parked', id) then
    unpark(id, lane)
  elseif not queued or call('LREM', NS .. 'q:' .. lane, -1, id) == 0 then
    return false
  end
  call('HDEL', NS .. 'm', id)
  return true
end

local function run_of(id)
  return string.match(id, '^[^:]*')
end

local answers = {}
for index, admission in ipairs(cmsgpack.unpack(ARGV[1])) do
  local key, rule, parcel, window, outcome, replaced = unpack(admission)
  local id, key = parcel[1], NS .. 'u:' .. key
  local kept = call('GET', key)
  if read(run_of(id), outcome, time) then
    -- It lost its place, or has been decided: this is a repetition, which must not take another's place.
    answers[index] = kept or id
  elseif kept and (kept == id or rule == 'first') then
    answers[index] = kept
  else
    local lost = kept and withdraw(kept, rule == 'keep_last')
    publish({ parcel })
    flush()
    call('SET', key, id, 'PX', text(math.max(1, window)))
    if lost then
      put_once(run_of(kept), outcome, replaced, -1, true, time)
    end
    answers[index] = id
  end
end
return answers
