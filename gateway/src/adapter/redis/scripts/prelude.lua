-- Every script begins so. KEYS[1] is the hash of the channel; all other keys of it are in the same hash slot.
-- ARGV[1] is the Redis that the caller's connection reached (run id and replication id): one that is not the one that
-- wrote last may have forgotten something, and is asked nothing before it has a new epoch (mint.lua).
local call = redis.call
local channel, pair = KEYS[1], ARGV[1]
local base = string.sub(channel, 1, -2)
local deliveries, order = base .. 'd', base .. 'o'

-- What a delivery costs besides its bytes, roughly.
local ENTRY_BYTES = 512

-- Numbers as text: up to 2^53, without an exponent.
local function text(number)
  return string.format('%d', number)
end

-- Drops a delivery that no room keeps; gives its bytes.
local function drop(seq)
  local bytes = call('HSTRLEN', deliveries, seq)
  call('ZREM', order, seq)
  if bytes == 0 then
    return 0
  end
  call('HDEL', deliveries, seq, 'r' .. seq)
  return bytes + ENTRY_BYTES
end

-- Drops deliveries that are older than ttl, and the oldest while there are more bytes than max; at most so many of them.
local function drop_old(now, ttl, total, max, at_most)
  for _ = 1, at_most do
    local oldest = call('ZRANGE', order, 0, 0, 'WITHSCORES')
    if #oldest == 0 or (tonumber(oldest[2]) >= now - ttl and total <= max) then
      break
    end
    total = total - drop(oldest[1])
  end
  return math.max(total, 0)
end
