/* log_verify.c - fold a log again, alone, and compare with what the servers left.
 *
 * The fold begins at the run's seed, or, where the log was trimmed, at the oldest
 * checkpoint that can be brought forward. At the newest checkpoint's position the state
 * must be the same bit for bit: weights, optimizer, tables. Beyond it the rest of the
 * log is folded too: what the workers' ledgers say was acknowledged must be there.
 *
 * The run may be going on: its checkpointer then removes checkpoints and trims the log
 * below the reader's feet. Who is overtaken chooses anew, and begins nearer to the end.
 */
#include "throughline/fold.h"
#include "throughline/nn.h"
#include "throughline/snapshot.h"

#include "log.h"
#include "log_read.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define OVERTAKEN_MOST 10u /* times that one shard begins anew */

struct check {
    const struct tl_log_view *view;
    struct tl_log_verdict *verdict;
    struct tl_fold *fold;
    const struct tl_manifest *newest; /* NULL: no checkpoint */
    bool began_ended;   /* ... at a checkpoint taken after the job's end */
    bool began_at_seed; /* the whole log is there */
    uint64_t first;     /* position that the log began with */
    uint64_t last;      /* ... up to which is read; 0: nothing was found */
    uint64_t applied[TL_WORKER_LIMIT]; /* last sequence that was folded */
    uint64_t seen[TL_WORKER_LIMIT];    /* ... that is in the log, or was settled before
                                          it begins */
    uint64_t said[TL_WORKER_LIMIT];    /* ... that a ledger says was acknowledged */
};

/* ---- the state's bytes ----------------------------------------------------------- */

static int digest_cut(struct tl_fold *f, char ret_hex[65]) {
    struct tl_cut *cut = NULL;
    struct tl_digest *digest = NULL;
    const void *bytes = NULL;
    size_t n = 0;
    int rc = tl_fold_cut(f, &cut);
    if (rc != 0) {
        return rc;
    }
    rc = tl_digest_new(&digest);
    for (size_t i = 0; rc == 0 && tl_cut_segment(cut, i, &bytes, &n); i++) {
        rc = tl_digest_feed(digest, bytes, n);
    }
    rc = rc == 0 ? tl_digest_end(digest, ret_hex) : rc;
    tl_digest_free(digest);
    tl_cut_release(cut);
    return rc;
}

/* The epoch is whose snapshot it was, and in no log: it is taken from there. */
static int compare(struct check *c) {
    struct tl_log_verdict *v = c->verdict;
    const struct tl_manifest *m = c->newest;
    v->version = tl_fold_version(c->fold);
    int rc =
        tl_fold_epoch(c->fold) < m->epoch ? tl_fold_take_over(c->fold, m->epoch) : 0;
    rc = rc == 0 ? digest_cut(c->fold, v->digest) : rc;
    v->same_bits =
        rc == 0 && v->version == m->version && strcmp(v->digest, m->digest) == 0;
    return rc;
}

/* ---- folding --------------------------------------------------------------------- */

static void judge_gradient(struct check *c, const struct tl_record *r, int status) {
    struct tl_log_verdict *v = c->verdict;
    if (status == 0) {
        v->folded++;
        v->doubled += r->sequence <= c->applied[r->worker];
        c->applied[r->worker] = r->sequence;
    } else if (status == TL_E_DUPLICATE) {
        v->again++;
    } else if (status == TL_E_ENDED || status == TL_E_FENCED) {
        v->after++;
    } else {
        v->refused++;
    }
}

/* A worker appends in the order of its sequences: one that was left out is missing. */
static void note_gradient(struct check *c, const struct tl_record *r) {
    uint64_t *seen = &c->seen[r->worker];
    if (c->began_at_seed && r->sequence > *seen + 1) {
        c->verdict->lost += r->sequence - *seen - 1;
    }
    *seen = r->sequence > *seen ? r->sequence : *seen;
}

