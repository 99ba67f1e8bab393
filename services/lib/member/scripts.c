/* scripts.c - the scripts as functions: arguments as text, replies checked.
 *
 * Whatever Redis answers is checked for its type and range before it is used. In a list
 * an item that nobody can read is left out; in place of a single answer it is an error.
 */
#include "member_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 24u
#define FIXED_ARGS 11 /* of a heartbeat, before the pairs */

void tl_keys_make(const char *job, const char *run, struct tl_keys *ret_keys) {
    static const char *const parts[TL_KEYS_COUNT] = {
        [TL_KEY_MEMBERS] = "members",
        [TL_KEY_EPOCHS] = "epochs",
        [TL_KEY_INCARNATIONS] = "incarnations",
        [TL_KEY_ORIGIN] = "origin",
        [TL_KEY_END] = "end",
        [TL_KEY_RETIRED] = "retired",
        [TL_KEY_NEWS] = "news",
        [TL_KEY_CHAINS] = "chains",
    };
    for (size_t i = 0; i < TL_KEYS_COUNT; i++) {
        (void)snprintf(ret_keys->names[i], sizeof(ret_keys->names[i]), "tl:{%s/%s}:%s",
                       job, run, parts[i]);
    }
}

/* ---- epochs seen -------------------------------------------------------------- */

uint64_t tl_epochs_get(const struct tl_epochs *e, uint32_t shard) {
    for (size_t i = 0; i < e->count; i++) {
        if (e->items[i].shard == shard) {
            return e->items[i].epoch;
        }
    }
    return 0;
}

static bool epochs_add(struct tl_epochs *e, uint32_t shard, uint64_t epoch) {
    if (e->count == e->capacity) {
        size_t capacity = e->capacity == 0 ? 4 : 2 * e->capacity;
        struct tl_shard_epoch *items =
            e->count < TL_SHARDS_SEEN_MAX ? realloc(e->items, capacity * sizeof(*items))
                                          : NULL;
        if (items == NULL) {
            return false;
        }
        e->items = items;
        e->capacity = capacity;
    }
    e->items[e->count++] = (struct tl_shard_epoch){.shard = shard, .epoch = epoch};
    return true;
}

bool tl_epochs_raise(struct tl_epochs *e, uint32_t shard, uint64_t epoch) {
    for (size_t i = 0; i < e->count; i++) {
        if (e->items[i].shard == shard) {
            bool is_news = epoch > e->items[i].epoch;
            e->items[i].epoch = is_news ? epoch : e->items[i].epoch;
            return is_news;
        }
    }
    return epochs_add(e, shard, epoch);
}

void tl_epochs_done(struct tl_epochs *e) {
    free(e->items);
    *e = (struct tl_epochs){0};
}

/* ---- reading replies ---------------------------------------------------------- */

static bool is_text(const redisReply *reply) {
    return reply->type == REDIS_REPLY_STRING;
}

/* Decimal text of at most 19 digits. */
static bool read_number(const redisReply *reply, uint64_t *ret_number) {
    uint64_t n = 0;
    if (!is_text(reply) || reply->len == 0 || reply->len > 19) {
        return false;
    }
    for (size_t i = 0; i < reply->len; i++) {
        if (reply->str[i] < '0' || reply->str[i] > '9') {
            return false;
        }
        n = 10 * n + (uint64_t)(reply->str[i] - '0');
    }
    *ret_number = n;
    return true;
}

static bool read_text(const redisReply *reply, char *ret_text, size_t size) {
    if (!is_text(reply) || reply->len >= size || strlen(reply->str) != reply->len) {
        return false;
    }
    memcpy(ret_text, reply->str, reply->len + 1);
    return true;
}

static bool is_pairs(const redisReply *reply) {
    return reply->type == REDIS_REPLY_ARRAY && reply->elements % 2 == 0;
}

static int fail_shape(const struct tl_keys *keys, const char *what) {
    return tl_fail(TL_E_CORRUPT,
                   "Redis: unexpected answer about %s of %s: delete the run's keys",
                   what, keys->names[TL_KEY_MEMBERS]);
}

