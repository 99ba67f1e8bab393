/* log.c - a durable log, the workers that append to it, and servers that fold it: two
 * at a time, neither of which owns anything.
 *
 * The model has Kafka's semantics: entries in order, without gaps; an append whose
 * outcome nobody learnt is made again, so that the log holds it once or twice; what
 * lies below a position can be removed. Records, parts, reading on and trimming are the
 * real code. */
#include "durable.h"
#include "sim.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES  1024u
#define APPENDED 256u
#define WORKERS  2u
#define SERVERS  2u
#define ENTRY    (TL_HEADER_BYTES + TL_TRAILER_BYTES + 16u + 8u) /* two of the floats */
#define KEEP     2u

struct entry {
    uint8_t *bytes;
    size_t size;
};

/* A state with its place in the log, as bytes: a snapshot. */
struct saved {
    uint64_t position;
    uint8_t *bytes;
    size_t size;
};

struct server {
    struct tl_fold *fold;
    struct tl_reader *reader;
};

struct worker {
    uint64_t incarnation, sequence; /* batches appended */
    uint64_t part;                  /* of the record under way */
    bool is_joined;
};

struct run {
    uint64_t random;
    struct tl_log log;
    struct entry entries[ENTRIES]; /* by position */
    uint64_t first, last;
    bool is_cut; /* somebody else removed entries */
    struct worker workers[WORKERS];
    uint64_t durable[WORKERS]; /* batches known to be in the log */
    struct server servers[SERVERS];
    uint64_t digests[ENTRIES]; /* of the state after a position; 0: not known */
    struct saved saved[KEEP];  /* newest first */
    struct tl_fold_config config;
    char *verdict;
    size_t size;
    bool is_broken;
};

static struct run run;

static uint64_t below(uint64_t n) {
    return sim_random(&run.random) % n;
}

static void fail(const char *what) {
    if (!run.is_broken) {
        (void)snprintf(run.verdict, run.size, "%s", what);
        run.is_broken = true;
    }
}

/* ---- the log ------------------------------------------------------------------------
 */

static int trim(struct tl_log *log, uint32_t shard, uint64_t position, uint64_t covered,
                int64_t deadline_ms) {
    (void)log;
    (void)shard;
    (void)covered;
    (void)deadline_ms;
    for (; run.first <= position && run.first <= run.last; run.first++) {
        free(run.entries[run.first].bytes);
        run.entries[run.first].bytes = NULL;
    }
    return 0;
}

static int read_open(struct tl_reader *r) {
    (void)r;
    return 0;
}

/* Kafka's consumer goes on at the first entry there is; that it should not have is the
 * reader's to notice. */
static int read_next(struct tl_reader *r, uint64_t *ret_position,
                     const uint8_t **ret_bytes, size_t *ret_size) {
    uint64_t position = r->position + 1 < run.first ? run.first : r->position + 1;
    if (position > run.last) {
        return TL_E_BUSY;
    }
    *ret_position = position;
    *ret_bytes = run.entries[position].bytes;
    *ret_size = run.entries[position].size;
    return 0;
}

static void read_close(struct tl_reader *r) {
    (void)r;
}

static const struct log_ops model = {.trim = trim,
                                     .read_open = read_open,
                                     .read_next = read_next,
                                     .read_close = read_close};
/* The kinds that a URL would choose are not built in here. */
const struct log_ops log_redis_ops, log_kafka_ops;

static struct entry_rules rules_of(void) {
    return (struct entry_rules){.identity = 7,
                                .count = SIM_FLOATS,
                                .max_entry_bytes = ENTRY,
                                .span = run.log.span};
}

static void append(const struct tl_header *header, const void *payload, uint64_t part,
                   uint64_t parts) {
    const struct entry_rules rules = rules_of();
    for (uint64_t copies = below(8) == 0 ? 2 : 1; copies > 0; copies--) {
        struct entry *e = &run.entries[run.last + 1];
        if (run.last + 2 == ENTRIES) {
            return;
        }
        e->bytes = entry_encode(&rules, header, payload, part, parts, &e->size);
        if (e->bytes == NULL) {
            abort();
        }
        run.last++;
    }
}

