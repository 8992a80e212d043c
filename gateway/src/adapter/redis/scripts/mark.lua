-- How far the channel has come in a partition. Where that is still the mark of a log that is gone, it goes too.
-- ARGV: pair, mark field, that mark or nothing.
if call('HGET', channel, 'redis') ~= pair then
  return {'epoch'}
end
local mark = call('HGET', channel, ARGV[2])
if not mark then
  return {'none'}
end
if mark ~= ARGV[3] then
  return {'at', mark}
end
call('HDEL', channel, ARGV[2])
return {'dropped', mark}
