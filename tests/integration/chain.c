/* A chain of three replicas as processes, over TCP, with a secret: killed and frozen at
 * random moments while two workers push. Nothing acknowledged is lost (periodic: at
 * most as many as declared, and as many as are counted), nothing is folded twice, and
 * the replicas' states are the same bytes. Also in step, behind TLS.
 *
 * TL_SOAK_KILLS=1000 and TL_SOAK_FREEZES=50 make it long; TL_TEST_SEED repeats the
 * choices. */
#include "throughline/auth.h"
#include "throughline/data.h"
#include "throughline/member.h"
#include "throughline/trust.h"

#include "certificates.h"
#include "redis.h"
#include "shard_rig.h"

#define REPLICAS  3u
#define WORKERS   2u
#define EVERY     10u
#define PATIENCE  60000 /* ms; a machine may be slow */
#define STATE_MAX (8u << 20)

struct chain {
    struct test_redis redis;
    char job[256];
    struct program replicas[REPLICAS], workers[WORKERS];
    unsigned ports[REPLICAS], http[REPLICAS];
    struct tl_member *watch;
    struct tl_trust *trust;
    uint64_t random;
};

enum place { HEAD, MIDDLE, TAIL, PLACES };
static const char *const place_names[] = {"head", "middle", "tail"};

static uint64_t number_of(const char *variable, uint64_t fallback) {
    const char *text = getenv(variable);
    return text != NULL && text[0] != '\0' ? strtoull(text, NULL, 10) : fallback;
}

/* ---- processes ------------------------------------------------------------------ */

static void start_replica(struct chain *c, unsigned i) {
    char index[32];
    char redis[160];
    char listen[64];
    char http[64];
    (void)snprintf(index, sizeof(index), "--index=%u", i);
    (void)snprintf(redis, sizeof(redis), "--redis=%s", c->redis.url);
    (void)snprintf(listen, sizeof(listen), "--listen=tcp://127.0.0.1:%u", c->ports[i]);
    (void)snprintf(http, sizeof(http), "--http=127.0.0.1:%u", c->http[i]);
    const char *argv[] = {"tl-replica", c->job, "--run=chain", "--stay", index,
                          redis,        listen, http,          NULL};
    c->replicas[i] = program_start(argv);
}

static void start_worker(struct chain *c, unsigned w) {
    char index[32];
    char redis[160];
    char ledger[160];
    (void)snprintf(index, sizeof(index), "--index=%u", w);
    (void)snprintf(redis, sizeof(redis), "--redis=%s", c->redis.url);
    (void)snprintf(ledger, sizeof(ledger), "--ledger=%s/ledger-%u", scratch, w);
    const char *argv[] = {"tl-worker", c->job, "--run=chain",    "--http=off", index,
                          redis,       ledger, "--max-rate=200", NULL};
    c->workers[w] = program_start(argv);
}

/* SIGKILL, and the proof that it ended by it. */
static void kill_replica(struct chain *c, unsigned i) {
    assert_int_equal(kill(c->replicas[i].pid, SIGKILL), 0);
    struct outcome o = program_end(&c->replicas[i], 10);
    if (o.exit_code != 128 + SIGKILL) {
        fail_msg("replica %u had ended before, with %d:\n%s", i, o.exit_code, o.err);
    }
    (void)unlink(c->replicas[i].out_path);
    (void)unlink(c->replicas[i].err_path);
    outcome_done(&o);
}

static void signal_workers(const struct chain *c, int signal) {
    for (unsigned w = 0; w < WORKERS; w++) {
        assert_int_equal(kill(c->workers[w].pid, signal), 0);
    }
}

/* What everybody has said, for a failure that nobody expected. */
static void tell(const struct chain *c) {
    for (unsigned i = 0; i < REPLICAS + WORKERS; i++) {
        const struct program *p =
            i < REPLICAS ? &c->replicas[i] : &c->workers[i - REPLICAS];
        char *text = program_read(p->err_path);
        size_t size = strlen(text);
        print_message("---- %s %u\n%s\n", i < REPLICAS ? "replica" : "worker",
                      i < REPLICAS ? i : i - REPLICAS,
                      text + (size > 2500 ? size - 2500 : 0));
        free(text);
    }
}

static void give_up(const struct chain *c, const char *what) {
    tell(c);
    fail_msg("%s: not within %d s", what, PATIENCE / 1000);
}

