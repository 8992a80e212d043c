-- A replica says that it is there, and what it wants of the rates. Answers the others: for each its name, how many ms ago it said
-- so, and what it wants.
-- ARGV: pair, replica, for how many ms it is remembered, for how many ms what it wants holds, what it wants.
local me = ARGV[2]
local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local replicas = base .. 'z'
call('ZADD', replicas, now, me)
call('ZREMRANGEBYSCORE', replicas, '-inf', '(' .. text(now - tonumber(ARGV[3])))
call('PEXPIRE', replicas, ARGV[3])
if ARGV[5] == '' then
  call('DEL', base .. 'w:' .. me)
else
  call('SET', base .. 'w:' .. me, ARGV[5], 'PX', ARGV[4])
end
local answer = {'ok'}
local all = call('ZRANGE', replicas, 0, -1, 'WITHSCORES')
for at = 1, #all, 2 do
  if all[at] ~= me then
    table.insert(answer, all[at])
    table.insert(answer, math.max(now - tonumber(all[at + 1]), 0))
    table.insert(answer, call('GET', base .. 'w:' .. all[at]) or '')
  end
end
return answer
