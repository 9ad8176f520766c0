-- Part 5 of 5: core/lease_server.py in Lua.

-- State.

local function new_state()
  return {
    version = VERSION,
    origin = origin,
    now = now,
    merge_seeds_until = request.ack == 0 and now + WORKER_TIMEOUT or 0,
    paused_until = 0,
    quota_resets = 0,
    last_ticket = 0,
    workers = {},
    buckets = {},
    windows = {},
    daily_usage = {},
    day_ends_at = {},
    breaker = {
      state = 'closed', generation = 0, failures = 0, proved = 0, last_permit = 0, reopens_at = 0,
      open_for = rules.open_for, probes = {}, window = {},
    },
  }
end

local function configure()
  for _, name in ipairs(RATE_DIMENSIONS) do
    local limit = request.rate_limits[name]
    if limit then
      local bucket = S.buckets[name]
      if not bucket then
        bucket = {full_at = 0, was_full_at = 0, lows = {}}
        S.buckets[name] = bucket
        S.windows[name] = new_window()
      end
      bucket.cost = 60 / limit[1]
      bucket.capacity = limit[2]
      bucket.depth = limit[2] * bucket.cost + TOLERANCE
    end
  end
  for _, name in ipairs(DAY_DIMENSIONS) do
    local limit = request.daily_limits[name]
    if limit and now >= (S.day_ends_at[name] or 0) then
      S.daily_usage[name] = 0
      S.day_ends_at[name] = math.max(limit[2] - origin, now + 1)
    end
  end
end

local function seed_state(seed)
  S.paused_until = now + seed.pause
  for name, units in pairs(seed.used) do
    if S.buckets[name] then
      take(S.buckets[name], units, now)
    elseif S.daily_usage[name] then
      S.daily_usage[name] = units
    end
  end
  for name, units in pairs(seed.last_minute) do
    if S.windows[name] then window_add_at(S.windows[name], now, units) end
  end
  set_breaker(seed.breaker, seed.breaker.generation or 0)
end

local function merge_seed(seed)
  for name, units in pairs(seed.used) do
    local bucket = S.buckets[name]
    if bucket then
      take(bucket, math.max(0, units - used_of(bucket)), now)
    elseif S.daily_usage[name] then
      S.daily_usage[name] = math.max(units, S.daily_usage[name])
    end
  end
  for name, units in pairs(seed.last_minute) do
    local window = S.windows[name]
    if window then window_add_at(window, now, math.max(0, units - window_used(window))) end
  end
  S.paused_until = math.max(S.paused_until, now + seed.pause)
  local breaker = seed.breaker
  if S.breaker.state == 'closed' and breaker.state ~= 'closed' then
    set_breaker(breaker, math.max(breaker.generation or 0, S.breaker.generation) + 1)
  end
end

local function charge(amounts, at)
  for name, amount in pairs(amounts) do
    if S.buckets[name] then
      take(S.buckets[name], amount, at)
    elseif S.daily_usage[name] then
      S.daily_usage[name] = S.daily_usage[name] + amount
    end
  end
end

