/* fake_shard.h - a small but right shard's server on top of fake_server.h, whose
 * replies a test can spoil one by one.
 *
 * Keeps a table of one worker, a version, an epoch and weights that say their version:
 * weights[i] = version + i / 1000. A push raises the version by one. */
#ifndef TL_TESTS_FAKE_SHARD_H
#define TL_TESTS_FAKE_SHARD_H

#include "fake_server.h"

#define FAKE_COUNT_MAX 64u
#define FAKE_LOG_MAX   256u

/* What is done with a request instead of serving it. */
enum fake_act {
    ACT_SERVE,
    ACT_CLOSE,            /* without an answer, nothing done */
    ACT_CLOSE_AFTER_WORK, /* done, but the answer is lost */
    ACT_DAMAGE,           /* done, but a bit of the answer is flipped */
    ACT_SILENCE,          /* no answer at all */
    ACT_STATUS,           /* answered with `status`, nothing done, no payload */
    ACT_ERROR,            /* kind ERROR with `status` */
    ACT_NEW_EPOCH,        /* a new server, in a new epoch at `status` versions back */
    ACT_GO_BACK,          /* served, with a version one lower in the reply */
    ACT_HALVES,           /* served, the last half of the weights after `between` */
};

struct fake_shard {
    struct fake_server server;
    pthread_mutex_t lock;
    /* Asked before each request is served: NULL serves. Under the lock. */
    enum fake_act (*plan)(struct fake_shard *s, const struct tl_header *request);
    int status;            /* of ACT_STATUS and ACT_ERROR */
    void (*between)(void); /* of ACT_HALVES; under the lock */
    uint32_t shard, shards;
    uint64_t parameters, first, count;
    uint8_t consistency;
    bool ignores_norm;
    uint64_t epoch, writer, version;
    uint64_t incarnation, settled; /* the table's entry */
    uint64_t lost;
    bool joined; /* on this connection */
    bool ended;
    bool holds_step; /* sync: pushes do not commit until this is false */
    float last_gradient[FAKE_COUNT_MAX];
    float last_norm;
    uint64_t left_step;
    unsigned connections;
    unsigned asked[32];       /* by kind */
    uint16_t greeted_flags;   /* of the last HELLO */
    uint64_t pulled_sequence; /* of the last PULL */
};

/* ---- serving ------------------------------------------------------------------ */

static inline struct tl_header fake_shard_answer(const struct fake_shard *s,
                                                 const struct tl_header *request,
                                                 enum tl_kind kind, uint64_t length) {
    struct tl_header h = fake_reply(request, kind, length);
    h.epoch = s->epoch;
    h.read_version = s->version;
    h.flags |= s->ended ? TL_FLAG_ENDED : 0;
    return h;
}

static inline struct tl_header fake_serve_hello(struct fake_shard *s,
                                                const struct tl_header *request,
                                                uint8_t *payload) {
    const struct tl_welcome w = {
        .writer = s->writer,
        .shards = s->shards,
        .parameters = s->parameters,
        .first = s->first,
        .count = s->count,
        .consistency = s->consistency,
        .ignores_norm = s->ignores_norm,
    };
    s->joined = false;
    s->greeted_flags = request->flags;
    tl_welcome_encode(&w, payload);
    return fake_shard_answer(s, request, TL_KIND_WELCOME, TL_WELCOME_BYTES);
}

static inline struct tl_header fake_serve_join(struct fake_shard *s,
                                               const struct tl_header *request) {
    struct tl_header h = fake_shard_answer(s, request, TL_KIND_JOINED, 0);
    if (request->incarnation == 0 || request->incarnation < s->incarnation) {
        h.status = TL_E_FENCED;
    } else {
        s->incarnation = request->incarnation;
        s->joined = true;
        if (request->sequence > s->settled) {
            s->lost += request->sequence - s->settled;
            s->settled = request->sequence;
        }
    }
    h.incarnation = s->incarnation;
    h.sequence = s->settled;
    return h;
}

