-- Part 4 of 5: core/circuit_breaker.py in Lua. Probes are {permit, when it is lost, worker}.

local function text(value) if value == cjson.null then return nil end return value end

local rules = request.breaker_rules
rules.error_rate = text(rules.error_rate)
rules.slow_rate = text(rules.slow_rate)

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
  S.breaker.reopens_at = now + open_for
end

local function outstanding_probes()
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
  if state == 'open' then return math.max(0, S.breaker.reopens_at - now) end
  if state == 'forced_open' then return math.huge end
  local count, soonest = outstanding_probes()
  if count + S.breaker.proved < rules.probes then return 0 end
  return math.max(0, soonest - now)
end

local function enter()
  local breaker = S.breaker
  if breaker.state == 'open' then become('half_open', breaker.reason) end
  if breaker.state ~= 'half_open' then return 0 end
  breaker.last_permit = breaker.last_permit + 1
  breaker.probes[#breaker.probes + 1] = {breaker.last_permit, now + breaker.open_for, request.worker}
  return breaker.last_permit
end

local function record_probe(permit, verdict, reason)
  local breaker, left = S.breaker, {}
  for _, probe in ipairs(breaker.probes) do
    if probe[1] ~= permit then left[#left + 1] = probe end
  end
  breaker.probes = left
  if verdict == 'ignored' then return end
  if verdict == 'failure' or (verdict == 'slow' and rules.slow_rate) then
    open(math.min(breaker.open_for * 2, rules.max_open_for), reason)
    return
  end
  breaker.proved = breaker.proved + 1
  if breaker.proved >= rules.probes then become('closed', nil) end
end

-- A sample of the window is {at, calls, failures, slow calls}.
local FAILURES, SLOW = 3, 4

local function too_many(kind, rate)
  if not rate then return false end
  local calls, bad = 0, 0
  for _, sample in ipairs(S.breaker.window) do
    calls = calls + sample[2]
    bad = bad + sample[kind]
  end
  return calls >= rules.min_calls and bad / calls >= rate
end

local function add_sample(verdict)
  if not (rules.error_rate or rules.slow_rate) then return end
  local window = S.breaker.window
  local last = window[#window]
  if not last or last[1] ~= now then
    last = {now, 0, 0, 0}
    window[#window + 1] = last
  end
  last[2] = last[2] + 1
  if verdict == 'failure' then last[FAILURES] = last[FAILURES] + 1 end
  if verdict == 'slow' then last[SLOW] = last[SLOW] + 1 end
  while window[1][1] <= now - rules.window do table.remove(window, 1) end
end

local function record(generation, verdict, permit, reason)
  local breaker = S.breaker
  if generation ~= breaker.generation then return end
  if breaker.state == 'half_open' then
    if permit ~= 0 then record_probe(permit, verdict, reason) end
    return
  end
  if breaker.state ~= 'closed' or verdict == 'ignored' then return end
  add_sample(verdict)
  local opens
  if verdict == 'failure' then
    breaker.failures = breaker.failures + 1
    opens = breaker.failures >= rules.failures or too_many(FAILURES, rules.error_rate)
  else
    breaker.failures = 0
    opens = verdict == 'slow' and too_many(SLOW, rules.slow_rate)
  end
  if opens then open(rules.open_for, reason) end
end

local actions = {
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

local function set_breaker(snapshot, generation)
  generation = math.max(generation, S.breaker.generation)
  become(snapshot.state, text(snapshot.reason))
  S.breaker.generation = generation
  S.breaker.reopens_at = now + snapshot.reopens_in
  S.breaker.open_for = snapshot.open_for
end
