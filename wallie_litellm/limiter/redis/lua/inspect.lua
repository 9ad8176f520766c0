-- One provider's state, as exchange.lua keeps it, told without changing it: what the next exchange would find.
-- KEYS[1]: the provider's state. Returns JSON. Instants are told as seconds from now, and ages as seconds until now:
-- JSON's numbers have 14 digits here, too few for Unix time in microseconds.

local FORGOTTEN = 60

local stored = redis.call('GET', KEYS[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
if not stored then return cjson.encode({known = false, now = string.format('%.6f', now)}) end

local S = cmsgpack.unpack(stored)
now = now - S.origin
if S.now > now then now = S.now end

local told = {
  known = true, now = string.format('%.6f', now + S.origin), pause = math.max(0, S.pause - now),
  used = {}, full_in = {}, day_ends_in = {}, workers = {},
  breaker = {
    state = S.breaker.state, reason = S.breaker.reason, failures = S.breaker.failures,
    reopens_in = math.max(0, S.breaker.reopens - now), probes = {},
  },
}
for name, bucket in pairs(S.buckets) do told.used[name] = math.max(0, bucket.full - now) / bucket.cost end
for name, used in pairs(S.used) do
  local left = S.ends[name] - now
  told.used[name] = left > 0 and used or 0
  told.day_ends_in[name] = math.max(0, left)
end

-- A loan whose time is up is used up.
for name, worker in pairs(S.workers) do
  local lent = worker.lent
  if next(lent) and now >= worker.ends then
    for dimension, amount in pairs(lent) do
      if told.used[dimension] then told.used[dimension] = told.used[dimension] + amount end
    end
    lent = {}
  end
  if now - worker.seen <= FORGOTTEN then
    told.workers[name] = {age = now - worker.seen, lent = lent, places = worker.places}
  end
end
for name, bucket in pairs(S.buckets) do told.full_in[name] = told.used[name] * bucket.cost end
for _, probe in ipairs(S.breaker.probes) do
  if probe[2] > now then told.breaker.probes[#told.breaker.probes + 1] = {worker = probe[3], lost_in = probe[2] - now} end
end

return cjson.encode(told)