static int fold_entry(void *ctx, struct tl_reader_item *item) {
    struct check *c = ctx;
    struct tl_fold_effect effect;
    c->verdict->entries++;
    if (!item->has_record) {
        tl_fold_pass(c->fold);
    } else {
        struct tl_record *r = &item->record;
        r->position = item->position;
        r->epoch = tl_fold_epoch(c->fold);
        int status = tl_fold_apply(c->fold, r, &effect);
        if (status == TL_E_INVALID) {
            return status;
        }
        if (r->kind == TL_RECORD_GRADIENT && r->worker < TL_WORKER_LIMIT) {
            note_gradient(c, r);
            judge_gradient(c, r, status);
        }
    }
    bool is_there = c->newest != NULL && item->position == c->newest->position;
    return is_there ? compare(c) : 0;
}

/* ---- where to begin -------------------------------------------------------------- */

static int begin_at_seed(struct check *c, const struct tl_fold_config *config) {
    struct tl_nn *nn = NULL;
    float *weights = malloc(c->view->parameters * sizeof(*weights));
    int rc = weights != NULL
                 ? tl_nn_new(c->view->job->model, c->view->job->model_source, 1, &nn)
                 : tl_fail(TL_E_NOMEM, "no memory for the weights");
    c->began_at_seed = true;
    if (rc == 0) {
        tl_nn_init(nn, c->view->job->seed, weights);
        rc = tl_fold_new(config, weights + config->first, &c->fold);
    }
    tl_nn_free(nn);
    free(weights);
    return rc;
}

static int feed(void *ctx, const void *bytes, size_t size) {
    return tl_restore_feed(ctx, bytes, size);
}

static int begin_at_checkpoint(struct check *c, struct tl_store *store,
                               const struct tl_manifest *m,
                               const struct tl_fold_config *config) {
    struct tl_restore *restore = NULL;
    int rc = tl_restore_new(config, &restore);
    rc = rc == 0 ? tl_snapshot_read(store, m, feed, restore) : rc;
    rc = rc == 0 ? tl_restore_done(restore, &c->fold) : rc;
    if (rc != 0) {
        tl_restore_free(restore);
        return rc;
    }
    c->verdict->folded = tl_fold_counters(c->fold).folded;
    for (uint32_t w = 0; w < TL_WORKER_LIMIT; w++) {
        struct tl_fold_worker known;
        c->applied[w] = tl_fold_worker(c->fold, w, &known) == 0 ? known.sequence : 0;
        c->seen[w] = c->applied[w];
    }
    c->began_ended =
        config->until_version > 0 && tl_fold_version(c->fold) >= config->until_version;
    return 0;
}

/* The oldest one that the log goes on from, up to the newest; after each time that we
 * were overtaken the one after that, as long as it is not the newest, with which
 * nothing would be compared. The newest comes first in the list. */
static const struct tl_manifest *choose(const struct check *c,
                                        const struct tl_manifest *list, size_t count,
                                        uint64_t first) {
    const struct tl_manifest *chosen = NULL;
    uint32_t older = 0;
    for (size_t i = count; i-- > 0 && older <= c->verdict->overtaken;) {
        const struct tl_manifest *m = &list[i];
        bool goes_on = m->part_count > 0 && m->position + 1 >= first &&
                       m->position <= c->newest->position;
        if (goes_on && (chosen == NULL || m != c->newest)) {
            chosen = m;
            older++;
        }
    }
    return chosen;
}

static int begin(struct check *c, struct tl_store *store,
                 const struct tl_manifest *list, size_t count, uint64_t first) {
    struct tl_fold_config config;
    tl_job_fold_config(c->view->job, c->view->parameters, c->verdict->shard, &config);
    if (first == 1) {
        return begin_at_seed(c, &config);
    }
    const struct tl_manifest *chosen = choose(c, list, count, first);
    if (chosen == NULL) {
        return tl_fail(TL_E_NOTFOUND,
                       "shard %" PRIu32 ": the log begins at position %" PRIu64
                       ", and no checkpoint reaches up to it",
                       c->verdict->shard, first);
    }
    c->verdict->from = chosen->position;
    return begin_at_checkpoint(c, store, chosen, &config);
}

