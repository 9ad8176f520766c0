-- core/spending_exchange.py in Lua: the accounts of a fleet in Redis.
-- KEYS: a sorted set of workers by the time they were heard last, and a hash for each account.
-- ARGV: the request as JSON; seconds that an unused account is kept; for tests the time in seconds, else empty.
-- A hash has day, month, day_spent, month_spent, until, and for each worker "w:NAME" as "reserved:sequence".

local KEPT = 86400
local CLOCK_AHEAD = 300
local request = cjson.decode(ARGV[1])
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end

-- Whole numbers as text: tostring would write large ones with an exponent.
local function text(number)
  return string.format('%.0f', number)
end

redis.call('ZADD', KEYS[1], now, request.worker)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.6f', now - KEPT))
redis.call('EXPIRE', KEYS[1], ARGV[2])
local known, live, live_count = {}, {}, 0
local scores = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #scores, 2 do
  known[scores[i]] = true
  if tonumber(scores[i + 1]) >= now - request.timeout then
    live[scores[i]] = true
    live_count = live_count + 1
  end
end

local function load(key)
  local fields = redis.call('HGETALL', key)
  if #fields == 0 then
    return nil
  end
  local account = {key = key, others = 0, reserved = 0, sequence = 0}
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if string.sub(name, 1, 2) == 'w:' then
      local worker = string.sub(name, 3)
      local reserved, sequence = string.match(value, '^(%d+):(%d+)$')
      if worker == request.worker then
        account.reserved, account.sequence = tonumber(reserved), tonumber(sequence)
      elseif live[worker] then
        account.others = account.others + tonumber(reserved)
      elseif not known[worker] then
        redis.call('HDEL', key, name)
      end
    else
      account[name] = tonumber(value)
    end
  end
  return account
end

local function account_of(key, report)
  local account = load(key)
  if not account and report.seed then
    account = {
      key = key, others = 0, reserved = 0, sequence = 0, day = request.day, month = request.month,
      day_spent = report.seed[1], month_spent = report.seed[2], ['until'] = report.seed[3],
    }
  end
  return account
end

local function spend(account, at, amount)
  if at < account['until'] then
    return
  end
  if at >= account.day then
    account.day_spent = account.day_spent + amount
  end
  if at >= account.month then
    account.month_spent = account.month_spent + amount
  end
end

local function roll(account, period, spent)
  local begins, latest = request[period], now + CLOCK_AHEAD
  if begins > account[period] and begins <= latest then
    account[period], account[spent] = begins, 0
  elseif begins < account[period] and account[period] > latest then
    account[period] = begins
  end
end

local function take_in(account, report)
  roll(account, 'day', 'day_spent')
  roll(account, 'month', 'month_spent')
  if request.sequence > account.sequence then
    for _, cost in ipairs(report.spent) do
      spend(account, cost[1], cost[2])
    end
    account.sequence = request.sequence
  end
  account.reserved = report.reserved
end

local function exhausted(account, day, month)
  local reserved = account.others + account.reserved
  return (day >= 0 and account.day_spent + reserved >= day) or (month >= 0 and account.month_spent + reserved >= month)
end

local accounts = {}
for i, report in ipairs(request.accounts) do
  accounts[i] = account_of(KEYS[i + 1], report) or false
  if accounts[i] then
    take_in(accounts[i], report)
  end
end

local function admit(want)
  for _, number in ipairs(want.accounts) do
    if not accounts[number] then
      return -1
    end
  end
  for _, limit in ipairs(want.limits) do
    if exhausted(accounts[limit[1]], limit[2], limit[3]) then
      return limit[1]
    end
  end
  for _, number in ipairs(want.accounts) do
    accounts[number].reserved = accounts[number].reserved + want.amount
  end
  return 0
end

local wants = {}
for i, want in ipairs(request.wants) do
  wants[i] = admit(want)
end

local figures = {}
for i, account in ipairs(accounts) do
  figures[i] = cjson.null
  if account then
    redis.call(
      'HSET', account.key, 'day', text(account.day), 'month', text(account.month),
      'day_spent', text(account.day_spent), 'month_spent', text(account.month_spent), 'until', text(account['until']),
      'w:' .. request.worker, text(account.reserved) .. ':' .. text(account.sequence)
    )
    redis.call('EXPIRE', account.key, ARGV[2])
    figures[i] = {
      text(account.day), text(account.month), text(account.day_spent), text(account.month_spent),
      text(account.others + account.reserved),
    }
  end
end

-- cjson writes an empty table as an object.
local function list(table)
  return #table == 0 and '[]' or cjson.encode(table)
end

return string.format('{"workers":%d,"accounts":%s,"wants":%s}', live_count, list(figures), list(wants))
