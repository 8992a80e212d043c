-- Takes units of a channel: marks, numbers, keeps and publishes, all or nothing.
-- ARGV: pair, now, history size, history ttl, history bytes, room ttl, epoch and seq in case of a broken write, then
-- units: mark field, offset, what the mark must have reached, number of deliveries, then those: bytes, number of
-- rooms, rooms.
local now, size, ttl = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local max_bytes, room_ttl = tonumber(ARGV[5]), ARGV[6]

-- 1. Check. A script that fails is not rolled back: all that is read, and the type of all that will be written, comes first.
local state = call('HMGET', channel, 'redis', 'epoch', 'seq', 'old')
if state[1] ~= pair then
  return {'epoch'}
end
local epoch, seq = state[2], tonumber(state[3])
-- No position of before is good from now on.
local function begin_anew()
  call('HSET', channel, 'epoch', ARGV[7], 'seq', text(math.max(seq + 1, tonumber(ARGV[8]))), 'old', '')
  call('DEL', deliveries, order)
end
local total = tonumber(call('HGET', deliveries, 'bytes') or 0)
call('ZCARD', order)

local rooms = {}
local function room_of(name)
  local room = rooms[name]
  if room == nil then
    -- Where there is no last, nobody hosts the room and nobody may come back to it: nothing is kept for it.
    local last = call('GET', base .. 'l:' .. name)
    room = {last = last and tonumber(last), kept = call('LLEN', base .. 'h:' .. name), new = {}}
    rooms[name] = room
  end
  return room
end

local marks, fresh, refused = {}, {}, 0
local at = 9
while at <= #ARGV do
  local field, offset = ARGV[at], tonumber(ARGV[at + 1])
  local reached, count = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  at = at + 4
  local mark = marks[field]
  if mark == nil then
    mark = tonumber(call('HGET', channel, field) or -1)
    if mark < 0 and reached >= 0 and (state[4] or '') ~= '' then
      -- All that was taken of it is forgotten, and nobody knows since when, while positions of before would still be good.
      begin_anew()
      return {'forgotten', field}
    end
    if mark >= 0 and mark < reached then
      return {'rewound', field, text(mark)}
    end
  end
  local is_new = offset > mark
  if is_new then
    marks[field] = offset
  else
    refused = refused + 1
  end
  for _ = 1, count do
    local bytes, targets = ARGV[at], tonumber(ARGV[at + 1])
    if is_new then
      seq = seq + 1
      local delivery = {seq = text(seq), bytes = bytes, rooms = {}, prev = {}}
      for target = at + 2, at + 1 + targets do
        local name = ARGV[target]
        local room = room_of(name)
        if room.last then
          table.insert(delivery.rooms, name)
          table.insert(delivery.prev, text(room.last))
          room.last = seq
        end
      end
      for index, name in ipairs(delivery.rooms) do
        local entry = delivery.seq .. ':' .. delivery.prev[index]
        if #delivery.rooms > 1 then
          entry = entry .. ':m'
        end
        table.insert(rooms[name].new, entry)
      end
      table.insert(fresh, delivery)
    end
    at = at + 2 + targets
  end
end

-- As many arguments at once as Lua's stack surely takes.
local CHUNK = 1000
local function push(command, key, values)
  for first = 1, #values, CHUNK do
    call(command, key, unpack(values, first, math.min(first + CHUNK - 1, #values)))
  end
end

-- 2. Write, and publish last: what was published is kept.
local function write()
  if size > 0 then
    local kept, times = {}, {}
    for _, delivery in ipairs(fresh) do
      if #delivery.rooms > 0 then
        table.insert(kept, delivery.seq)
        table.insert(kept, delivery.bytes)
        if #delivery.rooms > 1 then
          table.insert(kept, 'r' .. delivery.seq)
          table.insert(kept, #delivery.rooms)
        end
        table.insert(times, ARGV[2])
        table.insert(times, delivery.seq)
        total = total + #delivery.bytes + ENTRY_BYTES
      end
    end
    push('HSET', deliveries, kept)
    push('ZADD', order, times)
  end
  for name, room in pairs(rooms) do
    if #room.new > 0 then
      local last, history = base .. 'l:' .. name, base .. 'h:' .. name
      if size > 0 then
        push('RPUSH', history, room.new)
        local too_many = room.kept + #room.new - size
        if too_many > 0 then
          for _, entry in ipairs(call('LPOP', history, too_many)) do
            local old, shared = string.match(entry, '^(%d+):%d+(:?m?)')
            if shared == '' or call('HINCRBY', deliveries, 'r' .. old, -1) <= 0 then
              total = total - drop(old)
            end
          end
        end
        call('PEXPIRE', history, room_ttl)
      end
      call('SET', last, text(room.last), 'PX', room_ttl)
    end
  end
  if size > 0 and #fresh > 0 then
    total = drop_old(now, ttl, total, max_bytes, #fresh + 64)
    call('HSET', deliveries, 'bytes', text(math.max(total, 0)))
    call('PEXPIRE', deliveries, room_ttl)
    call('PEXPIRE', order, room_ttl)
  end
  local taken = {'seq', text(seq)}
  for field, mark in pairs(marks) do
    table.insert(taken, field)
    table.insert(taken, text(mark))
  end
  push('HSET', channel, taken)
  for _, delivery in ipairs(fresh) do
    for index, name in ipairs(delivery.rooms) do
      local head = epoch .. ' ' .. delivery.seq .. ' ' .. delivery.prev[index] .. ' '
      call('SPUBLISH', base .. 'p:' .. name, head .. delivery.bytes)
    end
  end
end

local written, problem = pcall(write)
if written then
  return {'ok', #fresh, refused}
end
-- Nobody can say what is there now: all of it is of an epoch that is over, and none of its positions is good.
begin_anew()
return {'broken', type(problem) == 'table' and problem.err or tostring(problem)}
