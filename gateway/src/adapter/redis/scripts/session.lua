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
-- Since when it has its client, and is in its rooms: who was sent away later does not come back (dismiss.lua, claim.lua).
local now = call('HGET', channel, 'dismissed') or 0
if what == 'take' then
  call('HSET', key, 'taken', now)
end
local first = 7 + tonumber(ARGV[6])
for at = 7, first - 1 do
  call('HDEL', key, ARGV[at], 'j' .. string.sub(ARGV[at], 2))
end
for at = first, #ARGV, 2 do
  call('HSET', key, ARGV[at], ARGV[at + 1])
  if what == 'change' and string.sub(ARGV[at], 1, 2) == 'r:' then
    call('HSET', key, 'j' .. string.sub(ARGV[at], 2), now)
  end
end
call('PEXPIRE', key, ARGV[4])
return {'ok'}
