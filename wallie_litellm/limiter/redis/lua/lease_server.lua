-- Part 5 of 5: core/lease_server.py in Lua.

-- The scope of a limit's key: the part after the first @, empty for the account's.
local function scope_in(key)
  local mark = string.find(key, '@', 1, true)
  return mark and string.sub(key, mark + 1) or ''
end

-- State.

local function new_state()
  return {
    version = VERSION,
    origin = origin,
    now = now,
    born = string.format('%.6f', now + origin),
    seeded = {},
    awaited = 0,
    awaited_until = 0,
    paused_until = 0,
    quota_resets = 0,
    last_ticket = 0,
    workers = {},
    buckets = {},
    windows = {},
    daily_usage = {},
    day_ends_at = {},
    limits = {},
    stated = {},
    served = {},
    breaker = {
      state = 'closed', generation = 0, failures = 0, proved = 0, last_permit = 0, reopens_at = 0,
      open_for = rules.open_for, probes = {}, window = {},
    },
  }
end

-- The limit that a worker has set in place of those of the files: {set at, stated, usable, capacity}, or nil.
local function in_force(name)
  local limit = S.limits[name]
  return limit and limit[2] ~= 0 and limit or nil
end

-- The smallest amounts that the workers which are there state of a limit: {amount, capacity or 0, worker, when}.
local function state_limit(name, amount, capacity)
  local before = S.stated[name]
  if not before or amount <= before[1] or request.worker == before[3] or now - before[4] > WORKER_TIMEOUT then
    S.stated[name] = {amount, capacity, request.worker, now}
  end
  return S.stated[name]
end

local function usable(name)
  local limit, configured = in_force(name), (request.daily_limits[name] or request.slots[name])[1]
  local stated = state_limit(name, configured, 0)
  return limit and limit[3] or stated[1]
end

local function configure()
  local newer = {}
  for name, limit in pairs(request.limits or {}) do
    if not S.limits[name] or limit[1] > S.limits[name][1] then
      S.limits[name] = limit
      newer[name] = true
    end
  end
  for name, configured in pairs(request.rate_limits) do
    local limit, bucket = in_force(name), S.buckets[name]
    local stated = state_limit(name, configured[1], configured[2])
    if not bucket then
      bucket = {full_at = 0, was_full_at = 0, lows = {}}
      S.buckets[name] = bucket
      S.windows[name] = new_window()
    end
    local before = bucket.capacity
    resize(bucket, now, limit and limit[3] or stated[1], limit and limit[4] or stated[2])
    if newer[name] or (before and bucket.capacity < before) then forgive(bucket, now) end
  end
  for name, limit in pairs(request.daily_limits) do
    if now >= (S.day_ends_at[name] or 0) then
      S.daily_usage[name] = 0
      S.seeded[name] = nil
      S.day_ends_at[name] = math.max(limit[2] - origin, now + 1)
    end
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