/* ---- what they say -------------------------------------------------------------- */

static struct tl_chain_config look(struct chain *c) {
    struct tl_chain_config config = {.number = 0};
    int rc = tl_member_chain_config(c->watch, 0, tl_now_ms() + PATIENCE, &config);
    if (rc != 0) {
        fail_msg("%s", tl_error_text());
    }
    return config;
}

/* All slots are in the chain, and nobody of them is `gone`. */
static struct tl_chain_config await_whole(struct chain *c, struct tl_chain_node gone) {
    int64_t deadline_ms = tl_now_ms() + PATIENCE;
    for (;;) {
        struct tl_chain_config config = look(c);
        if (config.count == REPLICAS && tl_chain_find(&config, gone) < 0) {
            return config;
        }
        if (tl_now_ms() > deadline_ms) {
            give_up(c, "the chain is whole");
        }
        rig_pause(5);
    }
}

static void await_removal(struct chain *c, struct tl_chain_node node) {
    int64_t deadline_ms = tl_now_ms() + PATIENCE;
    struct tl_chain_config config = look(c);
    while (tl_chain_find(&config, node) >= 0) {
        if (tl_now_ms() > deadline_ms) {
            give_up(c, "a dead replica is removed");
        }
        rig_pause(5);
        config = look(c);
    }
}

/* The last sequence that worker `w` saw acknowledged: its ledger's fourth number. */
static uint64_t acknowledged(unsigned w) {
    char path[160];
    uint64_t record[8] = {0};
    (void)snprintf(path, sizeof(path), "%s/ledger-%u", scratch, w);
    FILE *f = fopen(path, "rb");
    if (f != NULL) {
        (void)!fread(record, sizeof(record), 1, f);
        (void)fclose(f);
    }
    return record[3];
}

static uint64_t all_acknowledged(void) {
    return acknowledged(0) + acknowledged(1);
}

static void await_progress(const struct chain *c) {
    int64_t deadline_ms = tl_now_ms() + PATIENCE;
    uint64_t before = all_acknowledged();
    while (all_acknowledged() < before + 4) {
        if (tl_now_ms() > deadline_ms) {
            give_up(c, "the workers go on");
        }
        rig_pause(5);
    }
}

static double metric(const struct chain *c, unsigned i, const char *name) {
    char http[64];
    double v = 0.0;
    (void)snprintf(http, sizeof(http), "127.0.0.1:%u", c->http[i]);
    if (!rig_try_metric(http, name, &v)) {
        fail_msg("replica %u does not tell %s: %s", i, name, tl_error_text());
    }
    return v;
}

/* Workers pull from the tail what they push to the head. */
static void await_reads_at_the_tail(struct chain *c) {
    int64_t deadline_ms = tl_now_ms() + PATIENCE;
    struct tl_chain_config config = await_whole(c, (struct tl_chain_node){0, 0});
    unsigned tail = config.nodes[config.count - 1].slot;
    double before = metric(c, tail, "throughline_pulls_total");
    while (metric(c, tail, "throughline_pulls_total") < before + 2 * WORKERS) {
        if (tl_now_ms() > deadline_ms) {
            give_up(c, "the tail is read from");
        }
        rig_pause(5);
    }
}

/* ---- states --------------------------------------------------------------------- */

struct state {
    uint8_t *bytes;
    size_t size;
    uint64_t position;
};

static int keep(void *ctx, const void *bytes, size_t size) {
    struct state *s = ctx;
    if (s->size + size > STATE_MAX) {
        return TL_E_TOOBIG;
    }
    memcpy(s->bytes + s->size, bytes, size);
    s->size += size;
    return 0;
}

static int ask(struct tl_link *link) {
    int status = 0;
    int rc = tl_links_wait(&link, 1, tl_now_ms() + 5000, -1, &status);
    rc = rc == 0 ? status : rc;
    return rc == 0 && tl_link_reply(link)->kind == TL_KIND_ERROR
               ? tl_link_reply(link)->status
               : rc;
}

