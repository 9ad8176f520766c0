-- Part 2 of 5: core/token_bucket.py in Lua. full_at is when a bucket is full again; lows are
-- {instant, missing seconds}.

local function resize(bucket, at, per_minute, capacity)
  local before = bucket.cost
  bucket.capacity, bucket.cost = capacity, 60 / per_minute
  bucket.depth = capacity * bucket.cost + TOLERANCE
  if before and before ~= bucket.cost and bucket.full_at > at then
    local ratio = bucket.cost / before
    bucket.full_at = at + (bucket.full_at - at) * ratio
    for _, low in ipairs(bucket.lows) do low[2] = low[2] * ratio end
  end
end

local function forgive(bucket, at)
  local excess = bucket.full_at - at - bucket.capacity * bucket.cost
  if excess <= 0 then return end
  bucket.full_at = bucket.full_at - excess
  local kept = {}
  for _, low in ipairs(bucket.lows) do
    if low[2] > excess then
      kept[#kept + 1] = {low[1], low[2] - excess}
    else
      bucket.was_full_at = math.max(bucket.was_full_at, low[1])
    end
  end
  bucket.lows = kept
end

local function note_low(bucket, at, missing)
  local lows = bucket.lows
  while #lows > 0 and lows[#lows][2] >= missing do table.remove(lows) end
  lows[#lows + 1] = {at, missing}
  if #lows > MAX_LOWS then
    local merged, last = {}, #lows
    for i = 1, last - 1, 2 do merged[#merged + 1] = {lows[i + 1][1], lows[i][2]} end
    if last % 2 == 1 then merged[#merged + 1] = lows[last] end
    bucket.lows = merged
  end
end

local function take(bucket, amount, at)
  local missing = bucket.full_at - at
  if missing > 0 then
    note_low(bucket, at, missing)
    bucket.full_at = bucket.full_at + amount * bucket.cost
  else
    bucket.lows = {}
    bucket.was_full_at = at
    bucket.full_at = at + amount * bucket.cost
  end
end

local function give_back(bucket, since, amount)
  local missing = bucket.full_at - now
  if missing <= 0 or since < bucket.was_full_at then return end
  local lows = bucket.lows
  local credit = math.min(amount * bucket.cost, missing)
  if #lows == 0 or lows[#lows][1] <= since then
    bucket.full_at = bucket.full_at - credit
    return
  end
  local first = #lows
  while first > 1 and lows[first - 1][1] > since do first = first - 1 end
  credit = math.min(credit, lows[first][2])
  bucket.full_at = bucket.full_at - credit
  local kept = {}
  for i = 1, first - 1 do kept[i] = lows[i] end
  local lowest = lows[first][2] - credit
  while #kept > 0 and kept[#kept][2] >= lowest do table.remove(kept) end
  for i = first, #lows do kept[#kept + 1] = {lows[i][1], lows[i][2] - credit} end
  bucket.lows = kept
end

local function used_of(bucket) return math.max(0, bucket.full_at - now) / bucket.cost end