-- Models have served; the latest ones are kept.
local function note_served(served)
  if not served or not next(served) then return end
  for model, at in pairs(served) do
    S.served[model] = math.max(math.min(now, at - origin), S.served[model] or -math.huge)
  end
  local latest = {}
  for model, at in pairs(S.served) do latest[#latest + 1] = {model, at} end
  table.sort(latest, function(one, other)
    if one[2] ~= other[2] then return one[2] > other[2] end
    return one[1] < other[1]
  end)
  S.served = {}
  for i = 1, math.min(#latest, MOST_SERVED) do
    if now - latest[i][2] < SERVED_LATELY then S.served[latest[i][1]] = latest[i][2] end
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
  local slots, leased, short_of_slots, claimed, limits_at = 0, 0, false, {}, 0
  for _, worker in pairs(S.workers) do
    for _, count in pairs(worker.slots) do slots = slots + count end
    short_of_slots = short_of_slots or next(worker.short_of_slots) ~= nil
    for _, claim in pairs(worker.claims) do
      for name in pairs(claim.units) do claimed[name] = true end
    end
  end
  for name in pairs(claimed) do leased = leased + leased_of(name) end
  for _, limit in pairs(S.limits) do limits_at = math.max(limits_at, limit[1]) end
  return table.concat({
    S.breaker.generation, tostring(S.breaker.failures > 0), S.quota_resets, string.format('%.6f', S.paused_until),
    short_of_slots and slots or 0, leased, string.format('%.3f', limits_at), tostring(S.awaited > 0),
  }, ' ')
end

local function new_worker(lease_id)
  return {
    seen_at = now, seq = 0, lease_id = lease_id, lease_expires_at = 0, leased = {}, unconfirmed = {},
    slots = {}, short_of_slots = {}, claims = {},
  }
end

local function unlease(worker, amounts)
  for name, amount in pairs(amounts) do
    local left = (worker.leased[name] or 0) - amount
    worker.leased[name] = left > 0 and left or nil
  end
end

local function add_seeded(seed)
  for name, units in pairs(seed.used) do
    local bucket = S.buckets[name]
    if bucket then
      local before = math.max(now, S.seeded[name] or now)
      S.seeded[name] = math.max(before, now + units * bucket.cost)
      take(bucket, (S.seeded[name] - before) / bucket.cost, now)
    elseif S.daily_usage[name] then
      local before = S.seeded[name] or 0
      S.seeded[name] = math.max(before, units)
      S.daily_usage[name] = S.daily_usage[name] + S.seeded[name] - before
    end
  end
  for name, units in pairs(seed.last_minute) do
    local window = S.windows[name]
    if window then window_add_at(window, now, math.max(0, units - window_used(window))) end
  end
end

-- Add what a worker has of an earlier state that was lost, beyond what others had of it. Its reports since follow.
-- While others are awaited, nothing is leased but what they held, until it expires.
local function join(seed, is_new)
  if is_new then
    S.awaited, S.awaited_until = seed.workers - 1, now + JOINED_WITHIN
    local earlier = new_worker(0)
    earlier.seen_at, earlier.lease_expires_at = -WORKER_FORGOTTEN_AFTER, now + WORKER_TIMEOUT
    for name, units in pairs(seed.others) do earlier.leased[name] = units > 0 and units or nil end
    S.workers[EARLIER] = earlier
  else
    S.awaited = math.max(0, S.awaited - 1)
    local earlier = S.workers[EARLIER]
    if earlier and S.awaited == 0 then
      earlier.leased = {}
    elseif earlier then
      unlease(earlier, seed.held)
    end
  end
  local reports = request.reports
  S.workers[request.worker] = new_worker(#reports > 0 and reports[#reports].lease_id or 0)
  if S.quota_resets == 0 then add_seeded(seed) end  -- else the seed may be older
  S.paused_until = math.max(S.paused_until, now + seed.pause)
  local breaker = seed.breaker
  if is_new then
    set_breaker(breaker, breaker.generation or 0)
  elseif S.breaker.state == 'closed' and breaker.state ~= 'closed' then
    set_breaker(breaker, math.max(breaker.generation or 0, S.breaker.generation) + 1)
  end
end

local function awaits() return S.awaited > 0 and now < S.awaited_until end

-- A request of a worker has arrived, nil for one that is not known.
local function hear(worker)
  local absent = S.workers[ABSENT]
  if not absent or S.absent.count == 0 or (worker and worker.seen_at >= S.absent.away_since) then return end
  local parts = {}
  for name, units in pairs(absent.leased) do parts[name] = units / S.absent.count end
  unlease(absent, parts)
  S.absent.count = S.absent.count - 1
end

local function requesting_worker()
  local worker = S.workers[request.worker]
  hear(worker)
  if not worker then
    worker = new_worker(0)
    S.workers[request.worker] = worker
  end
  worker.seen_at = now
  worker.lease_expires_at = math.max(worker.lease_expires_at, now + request.lease_ttl)
  return worker
end


-- Take back what was granted in an answer that never arrived.
local function confirm(worker)
  if request.ack < worker.seq then unlease(worker, worker.unconfirmed) end
  worker.unconfirmed = {}
end

local function reset_quota(scope)
  S.quota_resets = S.quota_resets + 1
  if scope == '' then S.paused_until = 0 end
  for name, bucket in pairs(S.buckets) do
    if scope == '' or scope == scope_in(name) then
      bucket.full_at = 0
      window_reset(S.windows[name])
    end
  end
  for name in pairs(S.daily_usage) do
    if scope == '' or scope == scope_in(name) then S.daily_usage[name] = 0 end
  end
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

-- core/absent_workers.py: a worker is back from an outage since then, before which so many shared the limits.
local function hold_for_absent(began_at, shared_by)
  local heard = 0
  for _, worker in pairs(S.workers) do
    if worker.seen_at >= began_at then heard = heard + 1 end
  end
  if began_at <= S.absent.held_since or heard >= shared_by then return end
  S.absent = {count = shared_by - heard, away_since = began_at, held_since = now}
  local absent = new_worker(0)
  absent.seen_at, absent.lease_expires_at = -math.huge, now + WORKER_TIMEOUT
  for name, bucket in pairs(S.buckets) do  -- they go on until they are heard of
    absent.leased[name] = (bucket.capacity + WORKER_TIMEOUT / bucket.cost) * (S.absent.count / shared_by)
  end
  S.workers[ABSENT] = absent
end

local function apply_report(worker, report)
  if report.lease_id == worker.lease_id then  -- else that lease has expired, and is charged
    unlease(worker, report.spent)
    charge(report.spent, now)
    unlease(worker, report.returned)
  end
  charge(report.charge, now)
  if report.away then hold_for_absent(report.away[1] - origin, report.away[2]) end
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
  for _, scope in ipairs(report.reset) do reset_quota(scope) end
  if report.pause > 0 then S.paused_until = math.max(S.paused_until, now + report.pause) end
  apply_breaker_report(report)
end

-- Leave what was left then, and has been refilled since; others may have spent all of their leases.
local function bound(worker, name, left, said_at)
  local bucket, daily = S.buckets[name], request.daily_limits[name]
  left = left + leased_of(name) - (worker.leased[name] or 0)
  if bucket then
    local excess = bucket.capacity - used_of(bucket) - left - math.max(0, now - said_at) / bucket.cost
    if excess > 0 then take(bucket, excess, now) end
  elseif daily then
    S.daily_usage[name] = math.max(S.daily_usage[name], usable(name) - left)
  end
end

-- Leases.

local prefetch = request.prefetch or {}

-- Units that other workers claim, and claimed before the one with this ticket, if there is one.
local function claimed_of(name, worker, ticket)
  local sum = 0
  for _, other in pairs(S.workers) do
    if other ~= worker and is_alive(other) then
      for _, claim in pairs(other.claims) do
        if not ticket or claim.ticket < ticket then sum = sum + (claim.units[name] or 0) end
      end
    end
  end
  return sum
end

-- Units free at once (below 0: debt), units with future capacity and without claims, and units refilled a second.
-- Whether a worker has some of a limit on lease, or waits for it.
local function uses(worker, name)
  if worker.leased[name] then return true end
  for _, claim in pairs(worker.claims) do
    if claim.units[name] then return true end
  end
  return false
end

local function availability(name, worker, ticket)
  local leased, claimed = leased_of(name), claimed_of(name, worker, ticket)
  local bucket = S.buckets[name]
  if bucket then
    local level = (bucket.depth - math.max(0, bucket.full_at - now)) / bucket.cost
    local using = 0
    for _, other in pairs(S.workers) do
      if other == worker or uses(other, name) then using = using + 1 end
    end
    local part = (bucket.capacity - claimed) / using - (worker.leased[name] or 0)
    return {now = level - leased, total = bucket.capacity - leased - claimed, rate = 1 / bucket.cost, part = part}
  end
  local left = usable(name) - S.daily_usage[name] - leased
  return {now = left, total = left - claimed, rate = 0, part = left - claimed}
end

local function shortage_of(name, least, available)
  local wait = 0
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
local function decide(name, worker, least, available, shortage, workers)
  if least > 0 and (shortage.exhausted or shortage.wait > request.max_wait + ROUNDING) then
    return nil, math.max(shortage.wait, 0)
  end
  local granted, amount = worker.unconfirmed[name] or 0, nil  -- granted for the needs before this one
  local lacking = (request.queued[name] or 0) - (worker.leased[name] or 0)  -- for calls that wait
  local part = math.floor(math.min(available.total, math.ceil(available.part)))
  if available.rate > 0 and least > available.now then  -- future capacity, for those that wait
    local ahead = math.floor(math.max(available.rate * FUTURE_SECONDS, SMALLEST_GRANT * math.max(1, least)))
    local in_time = shortage.wait <= request.max_wait + ROUNDING
    amount = math.max(least, in_time and math.min(lacking, ahead, part) or 0)
  else
    local free = math.max(0, math.min(available.now, available.total))
    local surplus = math.floor(free / (SURPLUS_DIVISOR * math.max(1, workers)))
    amount = math.max(least, math.min((prefetch[name] or 0) - granted, surplus))
    if available.rate > 0 then  -- as many as wait, so that one exchange is enough for several of them
      amount = math.max(amount, math.min(lacking, part, math.floor(available.now)))
    end
  end
  local delay = available.rate > 0 and math.max(0, -available.now) / available.rate or 0
  return {amount, math.min(amount, math.max(0, available.now)), delay}
end

-- Whether a denial {limit, seconds} counts before another: the longer, and of equal ones that of the account's limits.
local function counts_before(one, other)
  if one[2] ~= other[2] then return one[2] > other[2] end
  local is_accounts, is_others = scope_in(one[1]) == '', scope_in(other[1]) == ''
  if is_accounts ~= is_others then return is_accounts end
  return one[1] > other[1]
end

local function claim(worker, scope, units)
  local before = worker.claims[scope]
  if units and not before then S.last_ticket = S.last_ticket + 1 end
  worker.claims[scope] = units and {ticket = before and before.ticket or S.last_ticket, units = units} or nil
end

-- A grant for all of one need, or nil and the denial that counts, with a claim on what others hold.
local function decide_all(worker, scope, need, workers)
  local grants, denied, contended = {}, nil, {}
  local ticket = scope and worker.claims[scope] and worker.claims[scope].ticket
  for name, least in pairs(need) do
    if request.rate_limits[name] or request.daily_limits[name] then
      local available = availability(name, worker, ticket)
      local shortage = shortage_of(name, least, available)
      if shortage.contended then contended[name] = true end
      local grant, wait = decide(name, worker, least, available, shortage, workers)
      if not grant then
        local one = {name, wait}
        if not denied or counts_before(one, denied) then denied = one end
      elseif grant[1] > 0 then
        grants[name] = grant
      end
    end
  end
  if not denied then return grants end
  if scope and request.max_wait > 0 then  -- else nothing waits for what others return
    local is_models = scope_in(denied[1]) ~= ''  -- its limits are what is waited for, and not the account's
    local claimed, is_contended = {}, false
    for name, units in pairs(need) do
      if scope_in(name) ~= '' or not is_models then
        claimed[name] = units
        is_contended = is_contended or contended[name]
      end
    end
    claim(worker, scope, is_contended and claimed or nil)
  end
  return nil, denied
end

local function apply(worker, grants)
  for name, grant in pairs(grants) do
    local amount, at_once, delay = grant[1], grant[2], grant[3]
    worker.unconfirmed[name] = (worker.unconfirmed[name] or 0) + amount
    worker.leased[name] = (worker.leased[name] or 0) + amount
    local bucket = S.buckets[name]
    if bucket then
      local refilled_at = now + delay + (amount - at_once) * bucket.cost
      worker.lease_expires_at = math.max(worker.lease_expires_at, refilled_at + request.lease_ttl)
    end
  end
end

-- Two grants of one limit, of which the second was made next, so that its refills follow.
local function joined(one, later)
  local delay = one[1] > one[2] and one[3] or later[3]
  return {one[1] + later[1], one[2] + later[2], delay}
end

-- Grant each need in full, or nothing of it and a claim on what others hold; and a part of the surplus. A need that the
-- account's limits cannot cover ends the line: those behind it would take what it waits for.
local function lease(worker)
  local grants, denied, workers, waiting = {}, {}, alive(), {}
  for _, one in ipairs(request.needs) do waiting[one[1]] = true end
  for scope in pairs(worker.claims) do
    if not waiting[scope] then worker.claims[scope] = nil end
  end
  if awaits() then
    for _, one in ipairs(request.needs) do
      local first
      for name in pairs(one[2]) do
        if not first or name < first then first = name end
      end
      if first then denied[one[1]] = {first, 0} end
    end
    return grants, denied
  end
  local spare = {}  -- granted beyond the needs so far
  for _, one in ipairs(request.needs) do
    local scope, whole, need = one[1], one[2], {}
    for name, units in pairs(whole) do
      local lacking = units - (spare[name] or 0)
      if lacking > 0 then need[name] = lacking end
    end
    local granted, denial = decide_all(worker, scope, need, workers)
    if denial then
      denied[scope] = denial
      if scope_in(denial[1]) == '' then return grants, denied end
    else
      worker.claims[scope] = nil
      apply(worker, granted)
      for name, grant in pairs(granted) do
        grants[name] = grants[name] and joined(grants[name], grant) or grant
        spare[name] = (spare[name] or 0) + grant[1]
      end
      for name, units in pairs(whole) do spare[name] = (spare[name] or 0) - units end
    end
  end
  local more = {}
  for name in pairs(prefetch) do
    if not grants[name] and not denied[scope_in(name)] then more[name] = 0 end
  end
  local surplus = decide_all(worker, nil, more, workers)
  apply(worker, surplus)
  for name, grant in pairs(surplus) do grants[name] = grant end
  return grants, denied
end

-- Slots for calls in flight: as many as the worker uses, and as many more as are free.
local function allocate_slots(worker)
  worker.slots, worker.short_of_slots = {}, {}
  for name, asked in pairs(request.slots) do
    local limit, in_flight, wanted, others = awaits() and 0 or math.floor(usable(name)), asked[2], asked[3], 0
    for _, other in pairs(S.workers) do
      if other ~= worker and is_alive(other) then others = others + (other.slots[name] or 0) end
    end
    worker.slots[name] = math.max(in_flight, math.min(wanted, limit - others))
    if worker.slots[name] < wanted then worker.short_of_slots[name] = true end
  end
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
    born = S.born,
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
    short_of_slots = {},
    limits = S.limits,
    reclaim = {},
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
    served = {},
    broadcast = broadcastable() ~= before,
  }
  for model, at in pairs(S.served) do
    if now - at < SERVED_LATELY then answer.served[model] = now - at end
  end
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
    for name in pairs(other.short_of_slots) do answer.short_of_slots[name] = true end
    for _, claim in pairs(other ~= worker and other.claims or {}) do
      for name in pairs(claim.units) do answer.reclaim[name] = true end
    end
  end
  return answer
end

-- The exchange.

local is_new = not S
if is_new then S = new_state() end
S.absent = S.absent or {count = 0, away_since = 0, held_since = 0}  -- a stored state may be older
S.now = now
configure()
local before = is_new and '' or broadcastable()
if joins then join(request.seed, is_new) end
expire_leases()
note_served(request.served)

local worker = requesting_worker()
local grants, denied, permit = {}, {}, 0
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
  for _, said in ipairs(request.bounds or {}) do bound(worker, said[1], said[2], said[3] - origin) end
  grants, denied = lease(worker)
  allocate_slots(worker)
  permit = permit_to_probe()
end
local answer = answer_for(worker, grants, denied, permit, before)

redis.call('SET', KEYS[1], cmsgpack.pack(S), 'EX', ARGV[4])
if answer.broadcast then redis.call('PUBLISH', ARGV[2], request.worker .. ' ' .. ARGV[3]) end
return cjson.encode(answer)
