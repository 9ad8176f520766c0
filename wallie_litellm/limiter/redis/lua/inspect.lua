-- One provider's state, as lease_server.lua keeps it, read without changing it: what the next exchange would find.
-- KEYS[1]: the provider's state. Returns JSON. Instants are given as seconds from now, and ages as seconds until now:
-- JSON's numbers have 14 digits here, too few for Unix time in microseconds.

local VERSION = 3
local WORKER_FORGOTTEN_AFTER = 60
local SLOTS_PER_SECOND, SLOTS = 4, 240

local stored = redis.call('GET', KEYS[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
if not stored then return cjson.encode({initialised = false, now = string.format('%.6f', now)}) end

local S = cmsgpack.unpack(stored)
if S.version ~= VERSION then
  local error = 'the state is of version ' .. tostring(S.version) .. ', not of version ' .. VERSION
  return cjson.encode({initialised = false, now = string.format('%.6f', now), error = error})
end
now = now - S.origin
if S.now > now then now = S.now end

local state = {
  initialised = true, now = string.format('%.6f', now + S.origin), pause = math.max(0, S.paused_until - now),
  used = {}, last_minute = {}, left = {}, limits = S.limits, full_in = {}, day_ends_in = {}, workers = {},
  breaker = {
    state = S.breaker.state, reason = S.breaker.reason, failures = S.breaker.failures,
    reopens_in = math.max(0, S.breaker.reopens_at - now), probes = {},
  },
}
for name, bucket in pairs(S.buckets) do state.used[name] = math.max(0, bucket.full_at - now) / bucket.cost end
for name, window in pairs(S.windows) do
  local total = 0
  for slot, units in pairs(window.units) do
    if slot > math.floor(now * SLOTS_PER_SECOND) - SLOTS then total = total + units end
  end
  state.last_minute[name] = total
end
for name, units in pairs(S.daily_usage) do
  local left = S.day_ends_at[name] - now
  state.used[name] = left > 0 and units or 0
  state.day_ends_in[name] = math.max(0, left)
end

-- An expired lease counts as used.
for name, worker in pairs(S.workers) do
  local leased = worker.leased
  if next(leased) and now >= worker.lease_expires_at then
    for dimension, amount in pairs(leased) do
      if state.used[dimension] then state.used[dimension] = state.used[dimension] + amount end
    end
    leased = {}
  end
  if now - worker.seen_at <= WORKER_FORGOTTEN_AFTER then
    state.workers[name] = {age = now - worker.seen_at, leased = leased, slots = worker.slots}
  end
end
for name, bucket in pairs(S.buckets) do
  state.left[name] = math.max(0, bucket.capacity - state.used[name])
  state.full_in[name] = state.used[name] * bucket.cost
end
local probes = state.breaker.probes
for _, probe in ipairs(S.breaker.probes) do
  if probe[2] > now then probes[#probes + 1] = {worker = probe[3], lost_in = probe[2] - now} end
end

return cjson.encode(state)