/* ---- workers
 * -------------------------------------------------------------------------- */

static void join(uint32_t w) {
    struct worker *k = &run.workers[w];
    const struct tl_header h = {.kind = TL_KIND_JOIN,
                                .worker = w,
                                .incarnation = k->incarnation,
                                .sequence = run.durable[w]};
    append(&h, NULL, 0, 1);
    k->is_joined = true;
}

/* The next part of the batch under way; a worker that dies in between leaves it. */
static void push(uint32_t w) {
    struct worker *k = &run.workers[w];
    uint64_t sequence = run.durable[w] + 1;
    const float values[SIM_FLOATS] = {(float)sequence, 0.5f, (float)w};
    const struct tl_header h = {.kind = TL_KIND_PUSH,
                                .worker = w,
                                .incarnation = k->incarnation,
                                .sequence = sequence,
                                .length = sizeof(values)};
    uint64_t parts = entry_parts(ENTRY, sizeof(values));
    append(&h, values, k->part, parts);
    if (++k->part == parts) {
        k->part = 0;
        run.durable[w]++;
    }
}

static void work(uint32_t w) {
    struct worker *k = &run.workers[w];
    if (k->incarnation == 0 || below(24) == 0) {
        *k = (struct worker){.incarnation = k->incarnation + 1};
    }
    if (!k->is_joined) {
        join(w);
    } else {
        push(w);
    }
}

/* ---- servers
 * -------------------------------------------------------------------------- */

static void check_state(const struct server *s) {
    uint64_t position = tl_fold_position(s->fold);
    uint64_t digest = sim_fold_digest(s->fold);
    if (run.digests[position] == 0) {
        run.digests[position] = digest;
    } else if (run.digests[position] != digest) {
        fail("two folds of one log have the same bits");
    }
}

static void fold_item(struct server *s, struct tl_reader_item *item) {
    struct tl_fold_effect effect;
    if (item->position != tl_fold_position(s->fold) + 1) {
        fail("nothing in the log is skipped");
        return;
    }
    if (!item->has_record) {
        tl_fold_pass(s->fold);
    } else {
        item->record.position = item->position;
        item->record.epoch = 1;
        (void)!tl_fold_apply(s->fold, &item->record, &effect);
    }
    check_state(s);
}

static struct tl_fold *saved_fold(const struct saved *v) {
    const float weights[SIM_FLOATS] = {0};
    struct tl_restore *restore = NULL;
    struct tl_fold *f = NULL;
    int rc = v->bytes == NULL ? tl_fold_new(&run.config, weights, &f)
                              : tl_restore_new(&run.config, &restore);
    if (v->bytes != NULL && rc == 0) {
        rc = tl_restore_feed(restore, v->bytes, v->size);
        rc = rc == 0 ? tl_restore_done(restore, &f) : rc;
    }
    if (rc != 0) {
        abort();
    }
    return f;
}

static void start_server(struct server *s) {
    tl_reader_free(s->reader);
    tl_fold_free(s->fold);
    s->fold = saved_fold(&run.saved[below(2) == 0 && run.saved[1].bytes != NULL]);
    s->reader = NULL;
    if (tl_reader_new(&run.log, 0, tl_fold_position(s->fold), SIM_FLOATS, &s->reader) !=
        0) {
        abort();
    }
}

/* Slower than the oldest snapshot kept: what it would need nobody keeps for it. */
static bool is_behind(const struct server *s) {
    return tl_fold_position(s->fold) < run.saved[1].position;
}

static void serve(struct server *s) {
    struct tl_reader_item item;
    for (uint64_t n = 1 + below(12); n > 0 && s->reader != NULL && !run.is_broken;
         n--) {
        int rc = tl_reader_next(s->reader, &item);
        if (rc == 0) {
            fold_item(s, &item);
        } else if (rc == TL_E_NOTFOUND && is_behind(s)) {
            start_server(s);
        } else if (rc == TL_E_NOTFOUND && run.is_cut) {
            tl_reader_free(s->reader); /* aloud, and no further */
            s->reader = NULL;
        } else if (rc != TL_E_BUSY) {
            fail("what a server needs is in the log");
        }
    }
}