/* A script whose answer is one number. */
static int script_number(struct tl_redis *r, enum tl_script script,
                         const struct tl_keys *keys, int argc, const char **argv,
                         const char *what, uint64_t *ret_number) {
    redisReply *reply;
    int rc = tl_redis_script(r, script, keys, argc, argv, &reply);
    if (rc != 0) {
        return rc;
    }
    rc = read_number(reply, ret_number) ? 0 : fail_shape(keys, what);
    freeReplyObject(reply);
    return rc;
}

/* ---- the heartbeat ------------------------------------------------------------ */

/* The hash whose number a newer process of the same place has raised above ours. */
static void fence_of(const struct tl_member_entry *self, const char **ret_hash,
                     uint64_t *ret_number) {
    bool is_server = self->role == TL_ROLE_SERVER;
    bool is_worker = self->role == TL_ROLE_WORKER;
    *ret_hash = is_server ? "epochs" : is_worker ? "incarnations" : "";
    *ret_number = is_server ? self->epoch : is_worker ? self->incarnation : 0;
}

struct beat_text {
    char field[TL_FIELD_MAX], fence_field[TL_FIELD_MAX];
    char ours[NUMBER_MAX], token[NUMBER_MAX], age[NUMBER_MAX], most[NUMBER_MAX];
    char pairs[2 * TL_SHARDS_SEEN_MAX][NUMBER_MAX];
};

static void write_identity(const struct tl_member_entry *self, struct beat_text *t) {
    tl_entry_field(self->role, self->index, t->field);
    if (self->role == TL_ROLE_SERVER) {
        (void)snprintf(t->fence_field, sizeof(t->fence_field), "%" PRIu32, self->index);
    } else {
        memcpy(t->fence_field, t->field, sizeof(t->fence_field));
    }
}

static int append_epochs(const struct tl_epochs *epochs, struct beat_text *t,
                         const char **args) {
    int n = 0;
    for (size_t i = 0; i < epochs->count; i++) {
        char(*pair)[NUMBER_MAX] = &t->pairs[2 * i];
        (void)snprintf(pair[0], NUMBER_MAX, "%" PRIu32, epochs->items[i].shard);
        (void)snprintf(pair[1], NUMBER_MAX, "%" PRIu64, epochs->items[i].epoch);
        args[n++] = pair[0];
        args[n++] = pair[1];
    }
    return n;
}

/* `t` holds what `args` points to, and comes filled with zeros. */
static int beat_arguments(const struct tl_beat *b, const char *entry,
                          struct beat_text *t, const char **args) {
    const char *fence = "";
    uint64_t ours = 0;
    if (b->self != NULL) {
        fence_of(b->self, &fence, &ours);
        write_identity(b->self, t);
    }
    (void)snprintf(t->ours, sizeof(t->ours), "%" PRIu64, ours);
    (void)snprintf(t->token, sizeof(t->token), "%" PRIu64, b->token);
    (void)snprintf(t->most, sizeof(t->most), "%u", TL_MEMBERS_MAX);
    if (b->age_ms >= 0) {
        (void)snprintf(t->age, sizeof(t->age), "%" PRId64, b->age_ms);
    }
    const char *fixed[FIXED_ARGS] = {
        t->field,        entry,          b->is_news ? "1" : "0",
        fence,           t->fence_field, t->ours,
        t->token,        t->age,         b->end,
        TL_KEEP_SECONDS, t->most};
    memcpy(args, fixed, sizeof(fixed));
    int epochs = b->self == NULL ? 0 : append_epochs(b->epochs, t, args + FIXED_ARGS);
    return FIXED_ARGS + epochs;
}

static void read_epochs(const redisReply *pairs, struct tl_epochs *epochs) {
    for (size_t i = 0; i < pairs->elements; i += 2) {
        uint64_t shard, epoch;
        if (read_number(pairs->element[i], &shard) && shard <= UINT32_MAX &&
            read_number(pairs->element[i + 1], &epoch)) {
            (void)tl_epochs_raise(epochs, (uint32_t)shard, epoch);
        }
    }
}

