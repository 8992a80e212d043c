-- Keeps when channels of a gateway were last said to be in force, by any of its replicas, in seconds.
-- ARGV: pair, what, now, then:
--   say, uids              these are in force
--   due, seconds, at most  answers uids of which nobody has said so for as long
--   erased, seconds, uid   it has left nothing: it is known no more, unless somebody has said so since
local registry, what, now = base .. 'g', ARGV[2], tonumber(ARGV[3])
if what == 'say' then
  for at = 4, #ARGV do
    local said = tonumber(call('HGET', registry, ARGV[at]) or 0)
    call('HSET', registry, ARGV[at], text(math.max(said, now)))
  end
  return {'ok'}
end
local function is_due(said)
  return said and now - tonumber(said) >= tonumber(ARGV[4])
end
if what == 'erased' then
  if is_due(call('HGET', registry, ARGV[5])) then
    call('HDEL', registry, ARGV[5])
  end
  return {'ok'}
end
local answer, all = {'ok'}, call('HGETALL', registry)
for at = 1, #all, 2 do
  if is_due(all[at + 1]) and #answer <= tonumber(ARGV[5]) then
    table.insert(answer, all[at])
  end
end
return answer