local function expire_leases()
  local by_expiry = {}
  for name, worker in pairs(S.workers) do by_expiry[#by_expiry + 1] = {worker.lease_expires_at, name} end
  table.sort(by_expiry, function(one, other) return one[1] < other[1] end)
  for _, entry in ipairs(by_expiry) do
    local name, worker = entry[2], S.workers[entry[2]]
    if next(worker.leased) and now >= worker.lease_expires_at then
      charge(worker.leased, worker.lease_expires_at)
      worker.leased, worker.unconfirmed = {}, {}
      worker.lease_id = worker.lease_id + 1
    end
    if now - worker.seen_at > WORKER_FORGOTTEN_AFTER and not next(worker.leased) then  -- future capacity may be longer
      S.workers[name] = nil
    end
  end
end

local function is_alive(worker) return now - worker.seen_at <= WORKER_TIMEOUT end

local function alive()
  local count = 0
  for _, worker in pairs(S.workers) do
    if is_alive(worker) then count = count + 1 end
  end
  return count
end

local function leased_of(name)
  local sum = 0
  for _, worker in pairs(S.workers) do sum = sum + (worker.leased[name] or 0) end
  return sum
end

-- What other workers need at once when it changes.
local function broadcastable()
  local slots, leased, short_of_slots, claims = 0, 0, false, false
  for _, worker in pairs(S.workers) do
    slots = slots + worker.slots
    short_of_slots = short_of_slots or worker.short_of_slots
    claims = claims or worker.claim ~= nil
    for _, amount in pairs(worker.leased) do leased = leased + amount end
  end
  return table.concat({
    S.breaker.generation, tostring(S.breaker.failures > 0), S.quota_resets, string.format('%.6f', S.paused_until),
    short_of_slots and slots or 0, claims and leased or 0,
  }, ' ')
end

-- Reports.

local function requesting_worker()
  local worker = S.workers[request.worker]
  if not worker then
    worker = {
      seq = 0, lease_id = 0, lease_expires_at = 0, leased = {}, unconfirmed = {},
      slots = 0, short_of_slots = false, claim_ticket = 0,
    }
    S.workers[request.worker] = worker
  end
  worker.seen_at = now
  worker.lease_expires_at = math.max(worker.lease_expires_at, now + request.lease_ttl)
  return worker
end

local function unlease(worker, amounts)
  for name, amount in pairs(amounts) do
    local left = (worker.leased[name] or 0) - amount
    worker.leased[name] = left > 0 and left or nil
  end
end

-- Take back what was granted in an answer that never arrived.
local function confirm(worker)
  if request.ack < worker.seq then unlease(worker, worker.unconfirmed) end
  worker.unconfirmed = {}
end

local function reset_quota()
  S.quota_resets = S.quota_resets + 1
  S.paused_until = 0
  for _, bucket in pairs(S.buckets) do bucket.full_at = 0 end
  for _, window in pairs(S.windows) do window_reset(window) end
  for name in pairs(S.daily_usage) do S.daily_usage[name] = 0 end
end

local function apply_breaker_report(report)
  for _, outcome in ipairs(report.outcomes) do
    local generation, verdict, permit, reason, count = unpack(outcome, 1, 5)
    for _ = 1, count do record(generation, verdict, permit, text(reason)) end
  end
  for _, action in ipairs(report.actions) do actions[action]() end
  local trip = report.breaker_trip
  if trip and S.breaker.state == 'closed' then set_breaker(trip, S.breaker.generation + 1) end
end

local function apply_report(worker, report)
  if report.lease_id == worker.lease_id then  -- else that lease has expired, and is charged
    unlease(worker, report.spent)
    charge(report.spent, now)
    unlease(worker, report.returned)
  end
  charge(report.charge, now)
  for _, refund in ipairs(report.refunds) do
    local name, amount, reserved_at = refund[1], refund[2], refund[3]
    if S.buckets[name] then
      give_back(S.buckets[name], math.min(now, reserved_at - origin), amount)
    elseif S.daily_usage[name] then
      S.daily_usage[name] = math.max(0, S.daily_usage[name] - amount)
    end
  end
  for _, use in ipairs(report.recent) do
    local window, units, at = S.windows[use[1]], use[2], use[3] - origin
    if window and units > 0 then
      window_add_at(window, at, units)
    elseif window then
      window_take_back(window, at, -units)
    end
  end
  if report.reset then reset_quota() end
  if report.pause > 0 then S.paused_until = math.max(S.paused_until, now + report.pause) end
  apply_breaker_report(report)
end

-- Leases.

local need, prefetch = request.need or {}, request.prefetch or {}

-- Units that other workers claim, and claimed before this worker did.
local function claimed_of(name, worker)
  local sum = 0
  for _, other in pairs(S.workers) do
    local is_first = not worker.claim or other.claim_ticket < worker.claim_ticket
    if other ~= worker and other.claim and is_alive(other) and is_first then sum = sum + (other.claim[name] or 0) end
  end
  return sum
end

-- Units free at once (below 0: debt), units with future capacity and without claims, and units refilled a second.
local function availability(name, worker)
  local leased, claimed = leased_of(name), claimed_of(name, worker)
  local bucket = S.buckets[name]
  if bucket then
    local level = (bucket.depth - math.max(0, bucket.full_at - now)) / bucket.cost
    return {now = level - leased, total = bucket.capacity - leased - claimed, rate = 1 / bucket.cost}
  end
  local left = request.daily_limits[name][1] - S.daily_usage[name] - leased
  return {now = left, total = left - claimed, rate = 0}
end

local function shortage_of(name, available)
  local least, wait = need[name] or 0, 0
  if available.rate > 0 then
    wait = (least - available.now) / available.rate
    if wait > 0 then wait = wait + TOLERANCE / 2 end
  elseif least > available.now then
    wait = S.day_ends_at[name] - now
  end
  local used_up = available.rate == 0 and least > available.now
  local exhausted = least > available.total + ROUNDING or used_up
  local contended = exhausted and (available.rate > 0 or least <= available.now + leased_of(name))
  if contended then wait = math.min(math.max(wait, 0), request.max_wait) end
  return {wait = wait, exhausted = exhausted, contended = contended}
end

-- A grant {units, units free at once, delay of the rest}, or nil and the seconds for which it is denied.
local function decide(name, available, shortage, workers)
  local least = need[name] or 0
  if least > 0 and (shortage.exhausted or shortage.wait > request.max_wait + ROUNDING) then
    return nil, math.max(shortage.wait, 0)
  end
  local amount
  if least > 0 and least > available.now and available.rate > 0 then  -- future capacity, for those that wait
    local ahead = math.floor(math.max(available.rate * FUTURE_SECONDS, SMALLEST_GRANT * math.max(1, least)))
    amount = math.max(least, math.min(request.queued[name] or 0, ahead, math.floor(available.total)))
  else
    local free = math.max(0, math.min(available.now, available.total))
    local surplus = math.floor(free / (SURPLUS_DIVISOR * math.max(1, workers)))
    amount = math.max(least, math.min(prefetch[name] or 0, surplus))
  end
  local delay = available.rate > 0 and math.max(0, -available.now) / available.rate or 0
  return {amount, math.min(amount, math.max(0, available.now)), delay}
end

local function claim(worker, wanted)
  if wanted and not worker.claim then
    S.last_ticket = S.last_ticket + 1
    worker.claim_ticket = S.last_ticket
  end
  worker.claim = wanted
end

local function apply(worker, grants)
  worker.claim = nil
  for name, grant in pairs(grants) do
    local amount, at_once, delay = grant[1], grant[2], grant[3]
    worker.unconfirmed[name] = amount
    worker.leased[name] = (worker.leased[name] or 0) + amount
    local bucket = S.buckets[name]
    if bucket then
      local refilled_at = now + delay + (amount - at_once) * bucket.cost
      worker.lease_expires_at = math.max(worker.lease_expires_at, refilled_at + request.lease_ttl)
    end
  end
end

-- Grant all of the need and a part of the surplus, or nothing and a claim on what others hold.
local function lease(worker)
  if not next(need) and not next(prefetch) then
    worker.claim = nil
    return {}, nil
  end
  local workers, grants, denied, contended = alive(), {}, nil, false
  local function consider(name)
    local available = availability(name, worker)
    local shortage = shortage_of(name, available)
    contended = contended or shortage.contended
    local grant, wait = decide(name, available, shortage, workers)
    if not grant then
      if not denied or wait > denied[2] then denied = {name, wait} end
    elseif grant[1] > 0 then
      grants[name] = grant
    end
  end
  for _, name in ipairs(RATE_DIMENSIONS) do if request.rate_limits[name] then consider(name) end end
  for _, name in ipairs(DAY_DIMENSIONS) do if request.daily_limits[name] then consider(name) end end
  if denied then
    claim(worker, contended and need or nil)
    return {}, denied
  end
  apply(worker, grants)
  return grants, nil
end

-- Slots for calls in flight: as many as the worker uses, and as many more as are free.
local function allocate_slots(worker)
  local limit = request.concurrency_limit
  if not limit then return end
  local others = 0
  for _, other in pairs(S.workers) do
    if other ~= worker and is_alive(other) then others = others + other.slots end
  end
  worker.slots = math.max(request.in_flight, math.min(request.slots_wanted, limit - others))
  worker.short_of_slots = worker.slots < request.slots_wanted
end

local function permit_to_probe()
  if not request.probe or breaker_wait() > 0 then return 0 end
  return enter()
end

-- The answer.

local function answer_for(worker, grants, denied, permit, before)
  local breaker = S.breaker
  local answer = {
    initialised = true,
    now = string.format('%.6f', now + origin),
    seq = worker.seq,
    lease_id = worker.lease_id,
    expires_in = worker.lease_expires_at - now,
    grants = grants,
    denied = denied,
    used = {},
    last_minute = {},
    leased = {},
    day_ends_in = {},
    slots = worker.slots,
    short_of_slots = false,
    reclaim = false,
    workers = alive(),
    quota_resets = S.quota_resets,
    pause = math.max(0, S.paused_until - now),
    breaker = {
      state = breaker.state,
      generation = breaker.generation,
      failures = breaker.failures,
      reason = breaker.reason,
      reopens_in = math.max(0, breaker.reopens_at - now),
      open_for = breaker.open_for,
      permit = permit,
      probe_free_in = breaker.state == 'half_open' and breaker_wait() or 0,
    },
    broadcast = broadcastable() ~= before,
  }
  for name, bucket in pairs(S.buckets) do
    answer.used[name] = used_of(bucket)
    answer.last_minute[name] = window_used(S.windows[name])
    answer.leased[name] = leased_of(name)
  end
  for name, units in pairs(S.daily_usage) do
    answer.used[name] = units
    answer.leased[name] = leased_of(name)
    answer.day_ends_in[name] = S.day_ends_at[name] - now
  end
  for _, other in pairs(S.workers) do
    answer.short_of_slots = answer.short_of_slots or other.short_of_slots
    answer.reclaim = answer.reclaim or (other ~= worker and other.claim ~= nil)
  end
  return answer
end

-- The exchange.

local is_new = not S
if is_new then S = new_state() end
S.now = now
configure()
if is_new then seed_state(request.seed) end
local before = broadcastable()
if may_merge_seed then merge_seed(request.seed) end
expire_leases()

local worker = requesting_worker()
local grants, denied, permit = {}, nil, 0
local reports = request.reports
-- A request that a later one of its worker has overtaken: its reports are applied, and its answer is not read.
local is_overtaken = #reports > 0 and reports[#reports].seq <= worker.seq
if not is_overtaken then
  confirm(worker)
  for _, report in ipairs(reports) do
    if report.seq > worker.seq then
      apply_report(worker, report)
      worker.seq = report.seq
    end
  end
  grants, denied = lease(worker)
  allocate_slots(worker)
  permit = permit_to_probe()
end
local answer = answer_for(worker, grants, denied, permit, before)

redis.call('SET', KEYS[1], cmsgpack.pack(S), 'EX', ARGV[4])
if answer.broadcast then redis.call('PUBLISH', ARGV[2], request.worker .. ' ' .. ARGV[3]) end
return cjson.encode(answer)
