/* lua.c - what happens inside Redis in one piece: the scripts' texts.
 *
 * KEYS are always the run's eight, in the order of enum tl_key. 64-bit numbers stay
 * decimal strings, since Lua's are doubles; they are compared by length, then by text.
 * A number in Redis that is none (somebody else wrote it) counts as absent where the
 * writer knows better, and is an error where it would be believed. */
#include "member_internal.h"

/* clang-format off: a line of C for a line of Lua. */

#define PRELUDE                                                                        \
    "local members, epochs, incarnations, origin, ending, retired, news, chains = "    \
    "unpack(KEYS)\n"                                                                   \
    "local hashes = {epochs = epochs, incarnations = incarnations}\n"                  \
    "local function is_number(v)\n"                                                    \
    "  return v and (v == '0' or (#v <= 19 and string.match(v, '^[1-9]%d*$')))\n"      \
    "end\n"                                                                            \
    "local function above(a, b)\n"                                                     \
    "  if #a ~= #b then return #a > #b end\n"                                          \
    "  return a > b\n"                                                                 \
    "end\n"                                                                            \
    "local function raise(hash, field, number)\n"                                      \
    "  local known = redis.call('HGET', hash, field)\n"                                \
    "  if is_number(known) and not above(number, known) then return known end\n"       \
    "  redis.call('HSET', hash, field, number)\n"                                      \
    "  return number\n"                                                                \
    "end\n"                                                                            \
    "local function damaged(what)\n"                                                   \
    "  return redis.error_reply('DAMAGED ' .. what)\n"                                 \
    "end\n"

/* ARGV:
 *   1 field, '' only looks   2 entry   3 '1': others should look
 *   4 the hash that fences us, '' none   5 its field   6 our number there, '0' none yet
 *   7 token   8 the run's age in ms, '' unknown   9 the end as we know it, '' not
 *   10 seconds until the keys expire   11 most members   12... (shard, epoch) pairs
 * An entry with a lower number than the fencing hash's is not written: a process that
 * was stopped and replaced must not push its successor's entry aside. */
static const char beat_lua[] = PRELUDE
    "local field, entry, is_news, fence, fence_field, ours = unpack(ARGV, 1, 6)\n"
    "local token, age, ended, seconds, most = unpack(ARGV, 7, 11)\n"
    "local time = redis.call('TIME')\n"
    "local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)\n"
    "local function recall_start()\n"
    "  redis.call('HSETNX', origin, 'token', token)\n"
    "  local known = redis.call('HGET', origin, 'started')\n"
    "  local mine = now - (tonumber(age) or 0)\n"
    "  if not is_number(known) or mine < tonumber(known) - 1000 then\n"
    "    redis.call('HSET', origin, 'started', string.format('%.0f', mine))\n"
    "  end\n"
    "end\n"
    "local function recall_end()\n"
    "  return ended ~= '' and redis.call('SETNX', ending, ended) == 1\n"
    "end\n"
    "local function is_fenced()\n"
    "  return fence ~= '' and ours ~= '0' and\n"
    "         above(raise(hashes[fence], fence_field, ours), ours)\n"
    "end\n"
    "local before = ''\n"
    "if field ~= '' then\n"
    "  before = redis.call('HGET', members, field) or ''\n"
    "  for i = 12, #ARGV, 2 do raise(epochs, ARGV[i], ARGV[i + 1]) end\n"
    "  local is_first = not is_fenced() and\n"
    "                   redis.call('HSET', members, field, entry) == 1\n"
    "  recall_start()\n"
    "  local is_end_new = recall_end()\n"
    "  for i = 1, 6 do redis.call('EXPIRE', KEYS[i], seconds) end\n"
    "  if is_news == '1' or is_first or is_end_new then\n"
    "    redis.call('PUBLISH', news, field)\n"
    "  end\n"
    "end\n"
    "for _, hash in ipairs({members, epochs}) do\n"
    "  if redis.call('HLEN', hash) > tonumber(most) then\n"
    "    return damaged(hash .. ' has more than ' .. most .. ' fields')\n"
    "  end\n"
    "end\n"
    "return {string.format('%.0f', now), redis.call('HGET', origin, 'started') or '',\n"
    "        redis.call('HGET', origin, 'token') or '', redis.call('GET', ending) or "
    "'',\n"
    "        before, redis.call('HGETALL', epochs), redis.call('HGETALL', members)}\n";

