-- Writes to a session, unless a later generation has it.
-- ARGV: pair, pid, generation, session ttl, take, change or end, how many fields go, those, then fields and values that come.
if call('HGET', channel, 'redis') ~= pair then
  return {'epoch'}
end
local key, mine, what = base .. 's:' .. ARGV[2], tonumber(ARGV[3]), ARGV[5]
local newest = tonumber(call('HGET', key, 'generation') or 0)
if newest > mine then
  return {'refused'}
end
if what == 'change' and newest < mine then
  return {'unknown'}
end
if what ~= 'change' then
  call('DEL', key)
end
if what == 'end' then
  return {'ok'}
end
local first = 7 + tonumber(ARGV[6])
for at = 7, first - 1 do
  call('HDEL', key, ARGV[at])
end
for at = first, #ARGV, 2 do
  call('HSET', key, ARGV[at], ARGV[at + 1])
end
call('PEXPIRE', key, ARGV[4])
return {'ok'}
