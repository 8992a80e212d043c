-- Everybody of a user, or in a room, is sent away now: sessions that are older are not to be come back to (claim.lua). What is older is
-- told by a number that grows with each time somebody is sent away.
-- ARGV: pair, `u:<user>` or `r:<room, as it is shown>`, for how many ms this is kept, how many are.
local dismissed = base .. 'x'
if call('HLEN', dismissed) >= tonumber(ARGV[4]) then
  local all, oldest, at_oldest = call('HGETALL', dismissed), nil, math.huge
  for at = 1, #all, 2 do
    if tonumber(all[at + 1]) < at_oldest then
      oldest, at_oldest = all[at], tonumber(all[at + 1])
    end
  end
  call('HDEL', dismissed, oldest)
end
call('HSET', dismissed, ARGV[2], call('HINCRBY', channel, 'dismissed', 1))
call('PEXPIRE', dismissed, ARGV[3])
return {'ok'}
