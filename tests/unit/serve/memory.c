/* Memory runs out while a shard is served: in the shard's loop, which must go on, and
 * in the client, which must say so and can go on. Both are real, over a real socket. */
#include "throughline/client.h"
#include "throughline/fold.h"
#include "throughline/serve.h"

#include "scarce.h"
#include "scratch.h"

#include <pthread.h>
#include <uv.h>

#define COUNT  1000u
#define POINTS 60u /* more than one connection and its requests need */

struct shard {
    uv_loop_t loop;
    uv_async_t stop;
    pthread_t thread;
    struct tl_fold *fold;
    struct tl_serve *serve;
    char address[128];
};

static void on_stop(uv_async_t *async) {
    struct shard *s = async->data;
    tl_serve_close(s->serve);
    uv_close((uv_handle_t *)&s->stop, NULL);
}

static void *run_loop(void *arg) {
    (void)uv_run(&((struct shard *)arg)->loop, UV_RUN_DEFAULT);
    return NULL;
}

static int shard_make(struct shard *s) {
    static const float zeros[COUNT];
    const struct tl_fold_config fold = {.shards = 1,
                                        .count = COUNT,
                                        .spare_copies = 2,
                                        .optimizer = {.learning_rate = 0.5}};
    int rc = tl_fold_new(&fold, zeros, &s->fold);
    if (rc != 0) {
        return rc;
    }
    const struct tl_serve_config serve = {.loop = &s->loop,
                                          .fold = s->fold,
                                          .job = "job",
                                          .run = "run",
                                          .parameters = COUNT,
                                          .writer = 1,
                                          .max_connections = 16,
                                          .frame_ms = 500,
                                          .wait_ms = 100,
                                          .unix_checksum = true};
    assert_int_equal(tl_fold_take_over(s->fold, 1), 0);
    return tl_serve_new(&serve, &s->serve);
}

static int shard_start(void **state) {
    struct shard *s = calloc(1, sizeof(*s));
    char wanted[128];
    int rc = scratch_setup(state);
    assert_non_null(s);
    (void)snprintf(wanted, sizeof(wanted), "unix://%s", scratch_path("shard.sock"));
    assert_int_equal(uv_loop_init(&s->loop), 0);
    assert_int_equal(shard_make(s), 0);
    assert_int_equal(tl_serve_listen(s->serve, wanted, s->address, sizeof(s->address)),
                     0);
    assert_int_equal(uv_async_init(&s->loop, &s->stop, on_stop), 0);
    s->stop.data = s;
    assert_int_equal(pthread_create(&s->thread, NULL, run_loop, s), 0);
    *state = s;
    return rc;
}

static int shard_stop(void **state) {
    struct shard *s = *state;
    assert_int_equal(uv_async_send(&s->stop), 0);
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    assert_int_equal(uv_loop_close(&s->loop), 0); /* nothing was left open */
    tl_serve_free(s->serve);
    tl_fold_free(s->fold);
    free(s);
    return scratch_teardown(state);
}

/* Join, push, pull, leave. */
static int live(void *ctx) {
    static const float gradient[COUNT];
    const struct shard *s = ctx;
    const struct tl_client_config config = {
        .servers = s->address, .patience_ms = 5000, .request_ms = 1000};
    struct tl_client_join joined;
    struct tl_client *c = NULL;
    int rc = tl_client_open(&config, &c);
    if (rc == 0) {
        rc = tl_client_join(c, &joined);
    }
    if (rc == 0) {
        rc = tl_client_push_pull(c, joined.next_sequence, gradient, NULL);
    }
    if (rc == 0) {
        rc = tl_client_leave(c);
    }
    tl_client_free(c);
    return rc;
}

/* A client that gives up can be opened again, and the server never minds. */
static void in_the_client(void **state) {
    scarce_torture(live, *state);
}

/* Whatever the server had no memory for is done at the next attempt, at the latest. */
static void in_the_server(void **state) {
    unsigned failures = 0;
    for (unsigned n = 1; n <= POINTS; n++) {
        scarce_begin_elsewhere(n);
        int rc = live(*state);
        failures += scarce_end();
        if (rc != 0) {
            fail_msg("allocation %u: %s", n, tl_error_text());
        }
    }
    print_message("%u failures in the server\n", failures);
    assert_in_range(failures, 4, POINTS - 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, shard_start, shard_stop)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(in_the_client), TEST(in_the_server)};
    return cmocka_run_group_tests_name("serve/memory", tests, NULL, NULL);
}
