/* log_read.c - a log's entries for people: the last ones, and totals of all. */
#include "log_read.h"

#include "throughline/fold.h"
#include "throughline/service.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>

#define SILENCE_MS 30000 /* a broker may be coming back */

/* ---- reading to an end ----------------------------------------------------------- */

static int next(struct tl_reader *r, struct tl_reader_item *ret_item) {
    int64_t deadline_ms = tl_now_ms() + SILENCE_MS;
    int rc = 0;
    while ((rc = tl_reader_next(r, ret_item)) == TL_E_BUSY) {
        struct pollfd p = {.fd = tl_reader_fd(r), .events = POLLIN};
        char why[256];
        if (tl_now_ms() >= deadline_ms) {
            tl_reader_trouble(r, why, sizeof(why));
            return tl_fail(TL_E_TIMEOUT, "the log gives nothing more: %s",
                           why[0] != '\0' ? why : "and does not say why");
        }
        (void)poll(&p, 1, 200);
    }
    return rc;
}

int tl_log_bounds(const struct tl_log_view *v, uint32_t shard, uint64_t *ret_first,
                  uint64_t *ret_last) {
    uint64_t after = 0;
    int rc = tl_log_range(v->log, shard, tl_now_ms() + SILENCE_MS, ret_first, &after);
    *ret_last = after - 1;
    return rc;
}

int tl_log_read(const struct tl_log_view *v, uint32_t shard, uint64_t position,
                uint64_t last, int (*each)(void *ctx, struct tl_reader_item *item),
                void *ctx) {
    uint64_t first = 0;
    uint64_t count = 0;
    struct tl_reader *r = NULL;
    if (position >= last) {
        return 0;
    }
    tl_shard_slice(v->parameters, v->job->shards, shard, &first, &count);
    int rc = tl_reader_new(v->log, shard, position, count, &r);
    while (rc == 0 && position < last) {
        struct tl_reader_item item;
        rc = next(r, &item);
        if (rc == 0) {
            position = item.position;
            rc = each(ctx, &item);
        }
    }
    tl_reader_free(r);
    return rc;
}

/* ---- tail ------------------------------------------------------------------------ */

static const char *kind_name(const struct tl_reader_item *item) {
    static const char *const names[] = {"?", "gradient", "join", "leave", "rate"};
    unsigned kind = item->has_record ? (unsigned)item->record.kind : 0;
    return !item->has_record ? "part" : kind < 5 ? names[kind] : names[0];
}

static int print_entry(void *ctx, struct tl_reader_item *item) {
    const bool *json = ctx;
    const struct tl_record *r = &item->record;
    (void)printf(
        *json ? "{\"position\": %" PRIu64 ", \"kind\": \"%s\", \"worker\": %" PRIu32
                ", \"incarnation\": %" PRIu64 ", \"sequence\": %" PRIu64
                ", \"read_version\": %" PRIu64 ", \"encoding\": \"%s\", "
                "\"bytes\": %zu}\n"
              : "%12" PRIu64 "  %-8s  %6" PRIu32 "  %11" PRIu64 "  %10" PRIu64
                "  %12" PRIu64 "  %-8s  %10zu\n",
        item->position, kind_name(item), r->worker, r->incarnation, r->sequence,
        r->read_version, tl_encoding_names[r->encoding], item->bytes);
    return 0;
}

static int tail_shard(const struct tl_log_view *v, const struct tl_log_options *o,
                      uint32_t shard) {
    uint64_t first = 0;
    uint64_t last = 0;
    int rc = tl_log_bounds(v, shard, &first, &last);
    if (rc != 0) {
        return rc;
    }
    uint64_t from = first - 1;
    if (o->count > 0 && last > from + o->count) {
        from = last - o->count;
    }
    if (!o->json) {
        (void)printf("shard %" PRIu32
                     "\n%12s  %-8s  %6s  %11s  %10s  %12s  %-8s  %10s\n",
                     shard, "position", "kind", "worker", "incarnation", "sequence",
                     "read_version", "encoding", "bytes");
    }
    bool json = o->json;
    return tl_log_read(v, shard, from, last, print_entry, &json);
}

int tl_log_tail(const struct tl_log_view *v, const struct tl_log_options *o) {
    int rc = 0;
    for (uint32_t s = 0; s < v->job->shards && rc == 0; s++) {
        bool is_wanted = o->only_shard == UINT32_MAX || o->only_shard == s;
        rc = is_wanted ? tail_shard(v, o, s) : 0;
    }
    return rc;
}

/* ---- stats ----------------------------------------------------------------------- */

struct totals {
    uint64_t entries, bytes, gradients, joins, leaves, rates, parts;
    double seconds;
};

static int count(void *ctx, struct tl_reader_item *item) {
    struct totals *t = ctx;
    t->entries++;
    t->bytes += item->bytes;
    t->parts += !item->has_record;
    t->gradients += item->has_record && item->record.kind == TL_RECORD_GRADIENT;
    t->joins += item->has_record && item->record.kind == TL_RECORD_JOIN;
    t->leaves += item->has_record && item->record.kind == TL_RECORD_LEAVE;
    t->rates += item->has_record && item->record.kind == TL_RECORD_RATE;
    return 0;
}

static int stats_shard(const struct tl_log_view *v, uint32_t shard, json_t *rows) {
    struct totals t = {0};
    uint64_t first = 0;
    uint64_t last = 0;
    int rc = tl_log_bounds(v, shard, &first, &last);
    double began = tl_now_seconds();
    rc = rc == 0 ? tl_log_read(v, shard, first - 1, last, count, &t) : rc;
    t.seconds = tl_now_seconds() - began;
    if (rc != 0) {
        return rc;
    }
    if (rows != NULL) {
        (void)json_array_append_new(
            rows,
            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f}",
                      "shard", (json_int_t)shard, "first", (json_int_t)first, "last",
                      (json_int_t)last, "entries", (json_int_t)t.entries, "bytes",
                      (json_int_t)t.bytes, "gradients", (json_int_t)t.gradients,
                      "joins", (json_int_t)t.joins, "leaves", (json_int_t)t.leaves,
                      "rates", (json_int_t)t.rates, "parts", (json_int_t)t.parts,
                      "seconds", t.seconds));
        return 0;
    }
    (void)printf("shard %" PRIu32 ": positions %" PRIu64 " to %" PRIu64 ", %" PRIu64
                 " entries, %" PRIu64 " bytes; %" PRIu64 " gradients, %" PRIu64
                 " joins, %" PRIu64 " leaves, %" PRIu64 " rates, %" PRIu64
                 " parts; read in %.2f s\n",
                 shard, first, last, t.entries, t.bytes, t.gradients, t.joins, t.leaves,
                 t.rates, t.parts, t.seconds);
    return 0;
}

int tl_log_stats(const struct tl_log_view *v, const struct tl_log_options *o) {
    json_t *rows = o->json ? json_array() : NULL;
    int rc = 0;
    for (uint32_t s = 0; s < v->job->shards && rc == 0; s++) {
        bool is_wanted = o->only_shard == UINT32_MAX || o->only_shard == s;
        rc = is_wanted ? stats_shard(v, s, rows) : 0;
    }
    if (o->json && rc == 0) {
        (void)json_dumpf(rows, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    }
    json_decref(rows);
    return rc;
}
