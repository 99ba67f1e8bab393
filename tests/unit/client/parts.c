/* parts.c - the client's small parts: ledger, discovery, norm, configuration. */
#include "client_internal.h"
#include "test.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- ledger ------------------------------------------------------------------- */

static char path[] = "/tmp/throughline-parts-XXXXXX";

static struct tl_client_config ledger_config(uint32_t worker) {
    return (struct tl_client_config){
        .job = "job", .run = "run", .worker = worker, .ledger = path};
}

static int open_ledger(struct client_ledger *l, uint32_t worker) {
    const struct tl_client_config config = ledger_config(worker);
    return client_ledger_open(l, &config);
}

static void rewrite(const void *bytes, size_t size) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

static void a_ledger_remembers(void **state) {
    (void)state;
    struct client_ledger l;
    struct stat st;
    (void)unlink(path);
    assert_int_equal(open_ledger(&l, 3), 0);
    assert_int_equal(l.acknowledged, 0);
    for (uint64_t n = 1; n <= 100; n++) {
        assert_int_equal(client_ledger_write(&l, 7, n), 0);
    }
    client_ledger_close(&l);
    assert_int_equal(open_ledger(&l, 3), 0);
    assert_int_equal(l.acknowledged, 100);
    assert_int_equal(l.incarnation, 7);
    client_ledger_close(&l);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 64);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_ledger_of_another_worker_is_refused(void **state) {
    (void)state;
    struct client_ledger l;
    assert_int_equal(open_ledger(&l, 4), TL_E_CONFIG);
    client_ledger_close(&l);
    assert_non_null(strstr(tl_error_text(), "another job, run or worker"));
    assert_non_null(strstr(tl_error_text(), path));
}

static void every_damage_of_a_ledger_is_noticed(void **state) {
    (void)state;
    struct client_ledger l;
    uint8_t bytes[65] = {0};
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, bytes, 64), 64);
    close(fd);
    for (size_t bit = 0; bit < 512; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        rewrite(bytes, 64);
        assert_int_equal(open_ledger(&l, 3), TL_E_CONFIG);
        client_ledger_close(&l);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    for (size_t size = 1; size <= 65; size += 8) {
        rewrite(bytes, size);
        assert_int_equal(open_ledger(&l, 3), TL_E_CONFIG);
        client_ledger_close(&l);
    }
    rewrite(bytes, 64); /* and the whole one is still good */
    assert_int_equal(open_ledger(&l, 3), 0);
    assert_int_equal(l.acknowledged, 100);
    client_ledger_close(&l);
}

static void an_unwritten_ledger_is_new(void **state) {
    (void)state;
    static const uint8_t zeroes[64];
    struct client_ledger l;
    rewrite(zeroes, sizeof(zeroes));
    assert_int_equal(open_ledger(&l, 3), 0);
    assert_int_equal(l.acknowledged, 0);
    client_ledger_close(&l);
    rewrite(zeroes, 0);
    assert_int_equal(open_ledger(&l, 3), 0);
    client_ledger_close(&l);
}

static void a_ledger_that_cannot_be_is_an_error(void **state) {
    (void)state;
    struct client_ledger l;
    struct tl_client_config config = ledger_config(3);
    config.ledger = "/no/such/directory/ledger";
    assert_int_equal(client_ledger_open(&l, &config), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), config.ledger));
    config.ledger = NULL;
    assert_int_equal(client_ledger_open(&l, &config), 0);
    assert_int_equal(client_ledger_write(&l, 1, 2), 0);
    (void)unlink(path);
    assert_int_equal(symlink("/dev/full", path), 0);
    assert_int_equal(open_ledger(&l, 3), TL_E_CONFIG); /* links are not followed */
    client_ledger_close(&l);
    (void)unlink(path);
    l = (struct client_ledger){.fd = open("/dev/full", O_RDWR)};
    assert_int_equal(client_ledger_write(&l, 1, 2), TL_E_IO);
    client_ledger_close(&l);
}

/* ---- discovery ---------------------------------------------------------------- */

static int discover(const char *servers, struct client_discovery *d) {
    const struct tl_client_config config = {.servers = servers};
    *d = (struct client_discovery){.fixed = NULL};
    return client_discovery_open(d, &config);
}

