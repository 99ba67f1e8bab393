/* --stay, for supervisors that start again whatever ends, or take exit code 0 for done.
 */
#include "shard_rig.h"

#define JOB TL_SOURCE_DIR "/examples/fashion-mlp.json"

struct pair {
    struct program server, worker;
    char listen[200], servers[200], server_http[64], http[80];
};

static void start(struct pair *p, const char *until, const char *worker_stays) {
    unsigned port = rig_free_port();
    (void)snprintf(p->listen, sizeof(p->listen), "--listen=unix://%s/s", scratch);
    (void)snprintf(p->servers, sizeof(p->servers), "--servers=unix://%s/s", scratch);
    (void)snprintf(p->server_http, sizeof(p->server_http), "127.0.0.1:%u", port);
    (void)snprintf(p->http, sizeof(p->http), "--http=%s", p->server_http);
    p->server = program_start((const char *[]){"tl-server", JOB, "--redis=off",
                                               "--strategy=none", p->listen, p->http,
                                               "--stay", until, NULL});
    p->worker = program_start((const char *[]){"tl-worker", JOB, "--redis=off",
                                               "--strategy=none", p->servers, until,
                                               worker_stays, NULL});
}

static void await_version(const struct pair *p, double version) {
    double v = 0.0;
    int64_t deadline_ms = test_now_ms() + 30000;
    while (!rig_try_metric(p->server_http, "throughline_version", &v) || v < version) {
        assert_true(test_now_ms() < deadline_ms);
        rig_pause(20);
    }
}

/* Its exit code; what it said, for a failure that nobody expected. */
static int end(struct program *p) {
    struct outcome o = program_end(p, 30);
    print_message("%s", o.err);
    outcome_done(&o);
    return o.exit_code;
}

static int stop(struct program *p) {
    assert_int_equal(kill(p->pid, SIGTERM), 0);
    return end(p);
}

static void a_server_answers_after_the_end(void **state) {
    (void)state;
    struct pair p;
    start(&p, "--until-updates=20", "--stay");
    assert_int_equal(end(&p.worker), TL_EXIT_OK);
    await_version(&p, 20);
    /* It would have gone as soon as its only worker had. */
    struct program late = program_start(
        (const char *[]){"tl-worker", JOB, "--redis=off", "--strategy=none", p.servers,
                         "--until-updates=20", NULL});
    assert_int_equal(end(&late), TL_EXIT_OK);
    await_version(&p, 20);
    assert_int_equal(stop(&p.server), TL_EXIT_OK);
}

static void a_worker_that_is_stopped_is_not_done(void **state) {
    (void)state;
    struct pair p;
    start(&p, "--until-updates=100000000", "--stay");
    await_version(&p, 5);
    assert_int_equal(stop(&p.worker), TL_EXIT_STOPPED);
    assert_int_equal(stop(&p.server), TL_EXIT_OK);
    start(&p, "--until-updates=100000000", "--no-stay");
    await_version(&p, 5);
    assert_int_equal(stop(&p.worker), TL_EXIT_OK);
    assert_int_equal(stop(&p.server), TL_EXIT_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_answers_after_the_end),
        cmocka_unit_test(a_worker_that_is_stopped_is_not_done),
    };
    return cmocka_run_group_tests_name("stay", tests, scratch_setup, scratch_teardown);
}