static int read_entry(const redisReply *field, const redisReply *text,
                      struct tl_member_entry *ret_entry) {
    if (!is_text(field) || !is_text(text)) {
        return TL_E_CORRUPT;
    }
    return tl_entry_decode(field->str, field->len, text->str, text->len, ret_entry);
}

static int read_entries(const redisReply *pairs, struct tl_look *look) {
    size_t most = pairs->elements / 2;
    most = most > TL_MEMBERS_MAX ? TL_MEMBERS_MAX : most;
    look->entries = calloc(most == 0 ? 1 : most, sizeof(*look->entries));
    if (look->entries == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for %zu members", most);
    }
    for (size_t i = 0; i < most; i++) {
        const int rc = read_entry(pairs->element[2 * i], pairs->element[2 * i + 1],
                                  &look->entries[look->count]);
        if (rc == TL_E_NOMEM) {
            return rc; /* a member that was not read is not one that has gone */
        }
        if (rc == 0) {
            look->count++;
        }
    }
    return 0;
}

/* Items in the order in which the script returns them. */
static int read_look(const redisReply *reply, const struct tl_keys *keys,
                     const char *field, struct tl_look *look) {
    enum { NOW, STARTED, TOKEN, END, BEFORE, EPOCHS, MEMBERS, ITEMS };
    uint64_t now, started;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != ITEMS) {
        return fail_shape(keys, "a heartbeat");
    }
    redisReply **item = reply->element;
    if (!read_number(item[NOW], &now) || !is_text(item[BEFORE]) ||
        !is_pairs(item[EPOCHS]) || !is_pairs(item[MEMBERS])) {
        return fail_shape(keys, "a heartbeat");
    }
    look->now_ms = (int64_t)now;
    look->started_ms = read_number(item[STARTED], &started) ? (int64_t)started : -1;
    if (!read_text(item[TOKEN], look->token, sizeof(look->token))) {
        look->token[0] = '\0';
    }
    if (!read_text(item[END], look->end, sizeof(look->end)) ||
        tl_end_decode(look->end, strlen(look->end), NULL, 0) != 0) {
        look->end[0] = '\0';
    }
    look->has_predecessor = tl_entry_decode(field, strlen(field), item[BEFORE]->str,
                                            item[BEFORE]->len, &look->predecessor) == 0;
    read_epochs(item[EPOCHS], &look->epochs);
    return read_entries(item[MEMBERS], look);
}

void tl_look_done(struct tl_look *l) {
    tl_epochs_done(&l->epochs);
    free(l->entries);
    l->entries = NULL;
}

int tl_script_beat(struct tl_redis *r, const struct tl_keys *keys,
                   const struct tl_beat *beat, struct tl_look *ret_look) {
    const char *args[FIXED_ARGS + 2 * TL_SHARDS_SEEN_MAX];
    struct beat_text text = {0};
    char *entry = NULL;
    int rc = beat->self == NULL ? 0 : tl_entry_encode(beat->self, &entry);
    if (rc != 0) {
        return rc;
    }
    int argc = beat_arguments(beat, entry == NULL ? "" : entry, &text, args);
    redisReply *reply;
    rc = tl_redis_script(r, TL_SCRIPT_BEAT, keys, argc, args, &reply);
    free(entry);
    if (rc != 0) {
        return rc;
    }
    struct tl_look look = {0};
    rc = read_look(reply, keys, text.field, &look);
    freeReplyObject(reply);
    if (rc != 0) {
        tl_look_done(&look);
        return rc;
    }
    *ret_look = look;
    return 0;
}

/* ---- the others --------------------------------------------------------------- */

