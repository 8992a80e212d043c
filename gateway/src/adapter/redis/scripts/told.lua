-- Who is connected to a channel at these replicas; nothing for those that have not said so.
-- ARGV: pair, replicas.
local answer = {'ok'}
for at = 2, #ARGV do
  table.insert(answer, call('GET', base .. 'w:' .. ARGV[at]) or '')
end
return answer
