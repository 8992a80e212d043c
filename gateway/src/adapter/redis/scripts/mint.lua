-- Begins a new epoch, where this is not the Redis that wrote last: it may have forgotten what came after what it has now.
-- What it has now is good: so positions of the former epoch are, up to its seq. The new epoch's seq begins above all that
-- the former may have given out, so on no client's wire it ever goes back.
-- ARGV: pair, the new epoch, its seq.
local OLD_EPOCHS = 16
local state = call('HMGET', channel, 'redis', 'epoch', 'seq', 'old')
if state[1] ~= pair then
  local seq, old = tonumber(state[3] or 0), {}
  if state[2] then
    table.insert(old, state[2] .. '=' .. text(seq))
  end
  for one in string.gmatch(state[4] or '', '%S+') do
    if #old < OLD_EPOCHS then
      table.insert(old, one)
    end
  end
  seq = math.max(seq + 1, tonumber(ARGV[3]))
  call('HSET', channel, 'redis', pair, 'epoch', ARGV[2], 'seq', text(seq), 'old', table.concat(old, ' '))
end
return {'ok'}