/* ARGV: 1 which hash   2 its field   3 floor   4 seconds   5 field of members, '' none
 *       6 the entry to register with the new epoch
 * HINCRBY counts in 64 bits, and refuses to overflow. */
static const char raise_lua[] = PRELUDE
    "local which, field, floor, seconds, member, entry = unpack(ARGV)\n"
    "local hash = hashes[which]\n"
    "local known = redis.call('HGET', hash, field)\n"
    "if known and not is_number(known) then\n"
    "  return damaged(hash .. ' field ' .. field .. ' holds no number')\n"
    "end\n"
    "raise(hash, field, floor)\n"
    "redis.call('HINCRBY', hash, field, 1)\n"
    "local given = redis.call('HGET', hash, field)\n"
    "redis.call('EXPIRE', hash, seconds)\n"
    "if member ~= '' then\n"
    "  entry = string.gsub(entry, '^{\"epoch\":%d+', '{\"epoch\":' .. given, 1)\n"
    "  redis.call('HSET', members, member, entry)\n"
    "  redis.call('EXPIRE', members, seconds)\n"
    "end\n"
    "redis.call('PUBLISH', news, field)\n"
    "return given\n";

/* ARGV: 1 "worker/incarnation"   2 step   3 seconds
 * In sync mode the version that a server announces is the step it is at. A quote inside
 * a JSON text is escaped, so the pattern matches the key alone. */
static const char retire_lua[] =
    PRELUDE "local worker, step, seconds = unpack(ARGV)\n"
            "local known = redis.call('HGET', retired, worker)\n"
            "if is_number(known) then return known end\n"
            "if known then\n"
            "  return damaged(retired .. ' field ' .. worker .. ' holds no number')\n"
            "end\n"
            "local all = redis.call('HGETALL', members)\n"
            "for i = 1, #all, 2 do\n"
            "  local version = string.match(all[i], '^server/') and\n"
            "                  string.match(all[i + 1], '\"version\":(%d+)')\n"
            "  if is_number(version) and above(version, step) then step = version end\n"
            "end\n"
            "redis.call('HSET', retired, worker, step)\n"
            "redis.call('EXPIRE', retired, seconds)\n"
            "return step\n";

/* ARGV: 1 the declaration   2 seconds   3 who */
static const char declare_lua[] =
    PRELUDE "local declaration, seconds, who = unpack(ARGV)\n"
            "if redis.call('SET', ending, declaration, 'NX', 'EX', seconds) then\n"
            "  redis.call('PUBLISH', news, who)\n"
            "end\n"
            "return redis.call('GET', ending)\n";

/* ARGV: 1 field   2 incarnation: a successor's entry stays. */
static const char leave_lua[] =
    PRELUDE "local field, incarnation = unpack(ARGV)\n"
            "local entry = redis.call('HGET', members, field)\n"
            "local ours = '\"incarnation\":\"' .. incarnation .. '\"'\n"
            "if entry and string.find(entry, ours, 1, true) then\n"
            "  redis.call('HDEL', members, field)\n"
            "  redis.call('PUBLISH', news, field)\n"
            "end\n"
            "return 1\n";

/* The chain of one shard is fields of `chains`: "SHARD" its configuration, "SHARD/life"
 * and "SHARD/present/SLOT", as in struct tl_chain_arbiter, whose functions these
 * are. ARGV begins with 1 shard   2 length   3 seconds. */
