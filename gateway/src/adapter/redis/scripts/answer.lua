-- Says what an order came to at this replica, or asks what it came to at those that have said so: a number each.
-- ARGV: pair, id of the order, replica and number (or neither).
local answers = base .. 'k:' .. ARGV[2]
if ARGV[3] then
  -- Nobody asks for one that has expired.
  if call('EXISTS', answers) == 1 then
    call('HSET', answers, ARGV[3], ARGV[4])
  end
  return {'ok'}
end
local answer, all = {'ok'}, call('HGETALL', answers)
for at = 1, #all, 2 do
  if all[at] ~= '' then
    table.insert(answer, all[at + 1])
  end
end
return answer
