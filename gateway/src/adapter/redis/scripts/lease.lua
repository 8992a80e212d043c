-- A replica says that it is alive, and which partitions the group has given it. Those of replicas that are not are given to who asks
-- first, who stands in for them until the group has given them to somebody.
-- ARGV: pair, replica, for how many ms it is alive, owned or alive, then the partitions that it owns. Answers those for which it
-- stands in.
local replica, stands_in = ARGV[2], ARGV[2] .. ' stands in'
local replicas = base .. 'r'
call('SET', base .. 'a:' .. replica, '1', 'PX', ARGV[3])
call('SADD', replicas, replica)

local dead = {}
for _, other in ipairs(call('SMEMBERS', replicas)) do
  if call('EXISTS', base .. 'a:' .. other) == 0 then
    dead[other], dead[other .. ' stands in'] = true, true
    call('SREM', replicas, other)
  end
end

local owned = {}
for at = 5, #ARGV do
  owned[ARGV[at]] = true
  call('HSET', channel, ARGV[at], replica)
end
local answer = {'ok'}
local all = call('HGETALL', channel)
for at = 1, #all, 2 do
  local partition, owner = all[at], all[at + 1]
  if dead[owner] then
    call('HSET', channel, partition, stands_in)
    owner = stands_in
  elseif owner == replica and ARGV[4] == 'owned' and not owned[partition] then
    call('HDEL', channel, partition)
  end
  if owner == stands_in then
    table.insert(answer, partition)
  end
end
return answer
