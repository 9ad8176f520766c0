-- The lease server's script, part 1 of 5: the request and the stored state. The parts are request, token_bucket,
-- sliding_window, circuit_breaker and lease_server; limiter/redis/layout.py joins them. They are core/lease_server.py,
-- core/token_bucket.py, core/sliding_window.py and core/circuit_breaker.py in Lua, function for function; the messages
-- are those of core/lease_exchange.py. Times are seconds.
--
-- KEYS[1]: the provider's state. ARGV: the request (JSON), the channel of broadcasts, the provider's name, seconds to
-- keep the state, and for tests an instant instead of Redis' own time. Returns the answer as JSON.

local VERSION = 3
local WORKER_TIMEOUT, WORKER_FORGOTTEN_AFTER = 5, 60
local FUTURE_SECONDS, SMALLEST_GRANT, SURPLUS_DIVISOR, MAX_LOWS = 0.5, 12, 2, 64
local ROUNDING, TOLERANCE = 1e-6, 1e-6
local SERVED_LATELY, MOST_SERVED = 600, 16
local EARLIER, JOINED_WITHIN, ABSENT = '', 1, 'absent'

local request = cjson.decode(ARGV[1])
local stored = redis.call('GET', KEYS[1])
local S = stored and cmsgpack.unpack(stored) or nil

local function version_error(what, version)
  local error = what .. ' is of version ' .. tostring(version) .. ', the lease server of version ' .. VERSION
  return cjson.encode({initialised = false, error = error})
end

if request.version ~= VERSION then return version_error('the request', request.version) end
if S and S.version ~= VERSION then return version_error('the state', S.version) end
if not request.worker then return cjson.encode({initialised = false}) end  -- only the version was in question

local now
if ARGV[5] then
  now = tonumber(ARGV[5])
else
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end
local origin = S and S.origin or math.floor(now)  -- small numbers are exact ones
now = now - origin
if S and S.now > now then now = S.now end

-- Whether a worker comes from an earlier state, which was lost.
local joins = not S or (request.born and request.born ~= S.born and not S.workers[request.worker])
if joins and not request.seed then
  return cjson.encode({initialised = false, now = string.format('%.6f', now + origin)})
end
