-- A replica says that it is there, and what it wants of the rates. Answers the others: for each its name, how many ms ago it said
-- so, and what it wants; the id of the last order; and the others' orders since, id and text each.
-- ARGV: pair, replica, for how many ms it is remembered, for how many ms what it wants holds, what it wants, the id of the last
-- order that it knows (or nothing).
local me = ARGV[2]
local replicas = base .. 'z'
call('SADD', replicas, me)
call('PEXPIRE', replicas, ARGV[3])
call('SET', base .. 'b:' .. me, '1', 'PX', ARGV[3])
if ARGV[5] == '' then
  call('DEL', base .. 'w:' .. me)
else
  call('SET', base .. 'w:' .. me, ARGV[5], 'PX', ARGV[4])
end
local peers = {}
for _, replica in ipairs(call('SMEMBERS', replicas)) do
  local left = call('PTTL', base .. 'b:' .. replica)
  if left < 0 then
    call('SREM', replicas, replica)
  elseif replica ~= me then
    table.insert(peers, replica)
    table.insert(peers, math.max(tonumber(ARGV[3]) - left, 0))
    table.insert(peers, call('GET', base .. 'w:' .. replica) or '')
  end
end

local orders, last, ordered = base .. 'o', ARGV[6], {}
if last == '' then
  -- Who comes anew has nobody who was there before.
  local newest = call('XREVRANGE', orders, '+', '-', 'COUNT', 1)
  last = newest[1] and newest[1][1] or '0-0'
else
  for _, entry in ipairs(call('XRANGE', orders, '(' .. last, '+', 'COUNT', 100)) do
    last = entry[1]
    -- Fields are `from` and `order`. Where nobody keeps answers any more it is too late.
    if entry[2][2] ~= me and call('EXISTS', base .. 'k:' .. last) == 1 then
      table.insert(ordered, last)
      table.insert(ordered, entry[2][4])
    end
  end
end
return {'ok', peers, last, ordered}