static void fixed_addresses_are_in_order(void **state) {
    (void)state;
    struct client_discovery d;
    struct tl_address a;
    assert_int_equal(discover("tcp://one:1,unix:///two,tcp://[::3]:3", &d), 0);
    assert_int_equal(d.fixed_count, 3);
    assert_int_equal(client_discovery_find(&d, 0, &a), 0);
    assert_string_equal(a.host, "one");
    assert_int_equal(client_discovery_find(&d, 1, &a), 0);
    assert_string_equal(a.host, "/two");
    assert_int_equal(client_discovery_find(&d, 2, &a), 0);
    assert_string_equal(a.port, "3");
    assert_int_equal(client_discovery_find(&d, 3, &a), TL_E_UNAVAILABLE);
    assert_non_null(strstr(tl_error_text(), "shard 3"));
    client_discovery_close(&d);
}

static void wrong_lists_are_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {"",
                                        ",",
                                        "tcp://one:1,",
                                        "tcp://one:1,,tcp://two:2",
                                        "tcp://one:1 tcp://two:2",
                                        "one:1"};
    struct client_discovery d;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(discover(wrong[i], &d), TL_E_CONFIG);
        assert_null(d.fixed);
    }
    char *many = malloc(20000);
    assert_non_null(many);
    for (int i = 0; i < 1100; i++) {
        (void)snprintf(many + (size_t)i * 12, 13, "tcp://a:%04d", i);
        many[i * 12 + 11] = ',';
    }
    many[1100 * 12 - 1] = '\0';
    assert_int_equal(discover(many, &d), TL_E_CONFIG);
    assert_non_null(strstr(tl_error_text(), "1024"));
    memset(many, 'x', 2000);
    many[2000] = '\0';
    assert_int_equal(discover(many, &d), TL_E_CONFIG);
    free(many);
}

/* ---- configuration ------------------------------------------------------------ */

static void check_refused(struct tl_client_config config, const char *field) {
    struct tl_client *c = NULL;
    assert_int_equal(tl_client_open(&config, &c), TL_E_CONFIG);
    assert_null(c);
    assert_non_null(strstr(tl_error_text(), field));
}

static void wrong_configurations_name_the_field(void **state) {
    (void)state;
    const char *s = "unix:///tmp/s";
    check_refused((struct tl_client_config){.worker = 0}, "servers");
    check_refused((struct tl_client_config){.servers = s, .worker = 1024}, "worker");
    check_refused((struct tl_client_config){.redis = "redis://h:1", .run = "r"}, "job");
    check_refused((struct tl_client_config){.redis = "redis://h:1", .job = "j"}, "run");
    check_refused((struct tl_client_config){.servers = s, .job = "No"}, "job");
    check_refused((struct tl_client_config){.servers = s, .run = ""}, "run");
    check_refused((struct tl_client_config){.servers = "x"}, "address");
    tl_client_free(NULL);
}

/* ---- norm --------------------------------------------------------------------- */

/* As the gradient of two shards, the first of them smaller. */
static float norm_of(const float *values, uint64_t count) {
    uint64_t first = count / 3;
    const struct client_shard shards[2] = {
        {.gradient = {.bytes = values, .count = first}},
        {.gradient = {.bytes = values + first, .count = count - first}},
    };
    return client_norm(shards, 2);
}

static void the_norm_is_that_of_all_values(void **state) {
    (void)state;
    enum { N = 100003 };
    float *v = malloc(N * sizeof(*v));
    assert_non_null(v);
    double sum = 0;
    for (int i = 0; i < N; i++) {
        v[i] = (float)((i * 7919) % 1000 - 500) / 333.0f;
        sum += (double)v[i] * (double)v[i];
    }
    assert_true(fabs((double)norm_of(v, N) / sqrt(sum) - 1) < 1e-6);
    assert_true(norm_of(v, 0) == 0.0f);
    v[N - 1] = INFINITY;
    assert_true(isinf(norm_of(v, N)));
    v[5] = NAN;
    assert_true(isnan(norm_of(v, N)));
    free(v);
}

static int make_path(void **state) {
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state) {
    (void)state;
    (void)unlink(path);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ledger_remembers),
        cmocka_unit_test(a_ledger_of_another_worker_is_refused),
        cmocka_unit_test(every_damage_of_a_ledger_is_noticed),
        cmocka_unit_test(an_unwritten_ledger_is_new),
        cmocka_unit_test(a_ledger_that_cannot_be_is_an_error),
        cmocka_unit_test(fixed_addresses_are_in_order),
        cmocka_unit_test(wrong_lists_are_refused),
        cmocka_unit_test(wrong_configurations_name_the_field),
        cmocka_unit_test(the_norm_is_that_of_all_values),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
