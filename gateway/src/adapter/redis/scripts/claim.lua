-- Takes a session for who has come back: a new generation, whose writes alone count from now on. The replica that has its
-- client still is told.
-- ARGV: pair, pid, whose it must be, session ttl.
if call('HGET', channel, 'redis') ~= pair then
  return {'epoch'}
end
local key = base .. 's:' .. ARGV[2]
local whose = call('HGET', key, 'whose')
if not whose then
  return {'unknown'}
end
if whose ~= ARGV[3] then
  return {'identity'}
end
call('HINCRBY', key, 'generation', 1)
call('PEXPIRE', key, ARGV[4])
local replica, client = call('HGET', key, 'replica'), call('HGET', key, 'client')
if replica and client then
  call('SPUBLISH', base .. 'f:' .. replica, 'kick ' .. client)
end
return {'ok', call('HGETALL', key)}
