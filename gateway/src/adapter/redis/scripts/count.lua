-- Counts clients of a tenant over all replicas. Each replica keeps a hash of what it has, which expires unless it says that it is
-- still there; whoever wants a place gets it if the sum over all of them leaves one.
-- ARGV: pair, replica, for how many ms its counts hold, fresh or known, how many counts, then name and number of each, then for
-- each who asks: how many places, the replica that it takes them over from (or nothing), then name and limit of each.
local me, ttl = ARGV[2], ARGV[3]
local replicas, mine = base .. 'r', base .. 'n:' .. me
if ARGV[4] == 'fresh' then
  call('DEL', mine)
elseif call('EXISTS', mine) == 0 then
  return {'forgotten'}
end
call('SADD', replicas, me)
-- Where it has nothing, it is there all the same.
call('HSET', mine, '', 0)
local at = 6
for _ = 1, tonumber(ARGV[5]) do
  if ARGV[at + 1] == '0' then
    call('HDEL', mine, ARGV[at])
  else
    call('HSET', mine, ARGV[at], ARGV[at + 1])
  end
  at = at + 2
end
call('PEXPIRE', mine, ttl)
call('PEXPIRE', replicas, ttl)

local live = {}
for _, replica in ipairs(call('SMEMBERS', replicas)) do
  if call('EXISTS', base .. 'n:' .. replica) == 1 then
    table.insert(live, replica)
  else
    call('SREM', replicas, replica)
  end
end
local function had(replica, name)
  return tonumber(call('HGET', base .. 'n:' .. replica, name) or 0)
end

local verdicts = {}
while at <= #ARGV do
  local places, from, first = tonumber(ARGV[at]), ARGV[at + 1], at + 2
  at = first + 2 * places
  local full = 0
  for place = 1, places do
    local name, limit = ARGV[first + 2 * place - 2], tonumber(ARGV[first + 2 * place - 1])
    local sum = 0
    for _, replica in ipairs(live) do
      local count = had(replica, name)
      if replica == from and replica ~= me and count > 0 then
        count = count - 1
      end
      sum = sum + count
    end
    if sum >= limit then
      full = place
      break
    end
  end
  if full == 0 then
    for place = 1, places do
      local name = ARGV[first + 2 * place - 2]
      call('HINCRBY', mine, name, 1)
      if from ~= '' and from ~= me and had(from, name) > 0 then
        if call('HINCRBY', base .. 'n:' .. from, name, -1) == 0 then
          call('HDEL', base .. 'n:' .. from, name)
        end
        call('SADD', base .. 't:' .. from, name)
        call('PEXPIRE', base .. 't:' .. from, ttl)
      end
    end
  end
  table.insert(verdicts, full)
end

local touched = call('SMEMBERS', base .. 't:' .. me)
if #touched > 0 then
  call('DEL', base .. 't:' .. me)
end
return {'ok', verdicts, touched}
