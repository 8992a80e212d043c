-- How far the channel has come in a partition. A mark that the log has not reached is of a log that is gone: it goes too.
-- ARGV: pair, mark field, where the log ends.
if call('HGET', channel, 'redis') ~= pair then
  return {'epoch'}
end
local mark = call('HGET', channel, ARGV[2])
if not mark then
  return {'none'}
end
if tonumber(mark) < tonumber(ARGV[3]) then
  return {'at', mark}
end
call('HDEL', channel, ARGV[2])
return {'dropped', mark}
