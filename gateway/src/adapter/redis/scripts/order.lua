-- Tells all replicas to do something. They hear of it at once, or with their next beat.
-- ARGV: pair, replica, for how many ms it is kept, how many are kept, PUBLISH or SPUBLISH, the order, for how many ms a replica is
-- remembered. Answers its id, then for each other replica how many ms ago it said that it is there.
local orders = base .. 'o'
local id = call('XADD', orders, 'MAXLEN', '~', ARGV[4], '*', 'from', ARGV[2], 'order', ARGV[6])
call('PEXPIRE', orders, ARGV[3])
call('HSET', base .. 'k:' .. id, '', 0)
call('PEXPIRE', base .. 'k:' .. id, ARGV[3])
call(ARGV[5], base .. 'x', id)
local answer = {'ok', id}
for _, replica in ipairs(call('SMEMBERS', base .. 'z')) do
  local left = call('PTTL', base .. 'b:' .. replica)
  if left >= 0 and replica ~= ARGV[2] then
    table.insert(answer, math.max(tonumber(ARGV[7]) - left, 0))
  end
end
return answer
