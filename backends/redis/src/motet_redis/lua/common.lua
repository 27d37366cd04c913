-- What every script begins with. KEYS[1] is the namespace in braces: the tag that keeps all keys of an app in one slot.
local NS = KEYS[1] .. ':'
local call = redis.call
local MANY = 4000 -- values for one unpack; Lua's stack takes about 8,000

local function now()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Numbers become text without an exponent, whatever their size.
local function text(number)
  return string.format('%.0f', number)
end

local function each_slice(values, act)
  for first = 1, #values, MANY do
    act(unpack(values, first, math.min(first + MANY - 1, #values)))
  end
end
