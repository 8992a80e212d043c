-- Says that rooms are hosted, or still are, and publishes a fence with the last seq of each: what comes after the fence and
-- does not continue from there is a gap.
-- ARGV: pair, where the fence goes, its token, room ttl, whether rooms that are not known begin now,
-- then rooms.
local state = call('HMGET', channel, 'redis', 'epoch', 'seq')
if state[1] ~= pair then
  return {'epoch'}
end
local lasts = {}
for at = 6, #ARGV do
  local name = base .. 'l:' .. ARGV[at]
  local last = call('GET', name)
  if last then
    call('PEXPIRE', name, ARGV[4])
    call('PEXPIRE', base .. 'h:' .. ARGV[at], ARGV[4])
  elseif ARGV[5] == '1' then
    -- Whatever went to it before is unknown, so its first delivery follows on this place.
    last = state[3]
    call('DEL', base .. 'h:' .. ARGV[at])
    call('SET', name, last, 'PX', ARGV[4])
  end
  table.insert(lasts, last or '-')
end
call('SPUBLISH', ARGV[2], ARGV[3] .. ' ' .. state[2] .. ' ' .. state[3] .. ' ' .. table.concat(lasts, ' '))
return {'ok'}
