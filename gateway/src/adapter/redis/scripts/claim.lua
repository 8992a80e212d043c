-- Takes a session for who has come back: a new generation, whose writes alone count from now on. The replica that has its
-- client still is told.
-- ARGV: pair, pid, whose it must be, session ttl, `u:<user>` (or nothing).
if call('HGET', channel, 'redis') ~= pair then
  return {'epoch'}
end
local key = base .. 's:' .. ARGV[2]
local whose = call('HGET', key, 'whose')
if not whose then
  return {'unknown'}
end
if whose ~= ARGV[3] then
  return {'identity'}
end
local replica, client = call('HGET', key, 'replica'), call('HGET', key, 'client')
local function kick()
  if replica and client then
    call('SPUBLISH', base .. 'f:' .. replica, 'kick ' .. client)
  end
end

-- Whoever was sent away since it connected, or since it joined the room, does not come back to it.
local dismissed = base .. 'x'
local function is_dismissed()
  if call('EXISTS', dismissed) == 0 then
    return false
  end
  local taken = tonumber(call('HGET', key, 'taken') or 0)
  local function was(name, since)
    return tonumber(call('HGET', dismissed, name) or 0) > since
  end
  if ARGV[5] ~= '' and was(ARGV[5], taken) then
    return true
  end
  local fields = call('HGETALL', key)
  for at = 1, #fields, 2 do
    if string.sub(fields[at], 1, 2) == 'r:' then
      local joined = tonumber(call('HGET', key, 'j' .. string.sub(fields[at], 2)) or taken)
      local readable, room = pcall(cjson.decode, fields[at + 1])
      if readable and was('r:' .. tostring(room.shown), joined) then
        return true
      end
    end
  end
  return false
end
if is_dismissed() then
  kick()
  call('DEL', key)
  return {'dismissed'}
end

call('HINCRBY', key, 'generation', 1)
call('PEXPIRE', key, ARGV[4])
kick()
return {'ok', call('HGETALL', key)}
