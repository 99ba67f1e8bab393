/* member_internal.h - the parts of `member`, bottom up: url, entry, redis, scripts. */
#ifndef MEMBER_INTERNAL_H
#define MEMBER_INTERNAL_H

#include "throughline/member.h"

#include "redis.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- entry.c ------------------------------------------------------------------ */

#define TL_FIELD_MAX      32u   /* "checkpointer/4294967295" */
#define TL_ENTRY_TEXT_MAX 8192u /* all addresses with every byte escaped still fit */

/* "role/index". */
void tl_entry_field(enum tl_role role, uint32_t index, char ret_field[TL_FIELD_MAX]);
/* Compact JSON whose first key is "epoch", where the scripts expect it. malloc'ed. */
TL_MUST_USE int tl_entry_encode(const struct tl_member_entry *e, char **ret_text);
/* What anybody may have written: TL_E_CORRUPT unless it is an entry of ours. */
TL_MUST_USE int tl_entry_decode(const char *field, size_t field_size, const char *text,
                                size_t text_size, struct tl_member_entry *ret_entry);
/* The declaration of the end: {"reason":...,"by":"role/index"}. */
TL_MUST_USE int tl_end_encode(const char *reason, const char *by, char **ret_text);
TL_MUST_USE int tl_end_decode(const char *text, size_t text_size, char *ret_reason,
                              size_t size);

/* ---- redis.c: scripts over a connection (member/redis.h) ---------------------------
 */

/* Scripts that a connection can run; their texts are in lua.c. */
enum tl_script {
    TL_SCRIPT_BEAT,
    TL_SCRIPT_RAISE,
    TL_SCRIPT_RETIRE,
    TL_SCRIPT_DECLARE,
    TL_SCRIPT_LEAVE,
    TL_SCRIPT_CHAIN_SHOW,
    TL_SCRIPT_CHAIN_DECIDE,
    TL_SCRIPT_COUNT
};
extern const char *const tl_script_texts[TL_SCRIPT_COUNT];

#define TL_KEYS_COUNT 8u
#define TL_KEYS_TEXT  "8"
enum tl_key {
    TL_KEY_MEMBERS,
    TL_KEY_EPOCHS,
    TL_KEY_INCARNATIONS,
    TL_KEY_ORIGIN,
    TL_KEY_END,
    TL_KEY_RETIRED,
    TL_KEY_NEWS,
    TL_KEY_CHAINS
};
struct tl_keys {
    char names[TL_KEYS_COUNT][160];
};
void tl_keys_make(const char *job, const char *run, struct tl_keys *ret_keys);

/* A script over the run's keys, loaded when Redis does not know it. */
TL_MUST_USE int tl_redis_script(struct tl_redis *r, enum tl_script script,
                                const struct tl_keys *keys, int argc, const char **argv,
                                redisReply **ret_reply);
/* Listen to `channel`; the connection is for nothing else from here on. */
TL_MUST_USE int tl_redis_subscribe(struct tl_redis *r, const char *channel);
int tl_redis_fd(const struct tl_redis *r);
/* Take in what has arrived on a readable subscription. */
TL_MUST_USE int tl_redis_drain(struct tl_redis *r);

#define TL_KEEP_SECONDS "86400" /* an abandoned run's keys disappear after it */

/* ---- scripts.c: the scripts as functions -------------------------------------- */

#define TL_SHARDS_SEEN_MAX 1024u

struct tl_shard_epoch {
    uint32_t shard;
    uint64_t epoch;
};
/* The newest epochs that this process has seen, by any way. */
struct tl_epochs {
    struct tl_shard_epoch *items;
    size_t count, capacity;
};
uint64_t tl_epochs_get(const struct tl_epochs *e, uint32_t shard);
/* Whether `epoch` was news. What memory or bound has no room for is left out. */
bool tl_epochs_raise(struct tl_epochs *e, uint32_t shard, uint64_t epoch);
void tl_epochs_done(struct tl_epochs *e);

