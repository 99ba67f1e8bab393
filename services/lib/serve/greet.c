/* greet.c - a connection's opening: HELLO, with a secret CHALLENGE and PROOF, WELCOME.
 *
 * Who is there, does it know the secret, is it for us, and may it be served now.
 * docs/protocol.md is the other side's view. */
#include "serve_internal.h"

#include <inttypes.h>
#include <string.h>

/* A caller that gives no name does not compare it. */
static bool is_named(const char *said, const char *ours) {
    return said[0] == '\0' || strcmp(said, ours) == 0;
}

static bool is_same_job(const struct tl_serve *s, const struct tl_hello *hello) {
    return is_named(hello->job, s->config.job) && is_named(hello->run, s->config.run) &&
           (hello->job_digest == 0 || hello->job_digest == s->config.job_digest);
}

/* Has the caller seen a writer that fences us? */
static bool is_behind(const struct tl_serve *s, uint64_t epoch, uint64_t writer) {
    return epoch > s->epoch ||
           (epoch == s->epoch && writer != 0 && writer != s->writer);
}

static void welcome(struct serve_conn *c) {
    const struct tl_serve *s = c->serve;
    struct tl_welcome w = {
        .writer = s->writer,
        .shards = s->slice->shards,
        .parameters = s->config.parameters,
        .first = s->slice->first,
        .count = s->slice->count,
        .consistency = (uint8_t)s->slice->consistency,
        .ignores_norm = !tl_fold_uses_norm(s->slice),
    };
    uint8_t bytes[TL_WELCOME_BYTES];
    tl_welcome_encode(&w, bytes);
    serve_reply_bytes(c, TL_KIND_WELCOME, bytes, sizeof(bytes));
}

/* Another replica of this shard: its connection is the chain's from here on. */
static void greet_peer(struct serve_conn *c, const struct tl_header *said) {
    int rc = c->serve->config.on_peer(c->serve->config.ctx, said);
    if (rc == 0 && !serve_conn_welcome(c)) {
        rc = tl_fail(TL_E_LIMIT, "too many connections");
    }
    if (rc != 0) {
        serve_reply_error(c, rc, true, "%s", tl_error_text());
        return;
    }
    c->role = TL_ROLE_REPLICA;
    c->joined = false;
    c->opening = *said;
    c->is_peer = said->incarnation != 0;
    welcome(c);
}

/* Does a worker come only to pull what others commit? */
static bool only_reads(const struct tl_header *said, enum tl_role role) {
    return role == TL_ROLE_WORKER && (said->flags & TL_FLAG_READS) != 0;
}

/* Why this server does not talk to the caller now; 0: it does. Who does not lead has
 * only weights to give; who stands by gives nobody a state either. */
static int refusal_for(const struct tl_serve *s, const struct tl_header *said,
                       enum tl_role role) {
    bool stands_by = s->writer != s->config.writer;
    bool is_reader = role == TL_ROLE_MONITOR || only_reads(said, role);
    bool is_elsewhere =
        !s->leads && !is_reader && (role == TL_ROLE_WORKER || stands_by);
    return s->refusal != 0 ? s->refusal : is_elsewhere ? TL_E_FENCED : 0;
}

/* The caller is who it says: is it for us? */
static void greet(struct serve_conn *c, const struct tl_header *said,
                  const struct tl_hello *hello) {
    struct tl_serve *s = c->serve;
    if (said->shard != s->slice->shard || !is_same_job(s, hello)) {
        serve_reply_error(c, TL_E_MISMATCH, true,
                          "this is shard %" PRIu32 " of job %s, run %s%s",
                          s->slice->shard, s->config.job, s->config.run,
                          said->shard == s->slice->shard
                              ? "; the caller's job, run or job file is another"
                              : "");
        return;
    }
    if (s->config.on_peer != NULL && hello->role == TL_ROLE_REPLICA) {
        greet_peer(c, said);
        return;
    }
    int refusal = refusal_for(s, said, hello->role);
    if (refusal != 0) {
        serve_reply_refusal(c, refusal);
        return;
    }
    if (is_behind(s, said->epoch, hello->writer)) {
        if (s->config.on_newer_epoch != NULL && s->leads) {
            s->config.on_newer_epoch(s->config.ctx, said->epoch);
        }
        serve_reply_error(c, TL_E_EPOCH, false, "epoch %" PRIu64 " is being replaced",
                          s->epoch);
        return;
    }
    if (!serve_conn_welcome(c)) {
        serve_reply_error(c, TL_E_LIMIT, true,
                          "this server takes %" PRIu32 " connections",
                          s->config.max_connections);
        return;
    }
    c->joined = false;
    c->role = hello->role;
    c->only_reads = only_reads(said, hello->role);
    welcome(c);
}

static void refuse_caller(struct serve_conn *c, int rc) {
    c->serve->stats.auth_failures += rc == TL_E_AUTH ? 1 : 0;
    serve_reply_error(c, rc, true, "%s", tl_error_text());
}

static void challenge(struct serve_conn *c, const struct tl_secret *secret,
                      const struct tl_hello *hello) {
    uint8_t nonce[TL_NONCE_BYTES];
    uint8_t bytes[TL_CHALLENGE_BYTES];
    serve_conn_estrange(c);
    tl_nonce(nonce);
    int rc = tl_auth_challenge(&c->auth, secret, &c->header, hello, nonce, bytes);
    if (rc != 0) {
        refuse_caller(c, rc);
        return;
    }
    serve_reply_bytes(c, TL_KIND_CHALLENGE, bytes, sizeof(bytes));
}

void serve_greet_hello(struct serve_conn *c) {
    const struct tl_secret *secret = tl_trust_secret(c->serve->config.trust);
    struct tl_hello hello;
    int rc = tl_hello_decode(c->small, TL_HELLO_BYTES, &hello);
    if (rc != 0) {
        serve_reply_error(c, rc, true, "%s", tl_error_text());
    } else if (secret != NULL) {
        challenge(c, secret, &hello);
    } else {
        greet(c, &c->header, &hello);
    }
}

void serve_greet_proof(struct serve_conn *c) {
    int rc = tl_auth_check(&c->auth, c->small, c->header.length);
    if (rc != 0) {
        refuse_caller(c, rc);
        return;
    }
    greet(c, &c->auth.header, &c->auth.hello);
}
