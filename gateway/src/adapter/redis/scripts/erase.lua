-- Erases what a channel has left, a part of the keys at a time. What makes it known goes first; where it is there again, somebody
-- uses the channel, and the rest is theirs. Who was sent away (dismiss.lua) goes with the number that it is told by: a channel that
-- is there again counts anew.
-- ARGV: pair, cursor (begin, or what was answered), how many keys to look at. Answers the next cursor, 0 at the end, and how many
-- keys were erased.
local cursor, erased = ARGV[2], 0
if cursor == 'begin' then
  cursor, erased = '0', call('UNLINK', channel, deliveries, order, base .. 'x')
elseif call('EXISTS', channel) == 1 then
  return {'used', '0', 0}
end
local pattern = string.gsub(base, '[%*%?%[%]\\]', '\\%0') .. '*'
local found = call('SCAN', cursor, 'MATCH', pattern, 'COUNT', ARGV[3])
for _, key in ipairs(found[2]) do
  erased = erased + call('UNLINK', key)
end
return {'ok', found[1], erased}
