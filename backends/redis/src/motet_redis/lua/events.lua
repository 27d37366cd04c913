-- The stream of events. ARGV: what, its arguments, and a token of the call.
local stream = NS .. 'events'
local ops = {}

function ops.emit(events)
  for _, event in ipairs(cmsgpack.unpack(events)) do
    call('XADD', stream, 'MAXLEN', '~', 1000, '*', 'e', event)
  end
  return 0
end

function ops.last()
  local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  return last and last[1] or '0-0'
end

function ops.read(cursor, limit)
  return call('XRANGE', stream, '(' .. cursor, '+', 'COUNT', limit)
end

local function act()
  return ops[ARGV[1]](ARGV[2], ARGV[3])
end

return ARGV[1] == 'emit' and once(ARGV[3], act) or act()
