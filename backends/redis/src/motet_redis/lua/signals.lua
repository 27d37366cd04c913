-- Who waits for runs. ARGV: what, client, runs. `waiters` says that anybody waits for anything.
for index = 3, #ARGV do
  local key = NS .. 'w:' .. ARGV[index]
  if ARGV[1] == 'wait' then
    call('SADD', key, ARGV[2])
    call('PEXPIRE', key, 60000)
    call('SET', NS .. 'waiters', '1', 'PX', 60000)
  else
    call('SREM', key, ARGV[2])
  end
end
