-- Who waits for a run. ARGV: what, client, run. `waiters` says that anybody waits for anything.
local key = NS .. 'w:' .. ARGV[3]
if ARGV[1] == 'wait' then
  call('SADD', key, ARGV[2])
  call('PEXPIRE', key, 60000)
  call('SET', NS .. 'waiters', '1', 'PX', 60000)
else
  call('SREM', key, ARGV[2])
end
