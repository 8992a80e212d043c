-- Drops what a channel no longer keeps, also where nothing new comes.
-- ARGV: pair, now, history ttl, history bytes, at most so many deliveries. Answers how many bytes there are.
local before = tonumber(call('HGET', deliveries, 'bytes') or 0)
local total = drop_old(tonumber(ARGV[2]), tonumber(ARGV[3]), before, tonumber(ARGV[4]), tonumber(ARGV[5]))
if total ~= before then
  call('HSET', deliveries, 'bytes', text(total))
end
return {'ok', total}
