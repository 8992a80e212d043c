-- A replica says who is connected to a channel there, or that it is as it was.
-- ARGV: pair, replica, for how many ms it holds, what it says (nothing: as it was).
local said = base .. 'w:' .. ARGV[2]
if ARGV[4] then
  call('SET', said, ARGV[4], 'PX', ARGV[3])
elseif call('PEXPIRE', said, ARGV[3]) == 0 then
  return {'forgotten'}
end
return {'ok'}