static inline int fake_fold(struct fake_shard *s, const struct tl_header *request,
                            const uint8_t *payload) {
    if (!s->joined || request->incarnation != s->incarnation) {
        return TL_E_NOTJOINED;
    }
    if (request->sequence <= s->settled) {
        return TL_E_DUPLICATE;
    }
    memcpy(s->last_gradient, payload, s->count * sizeof(float));
    s->last_norm = request->norm;
    s->settled = request->sequence;
    s->version += s->holds_step ? 0 : 1;
    return 0;
}

static inline struct tl_header fake_serve_weights(struct fake_shard *s,
                                                  const struct tl_header *request,
                                                  int status, uint8_t *payload) {
    if (request->read_version == s->version) {
        struct tl_header none = fake_shard_answer(s, request, TL_KIND_WEIGHTS, 0);
        none.status = status != 0 ? status : TL_E_NOTMODIFIED;
        return none;
    }
    for (uint64_t i = 0; i < s->count; i++) {
        float w = (float)s->version + (float)(s->first + i) / 1000.0f;
        memcpy(payload + i * sizeof(w), &w, sizeof(w));
    }
    struct tl_header h =
        fake_shard_answer(s, request, TL_KIND_WEIGHTS, s->count * sizeof(float));
    h.status = status;
    return h;
}

static inline struct tl_header fake_shard_serve(struct fake_shard *s,
                                                const struct tl_header *request,
                                                uint8_t *payload) {
    struct tl_header h;
    switch (request->kind) {
    case TL_KIND_HELLO:
        return fake_serve_hello(s, request, payload);
    case TL_KIND_JOIN:
        return fake_serve_join(s, request);
    case TL_KIND_PUSH:
        h = fake_shard_answer(s, request, TL_KIND_ACK, 0);
        h.status = fake_fold(s, request, payload);
        h.read_version = s->version;
        return h;
    case TL_KIND_PUSH_PULL:
        return fake_serve_weights(s, request, fake_fold(s, request, payload), payload);
    case TL_KIND_PULL:
        s->pulled_sequence = request->sequence;
        return fake_serve_weights(s, request, 0, payload);
    case TL_KIND_SHARE: /* payloads go through the socket */
        h = fake_shard_answer(s, request, TL_KIND_SHARED, 0);
        h.status = TL_E_UNSUPPORTED;
        return h;
    case TL_KIND_LEAVE:
        s->left_step = request->position;
        s->joined = false;
        return fake_shard_answer(s, request, TL_KIND_LEFT, 0);
    default:
        return fake_shard_answer(s, request, TL_KIND_PONG, 0);
    }
}

/* ---- spoiling ----------------------------------------------------------------- */

static inline bool fake_shard_send(int fd, struct tl_header *h, const uint8_t *payload,
                                   bool damaged) {
    size_t size = 0;
    uint8_t *frame = fake_frame(h, payload, &size);
    frame[size - 1] ^= damaged ? 1 : 0;
    bool sent = fake_write(fd, frame, size);
    free(frame);
    return sent;
}

static inline bool fake_shard_send_halves(const struct fake_shard *s, int fd,
                                          struct tl_header *h, const uint8_t *payload) {
    size_t size = 0;
    uint8_t *frame = fake_frame(h, payload, &size);
    size_t last = s->count * sizeof(float) / 2 + TL_TRAILER_BYTES;
    bool sent = fake_write(fd, frame, size - last);
    s->between();
    sent = sent && fake_write(fd, frame + size - last, last);
    free(frame);
    return sent;
}

static inline uint8_t fake_reply_kind(uint8_t request) {
    return request == TL_KIND_PUSH_PULL ? TL_KIND_WEIGHTS : (uint8_t)(request + 1);
}

/* What a server that lost its last two versions is like. */
static inline void fake_shard_replace(struct fake_shard *s, uint64_t versions_lost) {
    s->epoch++;
    s->writer++;
    s->version -= versions_lost < s->version ? versions_lost : s->version;
    s->settled -= versions_lost < s->settled ? versions_lost : s->settled;
    s->joined = false;
}

