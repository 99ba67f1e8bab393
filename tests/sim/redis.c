/* redis.c - the arbiter behind a slow and mortal Redis.
 *
 * A replica has one request under way at a time. One that nobody waits for any more may
 * still be carried out. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

void sim_redis_ask(struct sim *s, int replica, const struct tl_chain_action *proposal) {
    struct sim_replica *r = &s->replicas[replica];
    struct sim_ask *ask = calloc(1, sizeof(*ask));
    if (ask == NULL) {
        abort();
    }
    ask->id = r->ask_id = ++s->ask_id;
    ask->node = tl_chain_self(r->chain);
    ask->config = *tl_chain_config(r->chain);
    ask->seen = tl_chain_last_look(r->chain)->life;
    if (proposal != NULL) {
        ask->proposes = true;
        ask->config = proposal->config;
        ask->expected = proposal->expected;
        ask->forms = proposal->forms;
    }
    sim_at(s, 2 * SIM_LEASE,
           (struct sim_event){.kind = EVENT_ASK_LOST,
                              .end = replica,
                              .life = r->life,
                              .a = ask->id,
                              .b = ask->proposes});
    if (s->is_blocked[replica][SIM_REDIS]) {
        free(ask);
        return;
    }
    int64_t delay =
        sim_chance(s, 2) ? (int64_t)sim_below(s, 4 * SIM_LEASE) : sim_delay(s);
    sim_at(s, delay,
           (struct sim_event){.kind = EVENT_ASK,
                              .end = SIM_REDIS,
                              .a = (uint64_t)replica,
                              .b = r->life,
                              .data = ask});
}

static void decide(struct sim *s, const struct sim_ask *ask) {
    struct tl_chain_config before = s->redis.arbiter.config;
    bool done = tl_chain_arbiter_decide(&s->redis.arbiter, ask->expected, &ask->config,
                                        ask->forms, s->nodes);
    char text[TL_CHAIN_TEXT_MAX];
    tl_chain_config_format(&ask->config, text);
    sim_trace(s, "redis %s %s%s", done ? "decides" : "refuses", text,
              ask->forms ? " (anew)" : "");
    if (!done) {
        return;
    }
    for (uint32_t i = 0; i < ask->config.count && s->member_count < 256; i++) {
        s->members[s->member_count++] = ask->config.nodes[i].incarnation;
    }
    struct tl_chain_config latest = s->latest;
    s->latest = ask->config;
    if (ask->forms) {
        sim_check_formed(s, &latest);
    } else if (ask->expected != latest.number) {
        sim_check_lost(s, &latest);
    }
    sim_check_decided(s, &before);
}

static void on_ask(struct sim *s, struct sim_event *e) {
    struct sim_ask *ask = e->data;
    int replica = (int)e->a;
    if (s->redis.is_down || s->is_blocked[replica][SIM_REDIS]) {
        free(ask);
        return;
    }
    if (ask->proposes) {
        decide(s, ask);
    } else {
        tl_chain_arbiter_show(&s->redis.arbiter, ask->node, &ask->config, ask->seen,
                              ask->id);
    }
    ask->look = tl_chain_arbiter_look(&s->redis.arbiter, s->nodes);
    sim_at(
        s, sim_delay(s),
        (struct sim_event){
            .kind = EVENT_ANSWER, .end = replica, .life = (uint32_t)e->b, .data = ask});
}

static void on_answer(struct sim *s, int replica, const struct sim_ask *ask) {
    struct sim_replica *r = &s->replicas[replica];
    bool is_awaited = r->ask_id == ask->id && !s->is_blocked[replica][SIM_REDIS];
    if (!is_awaited) {
        return;
    }
    r->ask_id = 0;
    if (ask->proposes) {
        tl_chain_decided(r->chain, &ask->look);
    } else {
        tl_chain_looked(r->chain, &ask->look);
    }
}

static void on_lost(struct sim *s, struct sim_event *e) {
    struct sim_replica *r = &s->replicas[e->end];
    if (r->ask_id != e->a) {
        return;
    }
    r->ask_id = 0;
    if (e->b != 0) {
        tl_chain_decided(r->chain, NULL);
    }
}

void sim_redis_event(struct sim *s, struct sim_event *e) {
    switch (e->kind) {
    case EVENT_ASK:
        on_ask(s, e);
        break;
    case EVENT_ANSWER:
        on_answer(s, e->end, e->data);
        free(e->data);
        break;
    default:
        on_lost(s, e);
        break;
    }
}
