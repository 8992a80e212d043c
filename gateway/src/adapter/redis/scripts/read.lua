-- Reads back what went to rooms after a place of each, and then publishes a fence: all that was numbered before it is in the
-- answer, all that comes after the fence is not.
-- ARGV: pair, epoch of the places, where the fence goes, its token, most deliveries, most bytes, then
-- rooms, each with the seq after which it is read.
-- Answers: ok, epoch, seq, up to which seq places of the epoch are good, indices of the rooms whose place is beyond that, and
-- of those that can not be read from theirs on, then seq and bytes of each delivery.
local max_deliveries, max_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
local state = call('HMGET', channel, 'redis', 'epoch', 'seq', 'old')
if state[1] ~= pair then
  return {'epoch'}
end
local epoch, seq = state[2], tonumber(state[3])

-- Up to which seq a position of the epoch is good. That of a former epoch is good up to where it was left.
local good
if ARGV[2] == epoch then
  good = seq
else
  for old, valid in string.gmatch(state[4] or '', '(%S+)=(%d+)') do
    if old == ARGV[2] then
      good = tonumber(valid)
    end
  end
end
if good == nil then
  return {'unknown'}
end

local wanted, list = {}, {}
-- Goes from the room's last delivery back to the place: each entry must be the one that the next names as its prev.
local function follow(name, after)
  local expected = tonumber(call('GET', base .. 'l:' .. name) or -1)
  if expected < 0 then
    return false
  end
  local history = base .. 'h:' .. name
  local behind = 0
  while expected > after do
    local entries = call('LRANGE', history, -behind - 64, -behind - 1)
    if #entries == 0 then
      return false
    end
    for index = #entries, 1, -1 do
      local entry, prev = string.match(entries[index], '^(%d+):(%d+)')
      if tonumber(entry) ~= expected then
        return false
      end
      if not wanted[entry] then
        wanted[entry] = true
        table.insert(list, entry)
      end
      expected = tonumber(prev)
      if expected <= after then
        return true
      end
    end
    behind = behind + #entries
  end
  return true
end

local beyond, broken = {}, {}
for at = 7, #ARGV, 2 do
  local after = tonumber(ARGV[at + 1])
  if after > good then
    table.insert(beyond, (at - 7) / 2)
  elseif not follow(ARGV[at], after) then
    table.insert(broken, (at - 7) / 2)
  end
end
if #list > max_deliveries then
  return {'backlog'}
end

table.sort(list, function(a, b)
  return tonumber(a) < tonumber(b)
end)
local found, bytes = {}, 0
for _, entry in ipairs(list) do
  local delivery = call('HGET', deliveries, entry)
  if not delivery then
    return {'dropped'}
  end
  bytes = bytes + #delivery
  if bytes > max_bytes then
    return {'backlog'}
  end
  table.insert(found, entry)
  table.insert(found, delivery)
end
call('SPUBLISH', ARGV[3], ARGV[4] .. ' ' .. epoch .. ' ' .. text(seq))
return {'ok', epoch, text(seq), text(good), beyond, broken, found}
