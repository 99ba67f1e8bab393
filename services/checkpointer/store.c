/* store.c - the store and the thread that waits for it.
 *
 * Everything that may take as long as a network likes is done here: opening the store,
 * finding where an earlier process left off, writing, publishing, pruning. The loop
 * hands over one spooled state per shard and gets a result back; `wake_fd` tells it to
 * look. Stopping cancels what is under way. */
#include "checkpointer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define RETRY_MS    2000
#define PIECE_BYTES (256u << 10) /* 4 ms at a walk: nobody who waits notices */

static void wake(const struct store_thread *t) {
    const uint64_t one = 1;
    if (write(t->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN) {
        tl_log_line(TL_ERROR, "cannot wake the loop", "why", strerror(errno), NULL);
    }
}

static void log_notice(void *ctx, const char *text) {
    (void)ctx;
    tl_log_line(TL_WARNING, "store", "why", text, NULL);
}

/* ---- opening ------------------------------------------------------------------ */

/* Where an earlier process left off: the newest snapshot that is complete. */
static int continue_from(struct store_thread *t, struct tl_store *store, uint32_t shard,
                         struct origin *ret) {
    struct tl_manifest *list = NULL;
    size_t count = 0;
    int r = tl_snapshot_list(store, shard, &list, &count);
    if (r < 0) {
        return r;
    }
    r = TL_E_NOTFOUND;
    for (size_t i = 0; i < count && (r == TL_E_NOTFOUND || r == TL_E_CORRUPT); i++) {
        r = tl_snapshot_check(store, &list[i]);
        if (r == 0) {
            *ret =
                (struct origin){true, list[i].version, list[i].epoch, list[i].position};
            trim_want(t, &list[i]);
        }
    }
    tl_manifests_free(list, count);
    return r == TL_E_NOTFOUND || r == TL_E_CORRUPT ? 0 : r;
}

/* The handle is known from its first moment on, so that it can be cancelled. */
static int open_store(struct store_thread *t) {
    struct tl_store *store = NULL;
    int r = tl_store_open(t->job->store, &t->job->s3, &store);
    if (r < 0) {
        return r;
    }
    tl_store_listen(store, log_notice, NULL);
    (void)pthread_mutex_lock(&t->lock);
    t->store = store;
    const bool is_stopping = t->is_stopping;
    (void)pthread_mutex_unlock(&t->lock);
    r = is_stopping ? tl_fail(TL_E_INTERRUPTED, "stopped") : store->ops->sweep(store);
    for (uint32_t i = 0; i < t->job->shards && r == 0; i++) {
        r = continue_from(t, store, i, &t->origins[i]);
    }
    if (r == 0) {
        trim_try(t);
    }
    return r;
}

static void close_store(struct store_thread *t) {
    (void)pthread_mutex_lock(&t->lock);
    struct tl_store *store = t->store;
    t->store = NULL;
    (void)pthread_mutex_unlock(&t->lock);
    tl_store_close(store);
}

/* A store that cannot be reached now may be later: a volume is mounted, a disk gets
 * room. */
static void try_to_open(struct store_thread *t) {
    const int r = open_store(t);
    if (r < 0) {
        char why[sizeof(t->open_why)];
        (void)snprintf(why, sizeof(why), "%s", tl_error_text());
        close_store(t);
        (void)tl_fail(r, "%s", why);
    }
    (void)pthread_mutex_lock(&t->lock);
    t->is_open = r == 0;
    t->open_error = r;
    (void)snprintf(t->open_why, sizeof(t->open_why), "%s",
                   r < 0 ? tl_error_text() : "");
    (void)pthread_mutex_unlock(&t->lock);
    wake(t);
}

/* ---- one snapshot ------------------------------------------------------------- */

/* Less than a second: a piece is small. */
static void rest(double seconds) {
    const struct timespec t = {0, (long)(seconds * 1e9)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static int copy_spool(struct store_thread *t, const struct upload *u,
                      struct tl_snapshot_writer *w) {
    struct tl_tempo tempo =
        tl_tempo_of(tl_now_seconds(), u->spool.size, t->job->shards, u->interval_ms);
    unsigned char *piece = malloc(PIECE_BYTES);
    int r = piece == NULL ? tl_fail(TL_E_NOMEM, "no memory to store a state") : 0;
    for (uint64_t at = 0; at < u->spool.size && r == 0;) {
        size_t n = 0;
        r = spool_read(&u->spool, at, piece, PIECE_BYTES, &n);
        if (r == 0) {
            r = tl_snapshot_write(w, piece, n);
        }
        if (r == 0 && !atomic_load(&t->is_urgent)) {
            rest(tl_tempo_rest_s(&tempo, tl_now_seconds(), n));
        }
        at += n;
    }
    free(piece);
    return r;
}

static int write_snapshot(struct store_thread *t, struct upload *u) {
    const struct tl_snapshot_options options = {
        .zstd_level = t->job->checkpoint_zstd,
        .part_bytes = t->job->checkpoint_part,
        .keep = t->job->checkpoint_keep,
    };
    struct tl_manifest m;
    struct tl_snapshot_writer *w = NULL;
    int r = tl_snapshot_begin(t->store, &u->meta, &options, &w);
    if (r < 0) {
        return r;
    }
    r = copy_spool(t, u, w);
    if (r < 0) {
        tl_snapshot_abandon(w);
        return r;
    }
    r = tl_snapshot_finish(w, &m);
    if (r < 0) {
        return r;
    }
    for (uint32_t i = 0; i < m.part_count; i++) {
        u->stored += m.parts[i].bytes;
    }
    tl_manifest_done(&m);
    return 0;
}

/* The new snapshot is safe by now: that old ones stay is a matter of space alone. */
static void prune(struct store_thread *t, struct upload *u) {
    const int r =
        tl_snapshot_prune(t->store, u->meta.shard, t->job->checkpoint_keep, &u->pruned);
    if (r < 0) {
        tl_log_line(TL_WARNING, "old snapshots stay", "shard",
                    tl_text_u64(u->meta.shard), "error", tl_error_name(r), "why",
                    tl_error_text(), NULL);
    }
}

static void carry_out(struct store_thread *t, struct upload *u) {
    u->stored = 0;
    u->pruned = 0;
    int r = write_snapshot(t, u);
    (void)snprintf(u->why, sizeof(u->why), "%s", r < 0 ? tl_error_text() : "");
    if (r == 0) {
        prune(t, u);
    }
    u->ended_ms = tl_now_ms();
    if (r == 0) {
        trim_want(t, &u->meta);
        trim_try(t);
    }
    spool_close(&u->spool);
    (void)pthread_mutex_lock(&t->lock);
    u->result = r;
    u->step = UPLOAD_ENDED;
    (void)pthread_mutex_unlock(&t->lock);
    wake(t);
}

/* ---- the thread --------------------------------------------------------------- */

/* The one that has waited for longest. */
static struct upload *next_upload(struct store_thread *t) {
    struct upload *next = NULL;
    for (uint32_t i = 0; i < t->job->shards; i++) {
        struct upload *u = &t->uploads[i];
        if (u->step == UPLOAD_WAITING && (next == NULL || u->turn < next->turn)) {
            next = u;
        }
    }
    return next;
}

static bool wait_until(struct store_thread *t, const struct timespec *until) {
    return pthread_cond_timedwait(&t->change, &t->lock, until) != ETIMEDOUT;
}

static struct timespec retry_time(void) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += RETRY_MS / 1000;
    return until;
}

/* With the lock held: until there is something to do. */
static void wait_for_work(struct store_thread *t) {
    const struct timespec until = retry_time();
    if (!t->is_open) {
        while (!t->is_stopping && wait_until(t, &until)) {
        }
    } else if (t->must_trim && !t->is_stopping && next_upload(t) == NULL) {
        (void)wait_until(t, &until);
    } else {
        while (!t->is_stopping && next_upload(t) == NULL) {
            (void)pthread_cond_wait(&t->change, &t->lock);
        }
    }
}

/* With the lock held; it is free while something is being done. */
static void work_once(struct store_thread *t) {
    struct upload *u = t->is_open ? next_upload(t) : NULL;
    bool is_open = t->is_open;
    if (u != NULL) {
        u->step = UPLOAD_RUNNING;
    }
    (void)pthread_mutex_unlock(&t->lock);
    if (u != NULL) {
        carry_out(t, u);
    } else if (!is_open) {
        try_to_open(t);
    } else if (t->must_trim) {
        trim_try(t);
    }
    (void)pthread_mutex_lock(&t->lock);
    wait_for_work(t);
}

static void *work(void *ctx) {
    struct store_thread *t = ctx;
    step_back();
    (void)pthread_mutex_lock(&t->lock);
    while (!t->is_stopping) {
        work_once(t);
    }
    (void)pthread_mutex_unlock(&t->lock);
    close_store(t);
    return NULL;
}

int store_start(struct store_thread *t, const struct tl_job *job, const char *run,
                const char *redis) {
    pthread_condattr_t monotonic;
    *t = (struct store_thread){.job = job, .run = run, .redis = redis, .wake_fd = -1};
    t->trims = calloc(job->shards, sizeof(*t->trims));
    t->uploads = calloc(job->shards, sizeof(*t->uploads));
    t->origins = calloc(job->shards, sizeof(*t->origins));
    if (t->trims == NULL || t->uploads == NULL || t->origins == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for %u shards", job->shards);
    }
    for (uint32_t i = 0; i < job->shards; i++) {
        t->uploads[i].spool.fd = -1;
    }
    t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->wake_fd < 0) {
        return tl_fail(TL_E_LIMIT, "no event descriptor: %s", strerror(errno));
    }
    (void)pthread_mutex_init(&t->lock, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&t->change, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    const int error = pthread_create(&t->thread, NULL, work, t);
    t->is_started = error == 0;
    return t->is_started
               ? 0
               : tl_fail(TL_E_LIMIT, "no thread for the store: %s", strerror(error));
}

void store_stop(struct store_thread *t) {
    if (t->is_started) {
        (void)pthread_mutex_lock(&t->lock);
        t->is_stopping = true;
        atomic_store(&t->is_urgent, true);
        if (t->store != NULL) {
            tl_store_cancel(t->store);
        }
        (void)pthread_cond_signal(&t->change);
        (void)pthread_mutex_unlock(&t->lock);
        (void)pthread_join(t->thread, NULL);
        (void)pthread_cond_destroy(&t->change);
        (void)pthread_mutex_destroy(&t->lock);
    }
    for (uint32_t i = 0; t->uploads != NULL && i < t->job->shards; i++) {
        spool_close(&t->uploads[i].spool);
    }
    if (t->wake_fd >= 0) {
        (void)close(t->wake_fd);
    }
    tl_log_close(t->log);
    t->log = NULL;
    free(t->trims);
    free(t->uploads);
    free(t->origins);
    t->trims = NULL;
    t->uploads = NULL;
    t->origins = NULL;
    t->wake_fd = -1;
}

/* ---- from the loop ------------------------------------------------------------ */

void store_submit(struct store_thread *t, const struct tl_manifest *meta,
                  struct spool *spool, int64_t interval_ms) {
    (void)pthread_mutex_lock(&t->lock);
    struct upload *u = &t->uploads[meta->shard];
    u->meta = *meta;
    u->spool = *spool;
    u->turn = t->submitted++;
    u->interval_ms = interval_ms;
    u->step = UPLOAD_WAITING;
    (void)pthread_cond_signal(&t->change);
    (void)pthread_mutex_unlock(&t->lock);
    spool->fd = -1;
}

bool store_take(struct store_thread *t, uint32_t shard, struct upload *ret_upload) {
    (void)pthread_mutex_lock(&t->lock);
    struct upload *u = &t->uploads[shard];
    const bool has_ended = u->step == UPLOAD_ENDED;
    if (has_ended) {
        *ret_upload = *u;
        u->step = UPLOAD_NONE;
    }
    (void)pthread_mutex_unlock(&t->lock);
    return has_ended;
}

int store_state(struct store_thread *t, char why[TL_STORE_WHY_MAX]) {
    uint64_t count = 0;
    if (read(t->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN) {
        tl_log_line(TL_ERROR, "cannot read the wake-up", "why", strerror(errno), NULL);
    }
    (void)pthread_mutex_lock(&t->lock);
    const int state = t->is_open ? 0 : t->open_error < 0 ? t->open_error : TL_E_BUSY;
    (void)snprintf(why, TL_STORE_WHY_MAX, "%s", t->open_why);
    (void)pthread_mutex_unlock(&t->lock);
    return state;
}