#define CHAIN                                                                          \
    PRELUDE                                                                            \
    "local shard, length, seconds = unpack(ARGV, 1, 3)\n"                              \
    "local function get(field) return redis.call('HGET', chains, shard .. field) "     \
    "end\n"                                                                            \
    "local function set(field, value)\n"                                               \
    "  redis.call('HSET', chains, shard .. field, value)\n"                            \
    "end\n"                                                                            \
    "local function number_of(text) return string.match(text, '^(%d+) %d+') end\n"     \
    "local function nodes_of(text) return string.gmatch(text, ' (%d+):(%d+)') end\n"   \
    "local function has(text, slot, life)\n"                                           \
    "  local node = ' ' .. slot .. ':' .. life .. ' '\n"                               \
    "  return string.find(text .. ' ', node, 1, true) ~= nil\n"                        \
    "end\n"                                                                            \
    "local config = get('') or '0 0'\n"                                                \
    "if not number_of(config) then return damaged(chains .. ' field ' .. shard) end\n" \
    "local function is_settled()\n"                                                    \
    "  for slot = 0, tonumber(length) - 1 do\n"                                        \
    "    if not get('/present/' .. slot) then return false end\n"                      \
    "  end\n"                                                                          \
    "  return true\n"                                                                  \
    "end\n"                                                                            \
    "local function is_vacant()\n"                                                     \
    "  for slot, life in nodes_of(config) do\n"                                        \
    "    if get('/present/' .. slot) == life then return false end\n"                  \
    "  end\n"                                                                          \
    "  return is_settled()\n"                                                          \
    "end\n"                                                                            \
    "local function look()\n"                                                          \
    "  redis.call('EXPIRE', chains, seconds)\n"                                        \
    "  return {get('/life') or '0', config, is_settled() and '1' or '0',\n"            \
    "          is_vacant() and '1' or '0'}\n"                                          \
    "end\n"

/* ARGV: 4 slot   5 incarnation   6 newest configuration known   7 life of Redis seen
 *       8 a life for an empty one */
static const char chain_show_lua[] =
    CHAIN "local slot, incarnation, known, seen, life = unpack(ARGV, 4, 8)\n"
          "if not get('/life') then set('/life', life) end\n"
          "if seen ~= get('/life') then return look() end\n"
          "local before = get('/present/' .. slot)\n"
          "local is_replaced = before and before ~= incarnation\n"
          "if above(number_of(known), number_of(config)) and not is_replaced then\n"
          "  config = known\n"
          "  set('', config)\n"
          "end\n"
          "if has(config, slot, incarnation) or\n"
          "   number_of(known) == number_of(config) then\n"
          "  set('/present/' .. slot, incarnation)\n"
          "end\n"
          "return look()\n";

/* ARGV: 4 the number expected   5 the next configuration   6 '1': begins anew
 *       7 its head's entry as the shard's server, '' none
 * The epoch is raised where workers and servers look for it. */
static const char chain_decide_lua[] = CHAIN
    "local expected, next, forms, head = unpack(ARGV, 4, 7)\n"
    "local is_next = number_of(config) == expected and above(number_of(next), "
    "expected)\n"
    "local is_allowed\n"
    "if forms == '1' then is_allowed = is_vacant() else is_allowed = is_settled() end\n"
    "if is_next and is_allowed then\n"
    "  for slot, life in nodes_of(next) do\n"
    "    if not has(config, slot, life) then set('/present/' .. slot, life) end\n"
    "  end\n"
    "  config = next\n"
    "  set('', config)\n"
    "  raise(epochs, shard, string.match(next, '^%d+ (%d+)'))\n"
    "  redis.call('EXPIRE', epochs, seconds)\n"
    "  if head ~= '' then\n"
    "    redis.call('HSET', members, 'server/' .. shard, head)\n"
    "    redis.call('EXPIRE', members, seconds)\n"
    "    redis.call('PUBLISH', news, 'server/' .. shard)\n"
    "  end\n"
    "end\n"
    "return look()\n";

/* clang-format on */

const char *const tl_script_texts[TL_SCRIPT_COUNT] = {
    [TL_SCRIPT_BEAT] = beat_lua,
    [TL_SCRIPT_RAISE] = raise_lua,
    [TL_SCRIPT_RETIRE] = retire_lua,
    [TL_SCRIPT_DECLARE] = declare_lua,
    [TL_SCRIPT_LEAVE] = leave_lua,
    [TL_SCRIPT_CHAIN_SHOW] = chain_show_lua,
    [TL_SCRIPT_CHAIN_DECIDE] = chain_decide_lua,
};