/* ---- ledgers --------------------------------------------------------------------- */

/* The last sequence that a worker saw acknowledged: its ledger's fourth number. */
static uint64_t acknowledged(const struct tl_log_view *v, uint32_t worker) {
    char path[TL_PATH_MAX + 32];
    uint64_t record[8] = {0};
    (void)snprintf(path, sizeof(path), "%s/ledger-%" PRIu32, v->ledgers, worker);
    FILE *f = fopen(path, "rbe");
    if (f == NULL) {
        return 0;
    }
    size_t n = fread(record, sizeof(record), 1, f);
    (void)fclose(f);
    return n == 1 ? record[3] : 0;
}

/* Before the log's end is asked for: a worker that goes on has more acknowledged. */
static void read_ledgers(struct check *c) {
    for (uint32_t w = 0; c->view->ledgers[0] != '\0' && w < c->view->job->workers;
         w++) {
        c->said[w] = acknowledged(c->view, w);
    }
}

/* Every gradient that was acknowledged is in the log, whatever became of it there. One
 * that came after the end, and before a checkpoint that the log begins with, has left
 * no trace: only then is nothing asked. */
static void join_ledgers(struct check *c) {
    for (uint32_t w = 0; !c->began_ended && w < c->view->job->workers; w++) {
        c->verdict->lost += c->said[w] > c->seen[w] ? c->said[w] - c->seen[w] : 0;
    }
    c->verdict->lost += tl_fold_counters(c->fold).lost;
}

/* ---- a shard --------------------------------------------------------------------- */

static int check_shard(struct check *c, struct tl_store *store) {
    struct tl_manifest *list = NULL;
    size_t count = 0;
    uint32_t shard = c->verdict->shard;
    read_ledgers(c);
    int rc = tl_snapshot_list(store, shard, &list, &count);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < count && c->newest == NULL; i++) {
        c->newest = list[i].part_count > 0 ? &list[i] : NULL;
    }
    c->verdict->has_checkpoint = c->newest != NULL;
    c->verdict->position = c->newest != NULL ? c->newest->position : 0;
    rc = tl_log_bounds(c->view, shard, &c->first, &c->last);
    rc = rc == 0 ? begin(c, store, list, count, c->first) : rc;
    if (rc == 0 && c->newest != NULL && c->verdict->from == c->newest->position) {
        rc = compare(c);
    }
    rc = rc == 0 ? tl_log_read(c->view, shard, c->verdict->from, c->last, fold_entry, c)
                 : rc;
    if (rc == 0) {
        join_ledgers(c);
    }
    tl_fold_free(c->fold);
    tl_manifests_free(list, count);
    return rc;
}

/* Something that was needed is not there: because the log has been trimmed since, or
 * the checkpoint removed? What was missing before is damage, and said. */
static bool was_overtaken(const struct check *c, struct tl_store *store) {
    struct tl_manifest *list = NULL;
    size_t count = 0;
    uint64_t first = 0;
    uint64_t last = 0;
    bool is_listed = false;
    uint32_t shard = c->verdict->shard;
    if (tl_log_bounds(c->view, shard, &first, &last) == 0 && first > c->first) {
        return true;
    }
    if (tl_snapshot_list(store, shard, &list, &count) != 0) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        is_listed = is_listed || list[i].position == c->verdict->from;
    }
    tl_manifests_free(list, count);
    return !is_listed;
}

int tl_log_verify_shard(const struct tl_log_view *v, uint32_t shard,
                        struct tl_log_verdict *ret_verdict) {
    struct tl_store *store = NULL;
    struct check *c = malloc(sizeof(*c));
    int rc = c != NULL ? tl_store_open_existing(v->job->store, &v->job->s3, &store)
                       : tl_fail(TL_E_NOMEM, "no memory to verify with");
    for (uint32_t n = 0; store != NULL && n <= OVERTAKEN_MOST; n++) {
        *ret_verdict = (struct tl_log_verdict){.shard = shard, .overtaken = n};
        *c = (struct check){.view = v, .verdict = ret_verdict};
        rc = check_shard(c, store);
        if (rc != TL_E_NOTFOUND || c->last == 0 || !was_overtaken(c, store)) {
            break;
        }
    }
    tl_store_close(store);
    free(c);
    return rc;
}