int tl_script_raise_epoch(struct tl_redis *r, const struct tl_keys *keys,
                          uint32_t shard, uint64_t floor,
                          const struct tl_member_entry *self, uint64_t *ret_epoch) {
    char number[NUMBER_MAX], least[NUMBER_MAX], field[TL_FIELD_MAX] = "";
    char *entry = NULL;
    (void)snprintf(number, sizeof(number), "%" PRIu32, shard);
    (void)snprintf(least, sizeof(least), "%" PRIu64, floor);
    if (self != NULL) {
        tl_entry_field(self->role, self->index, field);
        int rc = tl_entry_encode(self, &entry);
        if (rc != 0) {
            return rc;
        }
    }
    const char *args[] = {"epochs",        number, least,
                          TL_KEEP_SECONDS, field,  entry == NULL ? "" : entry};
    int rc = script_number(r, TL_SCRIPT_RAISE, keys, 6, args, "an epoch", ret_epoch);
    free(entry);
    return rc;
}

int tl_script_next_incarnation(struct tl_redis *r, const struct tl_keys *keys,
                               enum tl_role role, uint32_t index, uint64_t floor,
                               uint64_t *ret_incarnation) {
    char field[TL_FIELD_MAX], least[NUMBER_MAX];
    tl_entry_field(role, index, field);
    (void)snprintf(least, sizeof(least), "%" PRIu64, floor);
    const char *args[] = {"incarnations", field, least, TL_KEEP_SECONDS, "", ""};
    return script_number(r, TL_SCRIPT_RAISE, keys, 6, args, "an incarnation",
                         ret_incarnation);
}

int tl_script_retire(struct tl_redis *r, const struct tl_keys *keys, uint32_t worker,
                     uint64_t incarnation, uint64_t step, uint64_t *ret_step) {
    char field[2 * NUMBER_MAX], least[NUMBER_MAX];
    (void)snprintf(field, sizeof(field), "%" PRIu32 "/%" PRIu64, worker, incarnation);
    (void)snprintf(least, sizeof(least), "%" PRIu64, step);
    const char *args[] = {field, least, TL_KEEP_SECONDS};
    return script_number(r, TL_SCRIPT_RETIRE, keys, 3, args, "a retired worker",
                         ret_step);
}

int tl_script_declare(struct tl_redis *r, const struct tl_keys *keys, const char *end,
                      char *ret_end, size_t size) {
    const char *args[] = {end, TL_KEEP_SECONDS, "end"};
    redisReply *reply;
    int rc = tl_redis_script(r, TL_SCRIPT_DECLARE, keys, 3, args, &reply);
    if (rc != 0) {
        return rc;
    }
    rc = read_text(reply, ret_end, size)
             ? tl_end_decode(ret_end, strlen(ret_end), NULL, 0)
             : TL_E_CORRUPT;
    if (rc != 0 && rc != TL_E_NOMEM) {
        rc = fail_shape(keys, "the end");
    }
    freeReplyObject(reply);
    return rc;
}

int tl_script_leave(struct tl_redis *r, const struct tl_keys *keys,
                    const struct tl_member_entry *self) {
    char field[TL_FIELD_MAX], incarnation[NUMBER_MAX];
    tl_entry_field(self->role, self->index, field);
    (void)snprintf(incarnation, sizeof(incarnation), "%" PRIu64, self->incarnation);
    const char *args[] = {field, incarnation};
    redisReply *reply;
    int rc = tl_redis_script(r, TL_SCRIPT_LEAVE, keys, 2, args, &reply);
    if (rc == 0) {
        freeReplyObject(reply);
    }
    return rc;
}

int tl_script_erase(struct tl_redis *r, const struct tl_keys *keys) {
    const char *args[TL_KEYS_COUNT + 1] = {"UNLINK"};
    for (size_t i = 0; i < TL_KEYS_COUNT; i++) {
        args[i + 1] = keys->names[i];
    }
    redisReply *reply;
    int rc = tl_redis_command(r, (int)TL_KEYS_COUNT + 1, args, &reply);
    if (rc == 0) {
        freeReplyObject(reply);
    }
    return rc;
}