/* What a checkpointer would be given. */
static bool fetch(const struct chain *c, unsigned i, struct state *s) {
    char address[64];
    uint8_t welcome[TL_WELCOME_BYTES];
    struct tl_address where;
    struct tl_link *link = NULL;
    const struct tl_hello hello = {
        .role = TL_ROLE_CHECKPOINTER, .job = "rig", .run = "chain"};
    struct tl_header h = {.shard = 0};
    (void)snprintf(address, sizeof(address), "tcp://127.0.0.1:%u", c->ports[i]);
    assert_int_equal(tl_address_parse(address, &where), 0);
    assert_int_equal(tl_link_new(&link), 0);
    tl_link_set_trust(link, c->trust);
    int rc = tl_link_connect(link, &where);
    rc = rc == 0 ? tl_link_hello(link, &h, &hello, welcome) : rc;
    rc = rc == 0 ? ask(link) : rc;
    if (rc == 0) {
        h = (struct tl_header){.kind = TL_KIND_SNAPSHOT,
                               .epoch = tl_link_reply(link)->epoch,
                               .read_version = TL_VERSION_NONE};
        rc = tl_link_request(link, &h, NULL, NULL, 0, false);
    }
    if (rc == 0) {
        s->size = 0;
        tl_link_set_sink(link, keep, s);
        rc = ask(link);
        s->position = tl_link_reply(link)->position;
    }
    tl_link_free(link);
    return rc == 0 && s->size > 0;
}

/* With nothing under way all have the same position; then they have the same bytes. */
static void assert_states_equal(struct chain *c) {
    struct state states[REPLICAS];
    int64_t deadline_ms = tl_now_ms() + PATIENCE;
    bool is_level = false;
    for (unsigned i = 0; i < REPLICAS; i++) {
        states[i] = (struct state){.bytes = malloc(STATE_MAX)};
        assert_non_null(states[i].bytes);
    }
    while (!is_level) {
        is_level = true;
        for (unsigned i = 0; i < REPLICAS; i++) {
            is_level = fetch(c, i, &states[i]) && is_level;
            is_level = is_level && states[i].position == states[0].position;
        }
        if (!is_level && tl_now_ms() > deadline_ms) {
            give_up(c, "all replicas have the same position");
        }
    }
    for (unsigned i = 1; i < REPLICAS; i++) {
        assert_int_equal(states[i].size, states[0].size);
        assert_memory_equal(states[i].bytes, states[0].bytes, states[0].size);
    }
    for (unsigned i = 0; i < REPLICAS; i++) {
        free(states[i].bytes);
    }
}

/* ---- the whole ------------------------------------------------------------------- */

/* To programs that are started from here on, and to us; `tls` NULL: none. */
static void share_trust(struct chain *c, const char *tls) {
    const char *secret = scratch_write("secret", "a secret that a test knows\n");
    struct tl_trust_files files = {.secret = ""};
    if (tls != NULL) {
        files = certificate_files(tls, "ca", secret);
        (void)setenv("THROUGHLINE_TLS_CERT", files.tls_cert, 1);
        (void)setenv("THROUGHLINE_TLS_KEY", files.tls_key, 1);
        (void)setenv("THROUGHLINE_TLS_CA", files.tls_ca, 1);
    }
    (void)snprintf(files.secret, sizeof(files.secret), "%s", secret);
    (void)setenv("THROUGHLINE_SECRET_FILE", files.secret, 1);
    assert_int_equal(tl_trust_new(&files, &c->trust), 0);
}

static void start(struct chain *c, const char *tls, const char *more) {
    char text[512];
    memset(c, 0, sizeof(*c));
    c->random = number_of("TL_TEST_SEED", (uint64_t)test_now_ms());
    print_message("TL_TEST_SEED=%llu\n", (unsigned long long)c->random);
    test_redis_start(&c->redis);
    share_trust(c, tls);
    (void)snprintf(text, sizeof(text),
                   ", \"optimizer\": {\"learning_rate\": 0.02, \"momentum\": 0.5}, "
                   "\"worker\": {\"patience_ms\": 60000}, %s",
                   more);
    (void)snprintf(c->job, sizeof(c->job), "%s", rig_job(text, "chain"));
    const struct tl_member_config watch = {
        .redis = c->redis.url, .job = "rig", .run = "chain"};
    assert_int_equal(tl_member_open(&watch, &c->watch), 0);
    for (unsigned i = 0; i < REPLICAS; i++) {
        c->ports[i] = rig_free_port();
        c->http[i] = rig_free_port();
        start_replica(c, i);
    }
    for (unsigned w = 0; w < WORKERS; w++) {
        char ledger[160];
        (void)snprintf(ledger, sizeof(ledger), "%s/ledger-%u", scratch, w);
        (void)unlink(ledger);
        start_worker(c, w);
    }
    (void)await_whole(c, (struct tl_chain_node){0, 0});
    await_progress(c);
}

