-- The stream of events. ARGV: what, and its arguments.
local key = NS .. 'events'
if ARGV[1] == 'emit' then
  for _, event in ipairs(cmsgpack.unpack(ARGV[2])) do
    call('XADD', key, 'MAXLEN', '~', 1000, '*', 'e', event)
  end
elseif ARGV[1] == 'last' then
  local last = call('XREVRANGE', key, '+', '-', 'COUNT', 1)
  return last[1] and last[1][1] or '0-0'
elseif ARGV[1] == 'read' then
  return call('XRANGE', key, '(' .. ARGV[2], '+', 'COUNT', ARGV[3])
end
