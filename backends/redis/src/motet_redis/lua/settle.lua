-- Settle a batch. ARGV: producer, number of the batch, entries, and the branches of their arrivals, which they name by
-- place; those within a branch stand there themselves. One is unpacked only when it comes to that. Answers
-- {index, what, ...} for each entry that is not simply done.
--
-- A batch that a client sends again because its reply was lost has its old number: then what it publishes without a
-- delivery is out already, and a delivery that is gone was settled by it (H14).
local time = now()
local producer, number = NS .. 'p:' .. ARGV[1], ARGV[2]
local seen = call('GET', producer) or ','
local again = string.find(seen, ',' .. number .. ',', 1, true) ~= nil

local ONCE, PUT, DROP, OPEN, ARRIVE, GUARD, RETRY, PUBLISH, FLAG, BURY, DO = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
local UP = -1
local branches = cmsgpack.unpack(ARGV[4])
local conflicts, submits

local function branch(given)
  return cmsgpack.unpack(type(given) == 'number' and branches[given] or given)
end

-- The same walk as `motet.program.walk` with `atomic`: a record that is there, and equal, ends its branch.
local walk
walk = function(ops, up)
  for _, op in ipairs(ops) do
    local kind = op[1]
    if kind == ONCE then
      local stored = put_once(op[2], op[3], op[4], op[5], op[6], time)
      if stored then
        if stored ~= op[4] then
          conflicts[#conflicts + 1] = { op[2], op[3], stored }
        end
        return
      end
    elseif kind == ARRIVE then
      local level = arrive(op[2], op[3], op[4], op[5] == UP and up or op[5])
      if not level then
        return
      end
      local broken = level.failed > level.max_failed
      if level.arrived >= level.size then
        walk(branch(broken and op[7] or op[6]), level.failed)
      elseif broken and level.fast then
        walk(branch(op[7]), level.failed)
      end
    elseif kind == GUARD then
      for index = 2, #op, 2 do
        if read(op[index], op[index + 1], time) then
          return
        end
      end
    elseif kind == PUBLISH then
      if not (submits and again) then
        publish(op[2])
      end
    elseif kind == RETRY then
      if not put_once(op[2], op[3], '1', op[4], false, time) then
        publish({ op[5] })
      end
    elseif kind == OPEN then
      open(op[2], op[3], op[4], op[5], op[6])
    elseif kind == PUT then
      write(op[2], op[3], op[4], op[5], time)
    elseif kind == DROP then
      erase(op[2], op[3])
    elseif kind == FLAG then
      flag(op[2], time)
    elseif kind == BURY then
      bury(op[2], op[3], op[4])
    elseif kind == DO then
      walk(op[2], up)
    end
  end
end

local answers, receipts, ids = {}, {}, {}
for index, entry in ipairs(cmsgpack.unpack(ARGV[3])) do
  local receipt, owner, ops = entry[1], entry[2], entry[3]
  conflicts, submits = {}, receipt == ''
  if not submits and not held(receipt, time) then
    if not again then
      answers[#answers + 1] = { index, 'lost' }
    end
  else
    -- An entry that cannot be carried out, because a key is of another type, must not stop the others (M3, P6).
    local ok, problem = pcall(walk, ops, 0)
    if not ok then
      answers[#answers + 1] = { index, 'failed', type(problem) == 'table' and problem.err or tostring(problem) }
    elseif #conflicts > 0 then
      answers[#answers + 1] = { index, 'conflict', conflicts }
    else
      if owner ~= '' then
        let_go(owner)
      end
      if not submits then
        receipts[#receipts + 1] = receipt
        ids[#ids + 1] = id_of(receipt)
      end
    end
  end
end
flush()
-- Deleting comes last: what breaks a script off before leaves the messages where they were.
forget(receipts, ids)
if not again then
  call('SET', producer, string.sub(seen .. number .. ',', -200), 'EX', 3600)
end
return answers
