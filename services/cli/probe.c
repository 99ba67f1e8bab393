/* probe.c - asks each shard's server how far it is.
 *
 * One connection to each: HELLO once, which tells who serves, then PING after PING.
 * What fails is closed and tried again a little later; a dead server is the usual case
 * here. */
#include "probe.h"

#include "throughline/wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t ask_every_ms = 10;
static const int64_t retry_after_ms = 5;
static const int64_t answer_within_ms = 2000;

enum shard_state { IDLE, GREETING, ASKING, GREETED };

struct shard {
    struct tl_link *link;
    struct tl_address address;
    enum shard_state state;
    int64_t due_ms;  /* IDLE, GREETED: when to go on; else when to give up */
    uint64_t writer; /* who answered HELLO */
    uint8_t reply[TL_WELCOME_BYTES];
    struct tl_probe_view view;
};

struct tl_probe {
    uint32_t shards;
    bool ended;
    struct tl_hello hello;
    struct shard shard[];
};

void tl_probe_address(const char *directory, uint32_t shard, char *ret_text,
                      size_t size) {
    (void)snprintf(ret_text, size, "unix://%s/server-%" PRIu32 ".sock", directory,
                   shard);
}

static int shard_init(struct shard *s, const char *directory, uint32_t number,
                      const struct tl_trust *trust) {
    char text[300];
    tl_probe_address(directory, number, text, sizeof(text));
    int rc = tl_address_parse(text, &s->address);
    rc = rc == 0 ? tl_link_new(&s->link) : rc;
    if (rc == 0) {
        tl_link_set_trust(s->link, trust);
    }
    return rc;
}

int tl_probe_new(const char *directory, uint32_t shards, const char *job,
                 const char *run, const struct tl_trust *trust,
                 struct tl_probe **ret_probe) {
    struct tl_probe *p = calloc(1, sizeof(*p) + shards * sizeof(p->shard[0]));
    if (!p) {
        return tl_fail(TL_E_NOMEM, "no memory to watch %" PRIu32 " servers", shards);
    }
    p->shards = shards;
    p->hello.role = TL_ROLE_CLI;
    (void)snprintf(p->hello.job, sizeof(p->hello.job), "%s", job);
    (void)snprintf(p->hello.run, sizeof(p->hello.run), "%s", run);
    for (uint32_t i = 0; i < shards; i++) {
        int rc = shard_init(&p->shard[i], directory, i, trust);
        if (rc != 0) {
            tl_probe_free(p);
            return rc;
        }
    }
    *ret_probe = p;
    return 0;
}

void tl_probe_free(struct tl_probe *p) {
    if (!p) {
        return;
    }
    for (uint32_t i = 0; i < p->shards; i++) {
        tl_link_free(p->shard[i].link);
    }
    free(p);
}

static void give_up(struct shard *s, int64_t now_ms) {
    tl_link_close(s->link);
    s->state = IDLE;
    s->due_ms = now_ms + retry_after_ms;
    s->view.answers = false;
}

void tl_probe_aim(struct tl_probe *p, uint32_t shard, const char *address) {
    struct shard *s = &p->shard[shard];
    struct tl_address to;
    if (tl_address_parse(address, &to) == 0 && strcmp(to.host, s->address.host) != 0) {
        s->address = to;
        give_up(s, 0);
    }
}

/* Connect and say HELLO, which tells the server nothing of epochs: a watcher fences
 * nobody. */
static void greet(struct tl_probe *p, uint32_t number, int64_t now_ms) {
    struct shard *s = &p->shard[number];
    const struct tl_header header = {.shard = number};
    if (tl_link_connect(s->link, &s->address) != 0 ||
        tl_link_hello(s->link, &header, &p->hello, s->reply) != 0) {
        give_up(s, now_ms);
        return;
    }
    s->state = GREETING;
    s->due_ms = now_ms + answer_within_ms;
}

static void ask(struct tl_probe *p, uint32_t number, int64_t now_ms) {
    struct shard *s = &p->shard[number];
    struct tl_header header = {
        .kind = TL_KIND_PING, .shard = number, .epoch = s->view.epoch};
    if (tl_link_request(s->link, &header, NULL, s->reply, sizeof(s->reply), false) !=
        0) {
        give_up(s, now_ms);
        return;
    }
    s->state = ASKING;
    s->due_ms = now_ms + answer_within_ms;
}

/* WELCOME or PONG; anything else means that this server does not answer us now. */
static bool take_reply(struct tl_probe *p, struct shard *s) {
    const struct tl_header *reply = tl_link_reply(s->link);
    struct tl_welcome welcome;
    if (reply->kind == TL_KIND_WELCOME) {
        if (tl_welcome_decode(s->reply, (size_t)reply->length, &welcome) != 0) {
            return false;
        }
        s->writer = welcome.writer;
    } else if (reply->kind != TL_KIND_PONG) {
        return false;
    }
    s->view = (struct tl_probe_view){.known = true,
                                     .answers = true,
                                     .writer = s->writer,
                                     .epoch = reply->epoch,
                                     .version = reply->read_version};
    p->ended = p->ended || (reply->flags & TL_FLAG_ENDED) != 0;
    return true;
}

static void await(struct tl_probe *p, struct shard *s, int64_t now_ms) {
    int rc = tl_link_advance(s->link);
    if (rc == TL_E_BUSY && now_ms < s->due_ms) {
        return;
    }
    if (rc != 0 || !take_reply(p, s)) {
        give_up(s, now_ms);
        return;
    }
    s->state = GREETED;
    s->due_ms = now_ms + ask_every_ms;
}

void tl_probe_advance(struct tl_probe *p, int64_t now_ms) {
    for (uint32_t i = 0; i < p->shards; i++) {
        struct shard *s = &p->shard[i];
        if (s->state == GREETING || s->state == ASKING) {
            await(p, s, now_ms);
        } else if (now_ms >= s->due_ms && s->state == IDLE) {
            greet(p, i, now_ms);
        } else if (now_ms >= s->due_ms) {
            ask(p, i, now_ms);
        }
    }
}

size_t tl_probe_poll(const struct tl_probe *p, struct pollfd *fds, size_t max) {
    size_t n = 0;
    for (uint32_t i = 0; i < p->shards && n < max; i++) {
        const struct shard *s = &p->shard[i];
        if ((s->state == GREETING || s->state == ASKING) && tl_link_fd(s->link) >= 0) {
            fds[n++] = (struct pollfd){.fd = tl_link_fd(s->link),
                                       .events = tl_link_events(s->link)};
        }
    }
    return n;
}

struct tl_probe_view tl_probe_view(const struct tl_probe *p, uint32_t shard) {
    return p->shard[shard].view;
}

bool tl_probe_version(const struct tl_probe *p, uint64_t *ret_version) {
    uint64_t lowest = UINT64_MAX;
    for (uint32_t i = 0; i < p->shards; i++) {
        if (!p->shard[i].view.known) {
            return false;
        }
        if (p->shard[i].view.version < lowest) {
            lowest = p->shard[i].view.version;
        }
    }
    *ret_version = lowest;
    return true;
}

bool tl_probe_has_ended(const struct tl_probe *p) {
    return p->ended;
}
