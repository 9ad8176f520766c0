-- One provider's limits and breaker, shared by a fleet: core/lease_server.py in Lua, decision for decision.
-- KEYS[1]: the provider's state. ARGV: the request (JSON), the channel for news, the provider's name, seconds to keep
-- the state, and for tests an instant instead of Redis' own time. Returns the answer as JSON.

local ALIVE, FORGOTTEN, BATCH, SMALLEST_BATCH, GENEROSITY, MOST_LOWS = 5, 60, 0.5, 12, 2, 64
local TOLERANCE = 1e-6
local RATES, DAYS = {'rpm', 'tpm', 'itpm', 'otpm'}, {'rpd', 'tpd'}

local request = cjson.decode(ARGV[1])
local stored = redis.call('GET', KEYS[1])
local S = stored and cmsgpack.unpack(stored) or nil
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

-- A worker may remember more than the one that all this began with, if that one had never been told anything.
local could_remind = S and now < S.blank and request.ack > 0 and not S.workers[request.worker]
if (not S or could_remind) and not request.seed then
  return cjson.encode({known = false, now = string.format('%.6f', now + origin)})
end

-- A token bucket, as core/token_bucket.py keeps it: full = when it is full again, seconds; lows = {instant, missing
-- seconds}.

local function note_low(bucket, at, missing)
  local lows = bucket.lows
  while #lows > 0 and lows[#lows][2] >= missing do table.remove(lows) end
  lows[#lows + 1] = {at, missing}
  if #lows > MOST_LOWS then
    local merged, last = {}, #lows
    for i = 1, last - 1, 2 do merged[#merged + 1] = {lows[i + 1][1], lows[i][2]} end
    if last % 2 == 1 then merged[#merged + 1] = lows[last] end
    bucket.lows = merged
  end
end

local function take(bucket, amount, at)
  local missing = bucket.full - at
  if missing > 0 then
    note_low(bucket, at, missing)
    bucket.full = bucket.full + amount * bucket.cost
  else
    bucket.lows = {}
    bucket.was_full = at
    bucket.full = at + amount * bucket.cost
  end
end

local function give_back(bucket, since, amount)
  local missing = bucket.full - now
  if missing <= 0 or since < bucket.was_full then return end
  local lows = bucket.lows
  local credit = math.min(amount * bucket.cost, missing)
  if #lows == 0 or lows[#lows][1] <= since then
    bucket.full = bucket.full - credit
    return
  end
  local first = #lows
  while first > 1 and lows[first - 1][1] > since do first = first - 1 end
  credit = math.min(credit, lows[first][2])
  bucket.full = bucket.full - credit
  local kept = {}
  for i = 1, first - 1 do kept[i] = lows[i] end
  local lowest = lows[first][2] - credit
  while #kept > 0 and kept[#kept][2] >= lowest do table.remove(kept) end
  for i = first, #lows do kept[#kept + 1] = {lows[i][1], lows[i][2] - credit} end
  bucket.lows = kept
end

-- The breaker, as core/circuit_breaker.py has it.

local function text(value) if value == cjson.null then return nil end return value end

local rules = request.rules
rules.error_rate = text(rules.error_rate)

local function become(state, reason)
  local breaker = S.breaker
  breaker.state = state
  breaker.generation = breaker.generation + 1
  breaker.reason = reason
  breaker.failures = 0
  breaker.proved = 0
  breaker.probes = {}
  breaker.window = {}
  if state == 'closed' then breaker.open_for = rules.open_for end
end

local function open(open_for, reason)
  become('open', reason)
  S.breaker.open_for = open_for
  S.breaker.reopens = now + open_for
end

local function outstanding()
  local left, soonest = {}, nil
  for _, probe in ipairs(S.breaker.probes) do
    if probe[2] > now then
      left[#left + 1] = probe
      if not soonest or probe[2] < soonest then soonest = probe[2] end
    end
  end
  S.breaker.probes = left
  return #left, soonest or now
end

local function breaker_wait()
  local state = S.breaker.state
  if state == 'closed' or state == 'disabled' then return 0 end
  if state == 'open' then return math.max(0, S.breaker.reopens - now) end
  if state == 'forced_open' then return math.huge end
  local count, soonest = outstanding()
  if count + S.breaker.proved < rules.probes then return 0 end
  return math.max(0, soonest - now)
end

local function enter()
  local breaker = S.breaker
  if breaker.state == 'open' then become('half_open', breaker.reason) end
  if breaker.state ~= 'half_open' then return 0 end
  breaker.last_probe = breaker.last_probe + 1
  breaker.probes[#breaker.probes + 1] = {breaker.last_probe, now + breaker.open_for, request.worker}
  return breaker.last_probe
end

local function record_probe(probe, verdict, reason)
  local breaker, left = S.breaker, {}
  for _, one in ipairs(breaker.probes) do
    if one[1] ~= probe then left[#left + 1] = one end
  end
  breaker.probes = left
  if verdict == 'ignored' then return end
  if verdict == 'failure' then
    open(math.min(breaker.open_for * 2, rules.max_open_for), reason)
    return
  end
  breaker.proved = breaker.proved + 1
  if breaker.proved >= rules.probes then become('closed', nil) end
end

local function too_many_errors()
  if not rules.error_rate then return false end
  local calls, bad = 0, 0
  for _, sample in ipairs(S.breaker.window) do
    calls = calls + sample[2]
    bad = bad + sample[3]
  end
  return calls >= rules.min_calls and bad / calls >= rules.error_rate
end

local function sample(failed)
  if not rules.error_rate then return end
  local window = S.breaker.window
  local last = window[#window]
  if last and last[1] == now then
    last[2], last[3] = last[2] + 1, last[3] + failed
  else
    window[#window + 1] = {now, 1, failed}
  end
  while window[1][1] <= now - rules.window do table.remove(window, 1) end
end

local function record(generation, verdict, probe, reason)
  local breaker = S.breaker
  if generation ~= breaker.generation then return end
  if breaker.state == 'half_open' then
    if probe ~= 0 then record_probe(probe, verdict, reason) end
    return
  end
  if breaker.state ~= 'closed' or verdict == 'ignored' then return end
  sample(verdict == 'failure' and 1 or 0)
  if verdict == 'success' then
    breaker.failures = 0
    return
  end
  breaker.failures = breaker.failures + 1
  if breaker.failures >= rules.failures or too_many_errors() then open(rules.open_for, reason) end
end

local orders = {
  close = function() become('closed', nil) end,
  force_open = function() become('forced_open', 'forced open by the operator') end,
  disable = function() become('disabled', 'disabled by the operator') end,
  release = function()
    if S.breaker.state == 'forced_open' then
      become('half_open', 'released by the operator')
    elseif S.breaker.state == 'disabled' then
      become('closed', nil)
    end
  end,
}

-- What is there.

local fresh = not S
if fresh then
  S = {origin = origin, blank = request.ack == 0 and now + ALIVE or 0, now = now, epoch = 0, pause = 0, tickets = 0, workers = {}, buckets = {}, used = {}, ends = {}, breaker = {
    state = 'closed', generation = 0, failures = 0, proved = 0, last_probe = 0, reopens = 0,
    open_for = rules.open_for, probes = {}, window = {},
  }}
end
S.now = now
for _, name in ipairs(RATES) do
  local stated = request.buckets[name]
  if stated then
    local bucket = S.buckets[name]
    if not bucket then
      bucket = {full = 0, was_full = 0, lows = {}}
      S.buckets[name] = bucket
    end
    bucket.cost = 60 / stated[1]
    bucket.capacity = stated[2]
    bucket.depth = stated[2] * bucket.cost + TOLERANCE
  end
end
for _, name in ipairs(DAYS) do
  local stated = request.days[name]
  if stated and now >= (S.ends[name] or 0) then
    S.used[name] = 0
    S.ends[name] = math.max(stated[2] - origin, now + 1)
  end
end

local function charge(amounts, at)
  for name, amount in pairs(amounts) do
    if S.buckets[name] then
      take(S.buckets[name], amount, at)
    elseif S.used[name] then
      S.used[name] = S.used[name] + amount
    end
  end
end

if fresh then
  local seed = request.seed
  S.pause = now + seed.pause
  for name, units in pairs(seed.used) do
    if S.buckets[name] then take(S.buckets[name], units, now) elseif S.used[name] then S.used[name] = units end
  end
  S.breaker.state = seed.breaker.state
  S.breaker.generation = seed.breaker.generation or 0
  S.breaker.reason = text(seed.breaker.reason)
  S.breaker.reopens = now + seed.breaker.reopens_in
  S.breaker.open_for = seed.breaker.open_for
end

-- What others want to hear of at once.

local function notable()
  local places, lent, hungry, claims = 0, 0, false, false
  for _, worker in pairs(S.workers) do
    places = places + worker.places
    hungry = hungry or worker.hungry
    claims = claims or worker.claim ~= nil
    for _, amount in pairs(worker.lent) do lent = lent + amount end
  end
  return table.concat({
    S.breaker.generation, tostring(S.breaker.failures > 0), S.epoch, string.format('%.6f', S.pause),
    hungry and places or 0, claims and lent or 0,
  }, ' ')
end
local before = notable()

if could_remind then
  local seed = request.seed
  for name, units in pairs(seed.used) do
    local bucket = S.buckets[name]
    if bucket then
      take(bucket, math.max(0, units - math.max(0, bucket.full - now) / bucket.cost), now)
    elseif S.used[name] then
      S.used[name] = math.max(units, S.used[name])
    end
  end
  S.pause = math.max(S.pause, now + seed.pause)
  local told = seed.breaker
  if S.breaker.state == 'closed' and told.state ~= 'closed' then
    local generation = S.breaker.generation
    become(told.state, text(told.reason))
    S.breaker.generation = math.max(told.generation or 0, generation) + 1
    S.breaker.reopens = now + told.reopens_in
    S.breaker.open_for = told.open_for
  end
end

local by_end = {}
for name, worker in pairs(S.workers) do by_end[#by_end + 1] = {worker.ends, name} end
table.sort(by_end, function(one, other) return one[1] < other[1] end)
for _, entry in ipairs(by_end) do
  local name, worker = entry[2], S.workers[entry[2]]
  if next(worker.lent) and now >= worker.ends then
    charge(worker.lent, worker.ends)  -- nobody has said anything since
    worker.lent, worker.unconfirmed = {}, {}
    worker.lease = worker.lease + 1
  end
  if now - worker.seen > FORGOTTEN and not next(worker.lent) then S.workers[name] = nil end  -- a loan may live longer
end

-- What the worker says.

local me = S.workers[request.worker]
if not me then
  S.tickets = S.tickets + 1
  me = {ticket = S.tickets, seq = 0, lease = 0, ends = 0, lent = {}, unconfirmed = {}, places = 0, hungry = false,
        claimed = 0}
  S.workers[request.worker] = me
end
me.seen = now
me.ends = math.max(me.ends, now + request.ttl)

local function lend_less(name, amount)
  local left = (me.lent[name] or 0) - amount
  me.lent[name] = left > 0 and left or nil
end

-- A later request of this worker has overtaken this one: all that it says is known, and nobody waits for the answer.
local overtaken = #request.reports > 0 and request.reports[#request.reports].seq <= me.seq
if not overtaken then
  if request.ack < me.seq then
    for name, amount in pairs(me.unconfirmed) do lend_less(name, amount) end
  end
  me.unconfirmed = {}
end
for _, report in ipairs(request.reports) do
  if report.seq > me.seq then
    if report.lease == me.lease then
      for name, amount in pairs(report.spent) do lend_less(name, amount) end
      charge(report.spent, now)
      for name, amount in pairs(report.back) do lend_less(name, amount) end
    end
    charge(report.charge, now)
    for _, refund in ipairs(report.refunds) do
      local name, amount, age = refund[1], refund[2], refund[3]
      if S.buckets[name] then
        give_back(S.buckets[name], now - age, amount)
      elseif S.used[name] then
        S.used[name] = math.max(0, S.used[name] - amount)
      end
    end
    if report.reset then
      S.epoch = S.epoch + 1
      S.pause = 0
      for _, bucket in pairs(S.buckets) do bucket.full = 0 end
      for name in pairs(S.used) do S.used[name] = 0 end
    end
    if report.pause > 0 then S.pause = math.max(S.pause, now + report.pause) end
    for _, outcome in ipairs(report.outcomes) do
      for _ = 1, outcome[5] do record(outcome[1], outcome[2], outcome[3], text(outcome[4])) end
    end
    for _, order in ipairs(report.orders) do orders[order]() end
    local trip = report.trip
    if trip and S.breaker.state == 'closed' then
      become(trip.state, text(trip.reason))
      S.breaker.reopens = now + trip.reopens_in
      S.breaker.open_for = trip.open_for
    end
    me.seq = report.seq
  end
end

-- What it is lent.

local function lent_of(name)
  local sum = 0
  for _, worker in pairs(S.workers) do sum = sum + (worker.lent[name] or 0) end
  return sum
end

local function there_is(name)
  local lent, claimed = lent_of(name), 0
  for _, other in pairs(S.workers) do
    if other ~= me and other.claim and now - other.seen <= ALIVE and (not me.claim or other.claimed < me.claimed) then
      claimed = claimed + (other.claim[name] or 0)
    end
  end
  local bucket = S.buckets[name]
  if bucket then
    local level = (bucket.depth - math.max(0, bucket.full - now)) / bucket.cost
    return level - lent, bucket.capacity - lent - claimed, 1 / bucket.cost
  end
  local left = request.days[name][1] - S.used[name] - lent
  return left, left - claimed, 0
end

local function alive()
  local count = 0
  for _, worker in pairs(S.workers) do if now - worker.seen <= ALIVE then count = count + 1 end end
  return count
end

local grants, blocked, claim = {}, nil, false

local function lend(name)
  local least = request.need and request.need[name] or 0
  local most = request.want and request.want[name] or 0
  local there, room, rate = there_is(name)
  local wait
  if rate > 0 then wait = (least - there) / rate elseif least <= there then wait = 0 else wait = S.ends[name] - now end
  if rate > 0 and wait > 0 then wait = wait + TOLERANCE / 2 end
  local no_room, used_up = least > room + 1e-6, rate == 0 and least > there
  if (no_room or used_up) and (rate > 0 or least <= there + lent_of(name)) then
    claim = true
    wait = math.min(math.max(wait, 0), request.patience)
  end
  if least > 0 and (no_room or used_up or wait > request.patience + 1e-6) then
    wait = math.max(wait, 0)
    if not blocked or wait > blocked[2] then blocked = {name, wait} end
    return
  end
  local spare = math.floor(math.max(0, math.min(there, room)) / (GENEROSITY * math.max(1, alive())))
  local amount = math.max(least, math.min(most, spare))
  if least > 0 and least > there and rate > 0 then
    local ahead = math.floor(math.max(rate * BATCH, SMALLEST_BATCH * (least <= 1 and 1 or least)))
    amount = math.max(least, math.min(request.queued[name] or 0, ahead, math.floor(room)))
  end
  if amount > 0 then
    local delay = rate > 0 and math.max(0, -there) / rate or 0
    grants[name] = {amount, math.min(amount, math.max(0, there)), delay}
  end
end

if not overtaken and (next(request.need or {}) or next(request.want or {})) then
  for _, name in ipairs(RATES) do if request.buckets[name] then lend(name) end end
  for _, name in ipairs(DAYS) do if request.days[name] then lend(name) end end
end
if overtaken then
  grants = {}
elseif blocked then
  grants = {}
  if claim and not me.claim then
    S.tickets = S.tickets + 1
    me.claimed = S.tickets
  end
  me.claim = claim and request.need or nil
else
  me.claim = nil
  for name, grant in pairs(grants) do
    me.unconfirmed[name] = grant[1]
    me.lent[name] = (me.lent[name] or 0) + grant[1]
    local bucket = S.buckets[name]
    if bucket then
      me.ends = math.max(me.ends, now + grant[3] + (grant[1] - grant[2]) * bucket.cost + request.ttl)
    end
  end
end

if request.slots and not overtaken then
  local others = 0
  for _, other in pairs(S.workers) do
    if other ~= me and now - other.seen <= ALIVE then others = others + other.places end
  end
  me.places = math.max(request.live, math.min(request.places, request.slots - others))
  me.hungry = me.places < request.places
end

local probe = 0
if request.probe and not overtaken and breaker_wait() <= 0 then probe = enter() end

-- What it is told.

local answer = {
  known = true, now = string.format('%.6f', now + origin), seq = me.seq, lease = me.lease, lives = me.ends - now, grants = grants,
  blocked = blocked, used = {}, lent = {}, ends = {}, places = me.places, hungry = false, squeezed = false,
  workers = alive(), epoch = S.epoch, pause = math.max(0, S.pause - now), news = notable() ~= before,
  breaker = {
    state = S.breaker.state, generation = S.breaker.generation, failures = S.breaker.failures,
    reason = S.breaker.reason, reopens_in = math.max(0, S.breaker.reopens - now), open_for = S.breaker.open_for,
    probe = probe, free_in = S.breaker.state == 'half_open' and breaker_wait() or 0,
  },
}
for name, bucket in pairs(S.buckets) do
  answer.used[name] = math.max(0, bucket.full - now) / bucket.cost
  answer.lent[name] = lent_of(name)
end
for name, used in pairs(S.used) do
  answer.used[name] = used
  answer.lent[name] = lent_of(name)
  answer.ends[name] = S.ends[name] - now
end
for _, worker in pairs(S.workers) do
  answer.hungry = answer.hungry or worker.hungry
  answer.squeezed = answer.squeezed or (worker ~= me and worker.claim ~= nil)
end

redis.call('SET', KEYS[1], cmsgpack.pack(S), 'EX', ARGV[4])
if answer.news then redis.call('PUBLISH', ARGV[2], request.worker .. ' ' .. ARGV[3]) end
return cjson.encode(answer)