bool tl_log_verdict_is_good(const struct tl_log_verdict *v) {
    return v->lost == 0 && v->doubled == 0 && (v->same_bits || !v->has_checkpoint);
}

/* ---- all of them ----------------------------------------------------------------- */

static json_t *verdict_json(const struct tl_log_verdict *v) {
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
        "shard", (json_int_t)v->shard, "from", (json_int_t)v->from, "overtaken",
        (json_int_t)v->overtaken, "position", (json_int_t)v->position, "version",
        (json_int_t)v->version, "digest", v->digest, "has_checkpoint",
        v->has_checkpoint, "same_bits", v->same_bits, "entries", (json_int_t)v->entries,
        "folded", (json_int_t)v->folded, "again", (json_int_t)v->again, "refused",
        (json_int_t)v->refused, "after", (json_int_t)v->after, "lost",
        (json_int_t)v->lost, "duplicated", (json_int_t)v->doubled);
}

static void print_verdict(const struct tl_log_verdict *v, FILE *out) {
    (void)fprintf(out,
                  "shard %" PRIu32 ": folded again from position %" PRIu64 ": %" PRIu64
                  " gradients in, %" PRIu64 " arrived again, %" PRIu64
                  " refused, %" PRIu64 " after the end\n",
                  v->shard, v->from, v->folded, v->again, v->refused, v->after);
    if (v->has_checkpoint) {
        (void)fprintf(out,
                      "  at position %" PRIu64 ", version %" PRIu64
                      ": digest %.16s..., %s "
                      "the newest checkpoint%s\n",
                      v->position, v->version, v->digest,
                      v->same_bits ? "same bits as" : "NOT the bits of",
                      v->from == v->position && v->position > 0
                          ? ", which the fold began with: there is no older one"
                          : "");
    }
}

static void print_sum(const struct tl_log_verdict *sum, FILE *out) {
    (void)fprintf(out, "%" PRIu64 " lost, %" PRIu64 " duplicated, %s\n", sum->lost,
                  sum->doubled,
                  !sum->has_checkpoint ? "no checkpoint to compare with"
                  : sum->same_bits     ? "same bits"
                                       : "OTHER BITS");
}

int tl_log_verify(const struct tl_log_view *v, uint32_t only_shard, bool json,
                  FILE *out) {
    struct tl_log_verdict sum = {.same_bits = true};
    json_t *rows = json ? json_array() : NULL;
    bool is_good = true;
    int rc = 0;
    for (uint32_t s = 0; s < v->job->shards && rc == 0; s++) {
        struct tl_log_verdict one = {0};
        if (only_shard != UINT32_MAX && only_shard != s) {
            continue;
        }
        rc = tl_log_verify_shard(v, s, &one);
        if (rc != 0) {
            break;
        }
        is_good = is_good && tl_log_verdict_is_good(&one);
        sum.lost += one.lost;
        sum.doubled += one.doubled;
        sum.same_bits = sum.same_bits && (one.same_bits || !one.has_checkpoint);
        sum.has_checkpoint = sum.has_checkpoint || one.has_checkpoint;
        if (json) {
            (void)json_array_append_new(rows, verdict_json(&one));
        } else {
            print_verdict(&one, out);
        }
    }
    if (rc == 0 && json) {
        (void)json_dumpf(rows, out, JSON_INDENT(2));
        (void)fputc('\n', out);
    } else if (rc == 0) {
        print_sum(&sum, out);
    }
    json_decref(rows);
    return rc != 0 || is_good ? rc
                              : tl_fail(TL_E_CORRUPT, "the log and the checkpoints are "
                                                      "not what they should be");
}