/* Save a state, then let go of what nobody needs who begins at the oldest one kept. */
static void save(const struct server *s) {
    struct tl_cut *cut;
    const void *bytes;
    size_t size;
    if (tl_fold_position(s->fold) <= run.saved[0].position ||
        tl_fold_cut(s->fold, &cut) != 0) {
        return;
    }
    free(run.saved[1].bytes);
    run.saved[1] = run.saved[0];
    struct saved *v = &run.saved[0];
    *v = (struct saved){.position = tl_cut_position(cut)};
    v->bytes = malloc(tl_cut_bytes(cut));
    for (size_t i = 0; v->bytes != NULL && tl_cut_segment(cut, i, &bytes, &size); i++) {
        memcpy(v->bytes + v->size, bytes, size);
        v->size += size;
    }
    tl_cut_release(cut);
    if (run.saved[1].bytes != NULL && tl_log_trim(&run.log, 0, run.saved[1].position,
                                                  run.saved[0].position, 0) != 0) {
        fail("a log can be trimmed");
    }
}

/* ---- the run
 * ---------------------------------------------------------------------------- */

static void step(void) {
    struct server *s = &run.servers[below(SERVERS)];
    switch (below(12)) {
    case 0:
        start_server(s);
        break;
    case 1:
        save(s);
        break;
    case 2:
        if (below(40) == 0 && run.last > run.first + 4) {
            run.is_cut = true;
            (void)trim(&run.log, 0, run.first + 3, 0, 0);
        }
        break;
    case 3:
    case 4:
    case 5:
        serve(s);
        break;
    default:
        work((uint32_t)below(WORKERS));
        break;
    }
}

/* Read to the end: what is durable is folded, once. */
static void check_end(void) {
    struct server *s = &run.servers[0];
    for (int n = 0; n < (int)ENTRIES && s->reader != NULL; n++) {
        serve(s);
    }
    for (uint32_t w = 0; w < WORKERS && s->reader != NULL && !run.is_broken; w++) {
        struct tl_fold_worker known;
        bool is_in = run.durable[w] == 0 || (tl_fold_worker(s->fold, w, &known) == 0 &&
                                             known.sequence >= run.durable[w] &&
                                             known.folded == known.sequence);
        if (!is_in) {
            fail("what is durable is folded once");
        }
    }
}

static void release(void) {
    for (size_t i = 0; i < SERVERS; i++) {
        tl_reader_free(run.servers[i].reader);
        tl_fold_free(run.servers[i].fold);
    }
    for (size_t i = 0; i < KEEP; i++) {
        free(run.saved[i].bytes);
    }
    for (size_t i = 0; i < ENTRIES; i++) {
        free(run.entries[i].bytes);
    }
}

bool sim_log_run(uint64_t seed, char *ret_verdict, size_t size) {
    memset(&run, 0, sizeof(run));
    run.random = seed;
    run.verdict = ret_verdict;
    run.size = size;
    run.first = 1;
    run.log.ops = &model;
    run.log.identity = 7;
    run.log.shards = 1;
    run.log.max_entry_bytes = ENTRY;
    run.log.span = entry_span(entry_parts(ENTRY, SIM_FLOATS * sizeof(float)), WORKERS);
    run.config =
        (struct tl_fold_config){.shards = 1,
                                .count = SIM_FLOATS,
                                .spare_copies = 1,
                                .optimizer = {.learning_rate = 0.5, .momentum = 0.5}};
    for (size_t i = 0; i < SERVERS; i++) {
        start_server(&run.servers[i]);
    }
    for (uint64_t n = 100 + below(300); n > 0 && !run.is_broken; n--) {
        step();
    }
    check_end();
    release();
    return !run.is_broken;
}
