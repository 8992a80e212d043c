-- Where replicas are reached by each other. ARGV: pair, say, mark, where it is, for how many ms; or pair, find, mark; or pair, leave,
-- mark. What was said last of a replica that is gone expires.
local name = base .. 't:' .. ARGV[3]
if ARGV[2] == 'say' then
  call('SET', name, ARGV[4], 'PX', ARGV[5])
elseif ARGV[2] == 'leave' then
  call('DEL', name)
end
return {'ok', call('GET', name) or ''}