/* What a heartbeat says. */
struct tl_beat {
    const struct tl_member_entry *self; /* NULL: only look */
    bool is_news;                       /* others should look at once */
    uint64_t token;                     /* for a Redis that has none */
    int64_t age_ms;                     /* of the run; -1: unknown */
    const char *end;                    /* the end as declared; "": none that we know */
    const struct tl_epochs *epochs;     /* what we have seen */
};
/* What it brings back. */
struct tl_look {
    int64_t now_ms, started_ms; /* Redis' clock; started -1: no run */
    char token[24];
    char end[1024];       /* as declared; "": not declared */
    bool has_predecessor; /* what our field held before this heartbeat */
    struct tl_member_entry predecessor;
    struct tl_epochs epochs;
    struct tl_member_entry *entries; /* readable ones, at most TL_MEMBERS_MAX */
    size_t count;
};
void tl_look_done(struct tl_look *l);

TL_MUST_USE int tl_script_beat(struct tl_redis *r, const struct tl_keys *keys,
                               const struct tl_beat *beat, struct tl_look *ret_look);
/* `self`: the server whose epoch it is, registered with it; NULL: nobody's here. */
TL_MUST_USE int tl_script_raise_epoch(struct tl_redis *r, const struct tl_keys *keys,
                                      uint32_t shard, uint64_t floor,
                                      const struct tl_member_entry *self,
                                      uint64_t *ret_epoch);
TL_MUST_USE int tl_script_next_incarnation(struct tl_redis *r,
                                           const struct tl_keys *keys,
                                           enum tl_role role, uint32_t index,
                                           uint64_t floor, uint64_t *ret_incarnation);
TL_MUST_USE int tl_script_retire(struct tl_redis *r, const struct tl_keys *keys,
                                 uint32_t worker, uint64_t incarnation, uint64_t step,
                                 uint64_t *ret_step);
/* ret_end gets the declaration that stands. */
TL_MUST_USE int tl_script_declare(struct tl_redis *r, const struct tl_keys *keys,
                                  const char *end, char *ret_end, size_t size);
TL_MUST_USE int tl_script_leave(struct tl_redis *r, const struct tl_keys *keys,
                                const struct tl_member_entry *self);
TL_MUST_USE int tl_script_erase(struct tl_redis *r, const struct tl_keys *keys);

/* ---- what the threads share ------------------------------------------------------ */

#define TL_STEP_MS  1000 /* bound of one connect or command */
#define TL_QUIET_MS 20   /* between two exchanges, however much news there is */

struct tl_member {
    struct tl_redis_url url;
    struct tl_keys keys;
    struct tl_redis_counters counters;
    uint32_t lease_ms;
    enum tl_role role; /* 0: only watch */
    uint32_t index;
    void (*on_change)(void *ctx);
    void (*on_event)(void *ctx, const struct tl_roster_event *event);
    void *ctx;
    int wake_fd;
    pthread_t thread;

    /* Guards everything below; never held during I/O or a callback. */
    pthread_mutex_t lock;
    pthread_cond_t idle; /* is_exchanging has become false */
    bool is_stopping, is_connected, is_exchanging;
    bool is_erased;   /* the run's keys: register no more */
    bool is_due;      /* a heartbeat was asked for now */
    bool is_news;     /* the next heartbeat tells the others to look */
    bool has_changed; /* by a call, so that the driver owes an on_change */
    char trouble[256];
    struct tl_member_entry self;
    struct tl_roster *roster;
    struct tl_epochs epochs;
    char end[1024];     /* as declared; "": not */
    int64_t started_ms; /* the run's start on Redis' clock; -1: unknown */
    int64_t born_ms;    /* and on ours */
    bool has_beaten, has_predecessor;
    struct tl_member_entry predecessor;
};

void tl_member_lock(const struct tl_member *m);
void tl_member_unlock(const struct tl_member *m);
/* Make the driver look at what has changed. */
void tl_member_wake(const struct tl_member *m);
/* Milliseconds since the run's start; -1: unknown. Locked. */
int64_t tl_member_age_locked(const struct tl_member *m);
/* Keep the first declaration of the end; whether this is it. Locked. */
bool tl_member_keep_end_locked(struct tl_member *m, const char *end);

/* calls.c: try until the deadline, each time on a connection of its own. */
TL_MUST_USE int tl_member_until(struct tl_member *m, int64_t deadline_ms,
                                int (*call)(struct tl_redis *r, struct tl_member *m,
                                            void *ctx),
                                void *ctx);

/* driver.c: the thread's program; `arg` is the member. */
void *tl_member_drive(void *arg);

#endif
