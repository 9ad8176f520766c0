-- Part 3 of 5: core/sliding_window.py in Lua. units are by the number of their slot; begin is the slot of the last reset.

local SLOTS_PER_SECOND, SLOTS = 4, 240

local function slot_of(at) return math.floor(at * SLOTS_PER_SECOND) end

local function new_window() return {newest = -SLOTS, begin = -SLOTS, total = 0, units = {}} end

local function move_window(window)
  local slot = slot_of(now)
  if slot <= window.newest then return end
  if slot - window.newest >= SLOTS then
    window.units, window.total = {}, 0
  else
    for gone = window.newest + 1 - SLOTS, slot - SLOTS do
      window.total = window.total - (window.units[gone] or 0)
      window.units[gone] = nil
    end
  end
  window.newest = slot
end

local function window_used(window)
  move_window(window)
  return window.total
end

local function window_add_at(window, at, units)
  move_window(window)
  local slot = math.min(slot_of(at), window.newest)
  if slot > window.newest - SLOTS then
    window.units[slot] = (window.units[slot] or 0) + units
    window.total = window.total + units
  end
end

local function window_take_back(window, at, units)
  move_window(window)
  local slot = slot_of(at)
  if slot <= window.newest - SLOTS or slot < window.begin then return end
  for each = math.min(slot, window.newest), window.newest do
    local held = window.units[each] or 0
    local taken = math.min(units, held)
    window.units[each] = held > taken and held - taken or nil
    window.total = window.total - taken
    units = units - taken
    if units <= 0 then return end
  end
end

local function window_reset(window)
  move_window(window)
  window.units, window.total, window.begin = {}, 0, window.newest
end