/* The job ends in order: what every worker saw acknowledged is settled. */
static void end_job(struct chain *c) {
    assert_int_equal(tl_member_declare_end(c->watch, "enough", tl_now_ms() + PATIENCE),
                     0);
    for (unsigned w = 0; w < WORKERS; w++) {
        struct outcome o = program_end(&c->workers[w], PATIENCE / 1000);
        if (o.exit_code != 0) {
            fail_msg("worker %u: exit %d:\n%s", w, o.exit_code, o.err);
        }
        outcome_done(&o);
    }
}

static void stop(struct chain *c) {
    for (unsigned i = 0; i < REPLICAS; i++) {
        rig_expect_end(&c->replicas[i]);
    }
    tl_member_close(c->watch);
    tl_trust_free(c->trust);
    (void)unsetenv("THROUGHLINE_SECRET_FILE");
    (void)unsetenv("THROUGHLINE_TLS_CERT");
    (void)unsetenv("THROUGHLINE_TLS_KEY");
    (void)unsetenv("THROUGHLINE_TLS_CA");
    test_redis_stop(&c->redis);
}

static unsigned at_place(const struct tl_chain_config *config, enum place place) {
    return place == HEAD ? 0 : place == TAIL ? config->count - 1 : config->count / 2;
}

static unsigned below(struct chain *c, unsigned n) {
    return (unsigned)(tl_random_unit(&c->random) * (float)n);
}

/* Is there another member, which knows that it is one? It would go on alone. */
static bool has_heir(const struct chain *c, const struct tl_chain_config *config,
                     unsigned victim) {
    for (unsigned i = 0; i < config->count; i++) {
        struct tl_member_entry e;
        if (i != victim &&
            tl_member_find(c->watch, TL_ROLE_REPLICA, config->nodes[i].slot, &e) == 0 &&
            e.incarnation == config->nodes[i].incarnation &&
            e.state == TL_MEMBER_SERVING) {
            return true;
        }
    }
    return false;
}

/* Kill whoever is there at a moment of its own, and start it again. Returns the node;
 * sometimes the chain is not whole again when the next one dies. */
static struct tl_chain_node kill_at(struct chain *c, enum place place,
                                    struct tl_chain_node last) {
    if (below(c, 2) == 0) {
        (void)await_whole(c, last);
    } else {
        await_removal(c, last);
    }
    rig_pause((int)below(c, 150));
    struct tl_chain_config config = look(c);
    while (!has_heir(c, &config, at_place(&config, place))) {
        rig_pause(5);
        config = look(c);
    }
    struct tl_chain_node victim = config.nodes[at_place(&config, place)];
    kill_replica(c, victim.slot);
    start_replica(c, victim.slot);
    return victim;
}

/* Returns how many of them were heads. */
static unsigned kill_many(struct chain *c, uint64_t kills) {
    struct tl_chain_node last = {0, 0};
    unsigned heads = 0;
    for (uint64_t k = 0; k < kills; k++) {
        enum place place = (enum place)(k % PLACES);
        heads += place == HEAD;
        last = kill_at(c, place, last);
        if (k % PLACES == TAIL) {
            await_progress(c);
        }
    }
    (void)await_whole(c, last);
    await_progress(c);
    return heads;
}

static unsigned head_of(struct chain *c) {
    return look(c).nodes[0].slot;
}

/* Every gradient that was acknowledged is in the state or counted as lost; none twice.
 */
static double assert_exact(struct chain *c) {
    int64_t deadline_ms = tl_now_ms() + PATIENCE;
    double folded = 0.0;
    double lost = 0.0;
    do { /* the figures are shown now and then */
        folded = metric(c, head_of(c), "throughline_gradients_folded_total");
        lost = metric(c, head_of(c), "throughline_gradients_lost_total");
    } while (folded + lost != (double)all_acknowledged() && tl_now_ms() < deadline_ms);
    if (folded + lost != (double)all_acknowledged()) {
        tell(c);
        fail_msg("acknowledged %llu, folded %.0f, lost %.0f",
                 (unsigned long long)all_acknowledged(), folded, lost);
    }
    return lost;
}

