/* chain_calls.c - what Redis decides about a shard's chain: chain.h's arbiter, kept in
 * Redis. The scripts are in lua.c; what they answer is checked here. */
#include "throughline/service.h"

#include "member_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 24u

struct chain_call {
    enum tl_script script;
    int argc;
    const char *args[8];
    struct tl_chain_look look;
};

static void write_number(char text[NUMBER_MAX], uint64_t number) {
    (void)snprintf(text, NUMBER_MAX, "%" PRIu64, number);
}

static bool is_text(const redisReply *reply) {
    return reply->type == REDIS_REPLY_STRING;
}

/* life, configuration, settled, vacant. */
static bool read_look(const redisReply *reply, struct tl_chain_look *ret_look) {
    struct tl_chain_look look = {.life = 0};
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 4) {
        return false;
    }
    for (size_t i = 0; i < 4; i++) {
        if (!is_text(reply->element[i])) {
            return false;
        }
    }
    char *end;
    look.life = strtoull(reply->element[0]->str, &end, 10);
    if (*end != '\0' || reply->element[0]->len == 0 ||
        tl_chain_config_parse(reply->element[1]->str, &look.config) != 0) {
        return false;
    }
    look.is_settled = strcmp(reply->element[2]->str, "1") == 0;
    look.is_vacant = strcmp(reply->element[3]->str, "1") == 0;
    *ret_look = look;
    return true;
}

static int call_once(struct tl_redis *r, struct tl_member *m, void *ctx) {
    struct chain_call *c = ctx;
    redisReply *reply;
    int rc = tl_redis_script(r, c->script, &m->keys, c->argc, c->args, &reply);
    if (rc != 0) {
        return rc;
    }
    if (!read_look(reply, &c->look)) {
        rc = tl_fail(TL_E_CORRUPT,
                     "Redis: %s holds no chain of ours: delete the run's keys",
                     m->keys.names[TL_KEY_CHAINS]);
    }
    freeReplyObject(reply);
    return rc;
}

static int call(struct tl_member *m, struct chain_call *c, int64_t deadline_ms,
                struct tl_chain_look *ret_look) {
    int rc = tl_member_until(m, deadline_ms, call_once, c);
    if (rc == 0) {
        *ret_look = c->look;
    }
    return rc;
}

int tl_member_chain_show(struct tl_member *m, const struct tl_chain_place *place,
                         struct tl_chain_node node, const struct tl_chain_config *known,
                         uint64_t seen, int64_t deadline_ms,
                         struct tl_chain_look *ret_look) {
    char shard[NUMBER_MAX], length[NUMBER_MAX], slot[NUMBER_MAX], life[NUMBER_MAX];
    char incarnation[NUMBER_MAX], seen_life[NUMBER_MAX], text[TL_CHAIN_TEXT_MAX];
    write_number(shard, place->shard);
    write_number(length, place->length);
    write_number(slot, node.slot);
    write_number(incarnation, node.incarnation);
    write_number(seen_life, seen);
    write_number(life, tl_random_u64() | 1u);
    tl_chain_config_format(known, text);
    struct chain_call c = {.script = TL_SCRIPT_CHAIN_SHOW,
                           .argc = 8,
                           .args = {shard, length, TL_KEEP_SECONDS, slot, incarnation,
                                    text, seen_life, life}};
    return call(m, &c, deadline_ms, ret_look);
}

int tl_member_chain_decide(struct tl_member *m, const struct tl_chain_place *place,
                           uint64_t expected, const struct tl_chain_config *next,
                           bool forms, int64_t deadline_ms,
                           struct tl_chain_look *ret_look) {
    char shard[NUMBER_MAX], length[NUMBER_MAX], number[NUMBER_MAX];
    char text[TL_CHAIN_TEXT_MAX];
    char *head = NULL;
    int rc = place->head != NULL ? tl_entry_encode(place->head, &head) : 0;
    if (rc != 0) {
        return rc;
    }
    write_number(shard, place->shard);
    write_number(length, place->length);
    write_number(number, expected);
    tl_chain_config_format(next, text);
    struct chain_call c = {.script = TL_SCRIPT_CHAIN_DECIDE,
                           .argc = 7,
                           .args = {shard, length, TL_KEEP_SECONDS, number, text,
                                    forms ? "1" : "0", head != NULL ? head : ""}};
    rc = call(m, &c, deadline_ms, ret_look);
    free(head);
    return rc;
}

struct config_call {
    uint32_t shard;
    struct tl_chain_config config;
};

static int config_once(struct tl_redis *r, struct tl_member *m, void *ctx) {
    struct config_call *c = ctx;
    char shard[NUMBER_MAX];
    redisReply *reply;
    write_number(shard, c->shard);
    const char *argv[] = {"HGET", m->keys.names[TL_KEY_CHAINS], shard};
    int rc = tl_redis_command(r, 3, argv, &reply);
    if (rc != 0) {
        return rc;
    }
    c->config = (struct tl_chain_config){.number = 0};
    if (reply->type != REDIS_REPLY_NIL) {
        rc = is_text(reply) ? tl_chain_config_parse(reply->str, &c->config)
                            : tl_fail(TL_E_CORRUPT, "Redis: %s holds no chain of ours",
                                      m->keys.names[TL_KEY_CHAINS]);
    }
    freeReplyObject(reply);
    return rc;
}

int tl_member_chain_config(struct tl_member *m, uint32_t shard, int64_t deadline_ms,
                           struct tl_chain_config *ret_config) {
    struct config_call c = {.shard = shard};
    int rc = tl_member_until(m, deadline_ms, config_once, &c);
    if (rc == 0) {
        *ret_config = c.config;
    }
    return rc;
}