/* False: the connection is to be closed. Under the lock. */
static inline bool fake_shard_act(struct fake_shard *s, int fd, enum fake_act act,
                                  const struct tl_header *request, uint8_t *payload) {
    struct tl_header h;
    switch (act) {
    case ACT_CLOSE:
    case ACT_SILENCE:
        return false;
    case ACT_NEW_EPOCH:
        fake_shard_replace(s, (uint64_t)s->status);
        return false;
    case ACT_STATUS:
        h = fake_shard_answer(s, request, (enum tl_kind)fake_reply_kind(request->kind),
                              0);
        h.status = s->status;
        return fake_shard_send(fd, &h, payload, false);
    case ACT_ERROR:
        return fake_send_error(fd, request, s->status, "as the test wants it");
    case ACT_HALVES:
        h = fake_shard_serve(s, request, payload);
        return fake_shard_send_halves(s, fd, &h, payload);
    default:
        h = fake_shard_serve(s, request, payload);
        h.read_version -= act == ACT_GO_BACK ? 1 : 0;
        return act != ACT_CLOSE_AFTER_WORK &&
               fake_shard_send(fd, &h, payload, act == ACT_DAMAGE);
    }
}

static inline void fake_shard_connection(void *ctx, int fd, unsigned connection) {
    struct fake_shard *s = ctx;
    struct tl_header request;
    uint8_t payload[FAKE_COUNT_MAX * sizeof(float) + TL_HELLO_BYTES];
    bool is_open = true;
    pthread_mutex_lock(&s->lock);
    s->connections = connection;
    s->joined = false;
    pthread_mutex_unlock(&s->lock);
    while (is_open && fake_read_frame(fd, &request, payload, sizeof(payload))) {
        pthread_mutex_lock(&s->lock);
        s->asked[request.kind]++;
        enum fake_act act = s->plan != NULL ? s->plan(s, &request) : ACT_SERVE;
        is_open = request.epoch == s->epoch || request.kind == TL_KIND_HELLO
                      ? fake_shard_act(s, fd, act, &request, payload)
                      : fake_send_error(fd, &request, TL_E_EPOCH, "another epoch");
        pthread_mutex_unlock(&s->lock);
        if (act == ACT_SILENCE) {
            fake_wait_closed(fd);
        }
    }
}

/* How many requests of `kind` have come, while the thread may be at work. */
static inline unsigned fake_shard_asked(struct fake_shard *s, enum tl_kind kind) {
    pthread_mutex_lock(&s->lock);
    unsigned count = s->asked[kind];
    pthread_mutex_unlock(&s->lock);
    return count;
}

/* Change the plan while the thread may be at work. */
static inline void fake_shard_plan(struct fake_shard *s,
                                   enum fake_act (*next)(struct fake_shard *,
                                                         const struct tl_header *)) {
    pthread_mutex_lock(&s->lock);
    s->plan = next;
    pthread_mutex_unlock(&s->lock);
}

/* ---- life --------------------------------------------------------------------- */

/* Shard `shard` of `shards` of a model of `parameters`, all a multiple of each other.
 */
static inline void fake_shard_listen(struct fake_shard *s, bool tcp, uint32_t shard,
                                     uint32_t shards, uint64_t parameters) {
    memset(s, 0, sizeof(*s));
    pthread_mutex_init(&s->lock, NULL);
    s->shard = shard;
    s->shards = shards;
    s->parameters = parameters;
    s->count = parameters / shards;
    s->first = shard * s->count;
    s->epoch = 1;
    s->writer = 1000 + shard;
    fake_server_start(&s->server, tcp, fake_shard_connection, s);
}

static inline void fake_shard_start(struct fake_shard *s, uint32_t shard,
                                    uint32_t shards, uint64_t parameters) {
    fake_shard_listen(s, false, shard, shards, parameters);
}

static inline void fake_shard_stop(struct fake_shard *s) {
    fake_server_stop(&s->server);
    pthread_mutex_destroy(&s->lock);
}

#endif
