// The verdict that comes by the million must be the one that takes the marker apart: decide_quickly() of
// lua/invalidate.lua against decide() of lua/marker.lua, on random tombstones and transactions.
#include <cstdlib>
#include <random>

#include "daemon/sinks/redis/lua_texts.h"
#include "tests/unit/sinks/redis/script_fixture.h"

namespace evictd::testing {
namespace {

// ARGV: seed, cases. Returns how many verdicts came quickly, and the first difference.
constexpr const char* kCompare = R"lua(
local state = tonumber(ARGV[1])
local function random(n)  -- 1 to n
  state = (state * 1103515245 + 12345) % 2147483648
  return math.floor(state / 65536) % n + 1
end
local modulo, full
local function id()
  local digits = tostring(full and 99 + random(200) or ({random(30), 99 + random(40), 11 * random(12)})[random(3)])
  return (modulo and random(20) > 1) and '~' .. digits or digits
end
-- Flags by token, the number of transactions, and what fills need.
local function contents(text)
  local marker = parse_marker(text)
  local list, by_id = parse_tokens(marker.b)
  local flags, count = {}, 0
  for key, token in pairs(by_id) do flags[key] = token.flags end
  for _, token in ipairs(list) do if string.byte(token.id) ~= 94 then count = count + 1 end end
  return flags, count, marker.need
end
local quick = 0
for _ = 1, tonumber(ARGV[2]) do
  -- Full ones have ids of one length: then the bound is as many, otherwise as long.
  modulo, full = random(3) == 1, random(3) == 1
  local have, known = {}, {}
  for _ = 1, full and TOKENS_MAX - 2 or random(TOKENS_MAX - 8) do
    local one = id()
    if not known[one] then have[#have + 1] = one .. (random(3) == 1 and 's' or '') end
    known[one] = true
  end
  if random(3) == 1 then table.insert(have, 1, '^' .. (modulo and '~' or '') .. random(full and 200 or 50)) end
  local text = 't e/1 ' .. table.concat(have, ',') .. ({'', '', ' n5:9:7', ' n12', ' k', ' l1:2', ',v7', ',5d'})[random(8)]
  local born, wanted, asked = random(2) == 1 and 's' or '', {}, {}
  for _ = 1, random(5) do
    local one = id()
    if not asked[one] then wanted[#wanted + 1] = one .. born end
    asked[one] = true
  end
  wanted = table.concat(wanted, ',')
  local act = born == 's' and random(2) == 1 and 's' or 'i'
  -- One that is the same, letter for letter, is known without being looked at.
  local is_same = random(10) == 1
  if is_same then text = 't e/1 ' .. wanted end
  local verdict, detail = decide_quickly(text, wanted, 't e/1 ', act)
  if verdict then
    quick = quick + 1
    local truth, other = decide(text, wanted, {epoch = 'e/1', trust_since = 0, act = act})
    if is_same and verdict ~= 'replayed' then return {quick, wanted .. ' on itself: ' .. verdict} end
    local same = verdict == truth
    if same and verdict == 'delete' then
      local mine, count, need = contents(detail)
      local theirs, _, needed = contents(other)
      same = need == needed and (not full or count <= TOKENS_MAX)
      for key, flags in pairs(mine) do same = same and theirs[key] == flags end
      for key in pairs(theirs) do
        -- The one difference: a settle of what the floor covers is not put back.
        local number, floor = tonumber(string.match(key, '%d+')), tonumber(string.match(text, '%^~?(%d+)') or -1)
        same = same and (mine[key] or (act == 's' and asked[key] and number <= floor))
      end
    end
    if not same then
      return {quick, act .. ' ' .. wanted .. ' on ' .. text .. ': ' .. tostring(detail) .. ', not ' .. truth .. ' ' .. tostring(other)}
    end
  end
end
return {quick, ''}
)lua";

// The same of what fills left: decide_filled().
constexpr const char* kCompareFilled = R"lua(
local state = tonumber(ARGV[1])
local function random(n)  -- 1 to n
  state = (state * 1103515245 + 12345) % 2147483648
  return math.floor(state / 65536) % n + 1
end
local quick = 0
for _ = 1, tonumber(ARGV[2]) do
  local xmin = random(30)
  local xmax = xmin + random(20) - 2
  local running = {}
  for xid = xmin, xmax do if random(3) == 1 then running[#running + 1] = xid end end
  local text = 'f ' .. xmin .. ':' .. xmax .. ':' .. table.concat(running, ',') .. ' ' .. random(100) ..
    ({'', '', '', ' d7', ' l1-2:50', ' k', ' ', ' n5', 'x', ' d7 d8'})[random(10)]
  if random(10) == 1 then text = ({'f - 50', 'f 9 50', 'f v7 50', 'f 3:2: 50', 'f 1:9:,, 50', 'f 1:99007199254740992: 50', 'f 1:9: ', 'f'})[random(8)] end
  local wanted = {}
  for _ = 1, random(3) do wanted[#wanted + 1] = (random(20) == 1 and '~' or '') .. random(50) end
  local born = random(3) == 1 and 's' or ''
  wanted = table.concat(wanted, born .. ',') .. born
  local c = {epoch = 'e/1', trust_since = random(40), trust_filled = random(4) > 1}
  local verdict, detail = decide_filled(text, wanted, 't e/1 ' .. wanted, c)
  if verdict then
    quick = quick + 1
    local truth, other = decide(text, wanted, c)
    if verdict ~= truth or detail ~= other then
      return {quick, wanted .. ' on ' .. text .. ': ' .. verdict .. ' ' .. tostring(detail) .. ', not ' .. truth .. ' ' .. tostring(other)}
    end
  end
end
return {quick, ''}
)lua";

class QuickVerdict : public ScriptTest {};

TEST_F(QuickVerdict, IsTheSameAsTheThoroughOne) {  // G2, G5
  const char* given = std::getenv("EVICTD_SEED");
  const std::string seed = given != nullptr ? given : std::to_string(std::random_device{}() % 1'000'000'000);
  SCOPED_TRACE("EVICTD_SEED=" + seed);
  for (const char* compare : {kCompare, kCompareFilled}) {
    const Reply reply = redis().command(std::vector<std::string>{
        "EVAL", std::string("local TOMBSTONE_TTL = 60000\n") + kLua_marker + kLua_invalidate + compare, "0", seed, "5000"});
    ASSERT_EQ(reply.elements.size(), 2u) << reply.text;
    EXPECT_EQ(reply.elements[1].text, "");
    EXPECT_GT(reply.elements[0].integer, 1000) << "too few to prove anything";
  }
}

}  // namespace
}  // namespace evictd::testing