static void assert_nothing_lost(struct chain *c) {
    double lost = assert_exact(c);
    if (lost > 0.0) {
        tell(c);
        fail_msg("%.0f acknowledged gradients are lost", lost);
    }
}

/* While nothing moves: in the middle of training. */
static void compare_at_rest(struct chain *c) {
    signal_workers(c, SIGSTOP);
    assert_states_equal(c);
    signal_workers(c, SIGCONT);
}

static void strict_loses_nothing(void **state) {
    struct chain c;
    (void)state;
    uint64_t kills = number_of("TL_SOAK_KILLS", 60);
    start(&c, NULL, "\"membership\": {\"lease_ms\": 3000}");
    await_reads_at_the_tail(&c);
    (void)kill_many(&c, kills / 2);
    await_reads_at_the_tail(&c);
    compare_at_rest(&c);
    (void)kill_many(&c, kills - kills / 2);
    end_job(&c);
    assert_nothing_lost(&c);
    assert_states_equal(&c);
    print_message("strict: %llu kills, %llu acknowledged, 0 lost\n",
                  (unsigned long long)kills, (unsigned long long)all_acknowledged());
    stop(&c);
}

/* A step is committed once, with what each worker has for it, whoever dies; and all
 * that is said between replicas, and with workers, is encrypted. */
static void in_step_and_behind_tls(void **state) {
    struct chain c;
    (void)state;
    start(&c, "node",
          "\"membership\": {\"lease_ms\": 3000}, \"consistency\": \"sync\"");
    await_reads_at_the_tail(&c);
    (void)kill_many(&c, 12);
    await_reads_at_the_tail(&c);
    end_job(&c);
    assert_nothing_lost(&c);
    assert_states_equal(&c);
    stop(&c);
}

static void periodic_loses_what_it_counts(void **state) {
    struct chain c;
    (void)state;
    uint64_t kills = number_of("TL_SOAK_KILLS", 80) / 2;
    start(&c, NULL,
          "\"membership\": {\"lease_ms\": 3000}, \"chain\": {\"replication\": "
          "\"periodic\", \"every\": 10}");
    unsigned heads = kill_many(&c, kills);
    end_job(&c);
    double lost = assert_exact(&c);
    print_message("periodic: %llu kills, %u of heads, %llu acknowledged, %.0f lost\n",
                  (unsigned long long)kills, heads,
                  (unsigned long long)all_acknowledged(), lost);
    assert_true(lost <= (double)EVERY * heads);
    stop(&c);
}

/* Stopped for so long that it is removed, then going on as if nothing had happened: it
 * changes nothing, drops what it had, and joins anew. */
static void freeze(struct chain *c, enum place place) {
    struct tl_chain_config config = await_whole(c, (struct tl_chain_node){0, 0});
    struct tl_chain_node frozen = config.nodes[at_place(&config, place)];
    pid_t pid = c->replicas[frozen.slot].pid;
    assert_int_equal(kill(pid, SIGSTOP), 0);
    await_removal(c, frozen);
    await_progress(c);
    assert_int_equal(kill(pid, SIGCONT), 0);
    (void)await_whole(c, frozen);
    await_progress(c);
}

static void the_frozen_are_fenced(void **state) {
    struct chain c;
    (void)state;
    double rejected = 0.0;
    uint64_t freezes = number_of("TL_SOAK_FREEZES", 6);
    start(&c, NULL, "\"membership\": {\"lease_ms\": 500}");
    for (uint64_t i = 0; i < freezes; i++) {
        enum place place = (enum place)(i % PLACES);
        freeze(&c, place);
        print_message("froze the %s\n", place_names[place]);
    }
    end_job(&c);
    assert_nothing_lost(&c);
    assert_states_equal(&c);
    for (unsigned i = 0; i < REPLICAS; i++) {
        rejected += metric(&c, i, "throughline_chain_rejected_total");
    }
    print_message("%llu freezes, %.0f rejections\n", (unsigned long long)freezes,
                  rejected);
    assert_true(rejected > 0.0);
    stop(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strict_loses_nothing),
        cmocka_unit_test(in_step_and_behind_tls),
        cmocka_unit_test(periodic_loses_what_it_counts),
        cmocka_unit_test(the_frozen_are_fenced),
    };
    return cmocka_run_group_tests_name("chain", tests, certificates_setup,
                                       scratch_teardown);
}
