-- What a call has answered is kept for a minute: a client whose connection broke before it read the answer sends the call
-- again with the same token, is answered the same, and nothing is done twice.
local function once(token, act)
  local key = NS .. 'once:' .. token
  local kept = call('GET', key)
  if kept then
    return cmsgpack.unpack(kept)
  end
  local answer = act()
  call('SET', key, cmsgpack.pack(answer), 'EX', 60)
  return answer
end
