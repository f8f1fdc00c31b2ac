-- Health of every Hookstead kind for Argo CD: whether the configuration is in force, from the conditions that kstatus
-- reads too. A receiver that fails makes nothing unhealthy here: a deployment must not wait for somebody else's server.
local health = {}

local function condition(type)
  if obj.status == nil or obj.status.conditions == nil then
    return nil
  end
  for _, one in ipairs(obj.status.conditions) do
    if one.type == type then
      return one
    end
  end
  return nil
end

local function is_true(type)
  local found = condition(type)
  return found ~= nil and found.status == "True"
end

local function words(type)
  local found = condition(type)
  if found == nil then
    return ""
  end
  if found.message == nil or found.message == "" then
    return found.reason or ""
  end
  return found.reason .. ": " .. found.message
end

local generation = obj.metadata.generation
local seen = obj.status ~= nil and obj.status.observedGeneration or -1

if seen < 0 or (generation ~= nil and seen < generation) then
  health.status = "Progressing"
  health.message = "Waiting for the operator"
elseif is_true("Stalled") then
  health.status = "Degraded"
  health.message = words("Stalled")
elseif is_true("Failed") then
  health.status = "Degraded"
  health.message = words("Failed")
elseif is_true("Reconciling") then
  health.status = "Progressing"
  health.message = words("Reconciling")
elseif is_true("Ready") then
  health.status = "Healthy"
  health.message = words("Ready")
  local active = condition("Active")
  if active ~= nil and active.status ~= "True" then
    health.message = "Ready, and no deliveries: " .. words("Active")
  end
else
  health.status = "Progressing"
  health.message = words("Ready")
end

return health
