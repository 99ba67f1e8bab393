/* the contract of a durable log, on a real Redis and a real Kafka.
 *
 * Every test runs on both; what one of them alone can do is below, each in its part. */
#include "throughline/log.h"
#include "throughline/service.h"

#include "kafka.h"
#include "redis.h"
#include "test.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define COUNT     1000u /* values of a slice */
#define DEADLINE  30000
#define LONG_SIZE (3u << 20)

static struct test_redis redis;
static struct test_kafka kafka;

struct kind {
    const char *name;
    char url[160];
    unsigned runs; /* used up: each test has a log of its own */
};
static struct kind kinds[2] = {{.name = "redis"}, {.name = "kafka"}};

static int setup(void **state) {
    (void)state;
    test_redis_start(&redis);
    test_kafka_start(&kafka);
    (void)snprintf(kinds[0].url, sizeof(kinds[0].url), "%s", redis.url);
    (void)snprintf(kinds[1].url, sizeof(kinds[1].url), "%s", kafka.url);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    test_redis_stop(&redis);
    test_kafka_stop(&kafka);
    return 0;
}

/* ---- a log, and records in it -------------------------------------------------------
 */

static struct tl_log_config config_of(struct kind *k, char run[32]) {
    (void)snprintf(run, 32, "r%u", k->runs);
    return (struct tl_log_config){
        .url = k->url,
        .job = "contract",
        .run = run,
        .identity = tl_log_identity("contract", run, 7),
        .shards = 2,
        .workers = 2,
        .record_bytes = COUNT * sizeof(float),
        .max_bytes = UINT64_C(1) << 30,
        .replication = 1,
    };
}

static void must(int rc) {
    if (rc != 0) {
        fail_msg("%s: %s", tl_error_name(rc), tl_error_text());
    }
}

static struct tl_log *open_with(const struct tl_log_config *config) {
    struct tl_log *log = NULL;
    char note[256];
    must(tl_log_open(config, &log));
    must(tl_log_create(log, tl_now_ms() + DEADLINE, note, sizeof(note)));
    return log;
}

/* A new log. */
static struct tl_log *open_log(struct kind *k) {
    char run[32];
    k->runs++;
    struct tl_log_config config = config_of(k, run);
    return open_with(&config);
}

static float value_of(uint64_t sequence, uint64_t i) {
    return (float)(sequence * 1000 + i % 997);
}

static const float *gradient_of(uint64_t sequence, uint64_t count) {
    static float *values;
    values = realloc(values, count * sizeof(float));
    assert_non_null(values);
    for (uint64_t i = 0; i < count; i++) {
        values[i] = value_of(sequence, i);
    }
    return values;
}

static void await_fd(int fd, int64_t deadline_ms) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int64_t left_ms = deadline_ms - tl_now_ms();
    assert_true(left_ms > 0);
    (void)poll(&p, 1, left_ms < 200 ? (int)left_ms : 200);
}

static void await_durable(struct tl_appender *a, uint64_t count) {
    int64_t deadline_ms = tl_now_ms() + DEADLINE;
    while (tl_appender_durable_count(a) < count) {
        must(tl_appender_failure(a));
        if (tl_now_ms() >= deadline_ms) {
            char why[256];
            tl_appender_trouble(a, why, sizeof(why));
            fail_msg("not durable: %s", why);
        }
        await_fd(tl_appender_fd(a), deadline_ms);
    }
}

static struct tl_header push_header(uint64_t sequence, uint64_t count) {
    return (struct tl_header){.kind = TL_KIND_PUSH,
                              .worker = 1,
                              .incarnation = 3,
                              .sequence = sequence,
                              .read_version = sequence / 2,
                              .norm = 1.5f,
                              .length = count * sizeof(float)};
}

static void append(struct tl_appender *a, uint64_t sequence, uint64_t count) {
    struct tl_header h = push_header(sequence, count);
    int64_t deadline_ms = tl_now_ms() + DEADLINE;
    int rc = TL_E_BUSY;
    while ((rc = tl_appender_put(a, &h, gradient_of(sequence, count))) == TL_E_BUSY) {
        await_fd(tl_appender_fd(a), deadline_ms);
    }
    must(rc);
}

static int try_next(struct tl_reader *r, struct tl_reader_item *ret_item, int64_t ms) {
    int64_t deadline_ms = tl_now_ms() + ms;
    int rc = TL_E_BUSY;
    while ((rc = tl_reader_next(r, ret_item)) == TL_E_BUSY &&
           tl_now_ms() + 1 < deadline_ms) {
        await_fd(tl_reader_fd(r), deadline_ms);
    }
    return rc;
}

static struct tl_reader_item next(struct tl_reader *r) {
    struct tl_reader_item item;
    int rc = try_next(r, &item, DEADLINE);
    if (rc == TL_E_BUSY) {
        char why[256];
        tl_reader_trouble(r, why, sizeof(why));
        fail_msg("no entry: %s", why);
    }
    must(rc);
    return item;
}

static void assert_gradient(const struct tl_reader_item *item, uint64_t sequence,
                            uint64_t count) {
    const struct tl_record *r = &item->record;
    assert_true(item->has_record);
    assert_int_equal(r->kind, TL_RECORD_GRADIENT);
    assert_int_equal(r->worker, 1);
    assert_int_equal(r->incarnation, 3);
    assert_int_equal(r->sequence, sequence);
    assert_int_equal(r->read_version, sequence / 2);
    assert_true(r->norm == 1.5f);
    assert_int_equal(r->value_count, count);
    const float *values = r->values;
    for (uint64_t i = 0; i < count; i++) {
        assert_true(values[i] == value_of(sequence, i));
    }
}

static void assert_range(struct tl_log *log, uint32_t shard, uint64_t first,
                         uint64_t next_position) {
    uint64_t f = 0;
    uint64_t n = 0;
    must(tl_log_range(log, shard, tl_now_ms() + DEADLINE, &f, &n));
    assert_int_equal(f, first);
    assert_int_equal(n, next_position);
}

/* ---- the contract ---------------------------------------------------------------- */

static void in_order_and_each_once(struct kind *k) {
    struct tl_log *log = open_log(k);
    struct tl_appender *a = NULL;
    struct tl_reader *r = NULL;
    assert_range(log, 0, 1, 1);
    must(tl_appender_new(log, 0, 8, &a));
    must(tl_reader_new(log, 0, 0, COUNT, &r));
    for (uint64_t n = 1; n <= 100; n++) {
        append(a, n, COUNT);
    }
    await_durable(a, 100);
    assert_range(log, 0, 1, 101);
    assert_range(log, 1, 1, 1); /* another shard's is another log */
    for (uint64_t n = 1; n <= 100; n++) {
        struct tl_reader_item item = next(r);
        assert_int_equal(item.position, n);
        assert_gradient(&item, n, COUNT);
    }
    struct tl_reader_item none;
    assert_int_equal(tl_reader_next(r, &none), TL_E_BUSY);
    append(a, 101, COUNT); /* to one who waits */
    struct tl_reader_item item = next(r);
    assert_gradient(&item, 101, COUNT);
    tl_reader_free(r);
    tl_appender_free(a);
    tl_log_close(log);
}

static void every_kind_of_record(struct kind *k) {
    struct tl_log *log = open_log(k);
    struct tl_appender *a = NULL;
    struct tl_reader *r = NULL;
    must(tl_appender_new(log, 1, 8, &a));
    must(tl_reader_new(log, 1, 0, COUNT, &r));
    const struct tl_header join = {
        .kind = TL_KIND_JOIN, .worker = 5, .incarnation = 9, .sequence = 77};
    const struct tl_header leave = {
        .kind = TL_KIND_LEAVE, .worker = 5, .incarnation = 9, .position = 12};
    const struct tl_header rate = {.kind = TL_KIND_RATE, .length = sizeof(double)};
    const double new_rate = 0.125;
    must(tl_appender_put(a, &join, NULL));
    must(tl_appender_put(a, &leave, NULL));
    must(tl_appender_put(a, &rate, &new_rate));
    struct tl_reader_item item = next(r);
    assert_int_equal(item.record.kind, TL_RECORD_JOIN);
    assert_int_equal(item.record.shard, 1);
    assert_int_equal(item.record.worker, 5);
    assert_int_equal(item.record.incarnation, 9);
    assert_int_equal(item.record.sequence, 77);
    item = next(r);
    assert_int_equal(item.record.kind, TL_RECORD_LEAVE);
    assert_int_equal(item.record.step, 12);
    item = next(r);
    assert_int_equal(item.record.kind, TL_RECORD_RATE);
    assert_true(item.record.rate == new_rate);
    tl_reader_free(r);
    tl_appender_free(a);
    tl_log_close(log);
}

static void from_a_position_and_trimmed(struct kind *k) {
    struct tl_log *log = open_log(k);
    struct tl_appender *a = NULL;
    struct tl_reader *r = NULL;
    must(tl_appender_new(log, 0, 64, &a));
    for (uint64_t n = 1; n <= 20; n++) {
        append(a, n, COUNT);
    }
    await_durable(a, 20);
    must(tl_log_trim(log, 0, 7, 9, tl_now_ms() + DEADLINE));
    assert_range(log, 0, 8, 21);
    must(tl_log_trim(log, 0, 7, 9, tl_now_ms() + DEADLINE)); /* again: nothing to do */
    assert_range(log, 0, 8, 21);
    must(tl_reader_new(log, 0, 7, COUNT, &r));
    struct tl_reader_item item = next(r);
    assert_int_equal(item.position, 8);
    assert_gradient(&item, 8, COUNT);
    tl_reader_free(r);
    must(tl_reader_new(log, 0, 20, COUNT, &r));
    append(a, 21, COUNT);
    item = next(r);
    assert_int_equal(item.position, 21);
    tl_reader_free(r);
    /* Trimmed above where somebody starts: said, not skipped. */
    must(tl_reader_new(log, 0, 3, COUNT, &r));
    assert_int_equal(try_next(r, &item, DEADLINE), TL_E_NOTFOUND);
    assert_non_null(strstr(tl_error_text(), "from position 4 to 7 are gone"));
    tl_reader_free(r);
    /* Started after what was ever there: the log has lost its end. */
    must(tl_reader_new(log, 0, 500, COUNT, &r));
    assert_int_equal(try_next(r, &item, DEADLINE), TL_E_CORRUPT);
    assert_non_null(strstr(tl_error_text(), "lost what it acknowledged"));
    tl_reader_free(r);
    must(tl_log_trim(log, 0, 21, 21, tl_now_ms() + DEADLINE)); /* all of it */
    assert_range(log, 0, 22, 22);
    tl_appender_free(a);
    tl_log_close(log);
}

static void appenders_are_held_back(struct kind *k) {
    struct tl_log *log = open_log(k);
    struct tl_appender *a = NULL;
    must(tl_appender_new(log, 0, 2, &a));
    struct tl_header h = push_header(1, COUNT);
    int busy = 0;
    for (uint64_t n = 1; n <= 200; n++) {
        h.sequence = n;
        int rc = tl_appender_put(a, &h, gradient_of(n, COUNT));
        if (rc == TL_E_BUSY) {
            busy++;
            assert_true(tl_appender_put_count(a) - tl_appender_durable_count(a) <= 2);
            append(a, n, COUNT);
        } else {
            must(rc);
        }
    }
    assert_true(busy > 0);
    await_durable(a, 200);
    assert_range(log, 0, 1, 201);
    tl_appender_free(a);
    tl_log_close(log);
}

/* ---- records in parts ------------------------------------------------------------ */

static struct tl_log_config parts_config(struct kind *k, char run[32]) {
    k->runs++;
    struct tl_log_config config = config_of(k, run);
    config.record_bytes = LONG_SIZE;
    config.max_entry_bytes = 256 << 10;
    return config;
}

static void long_records_go_in_parts(struct kind *k) {
    char run[32];
    struct tl_log_config config = parts_config(k, run);
    struct tl_log *log = open_with(&config);
    struct tl_appender *a[2] = {NULL, NULL};
    struct tl_reader *r = NULL;
    const uint64_t count = LONG_SIZE / sizeof(float);
    must(tl_appender_new(log, 0, 8, &a[0]));
    must(tl_appender_new(log, 0, 8, &a[1]));
    /* Two workers at once: their parts may lie between each other. */
    for (uint64_t n = 1; n <= 4; n++) {
        for (uint32_t w = 0; w < 2; w++) {
            struct tl_header h = push_header(n, count);
            h.worker = w;
            int64_t deadline_ms = tl_now_ms() + DEADLINE;
            while (tl_appender_put(a[w], &h, gradient_of(n, count)) == TL_E_BUSY) {
                await_fd(tl_appender_fd(a[w]), deadline_ms);
            }
        }
    }
    await_durable(a[0], 4);
    await_durable(a[1], 4);
    uint64_t first = 0;
    uint64_t end = 0;
    must(tl_log_range(log, 0, tl_now_ms() + DEADLINE, &first, &end));
    assert_true(end > UINT64_C(8) * 12);
    must(tl_reader_new(log, 0, 0, count, &r));
    uint64_t seen[2] = {0, 0};
    uint64_t middle = 0; /* a position within somebody's parts, after some records */
    uint64_t before = 0; /* records up to there */
    for (uint64_t p = 1; p < end; p++) {
        struct tl_reader_item item = next(r);
        assert_int_equal(item.position, p);
        if (item.has_record) {
            uint32_t w = item.record.worker;
            seen[w]++;
            item.record.worker = 1;
            assert_gradient(&item, seen[w], count);
            before += middle == 0;
        } else if (before >= 2 && middle == 0) {
            middle = p;
        }
    }
    assert_true(middle > 0);
    assert_int_equal(seen[0], 4);
    assert_int_equal(seen[1], 4);
    tl_reader_free(r);
    /* Who starts between a record's parts sees the same records after it. */
    must(tl_reader_new(log, 0, middle, count, &r));
    unsigned records = 0;
    for (uint64_t p = middle + 1; p < end; p++) {
        struct tl_reader_item item = next(r);
        assert_int_equal(item.position, p);
        records += item.has_record;
    }
    assert_int_equal(records, 8 - before);
    tl_reader_free(r);
    tl_appender_free(a[0]);
    tl_appender_free(a[1]);
    tl_log_close(log);
}

/* An appender that is gone in the middle of a record leaves parts of nothing. */
static void half_a_record_is_none(struct kind *k) {
    char run[32];
    struct tl_log_config config = parts_config(k, run);
    const uint64_t count = LONG_SIZE / sizeof(float);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct tl_log *log = open_with(&config);
        struct tl_appender *a = NULL;
        must(tl_appender_new(log, 0, 1, &a));
        for (uint64_t n = 1;; n++) { /* until it is killed */
            struct tl_header h = push_header(n, count);
            while (tl_appender_put(a, &h, gradient_of(n, count)) == TL_E_BUSY) {
                await_fd(tl_appender_fd(a), tl_now_ms() + DEADLINE);
            }
        }
    }
    struct tl_log *log = open_with(&config);
    uint64_t first = 0;
    uint64_t end = 1;
    int64_t deadline_ms = tl_now_ms() + DEADLINE;
    while (end < 20 && tl_now_ms() < deadline_ms) {
        must(tl_log_range(log, 0, deadline_ms, &first, &end));
    }
    assert_true(end >= 20);
    assert_int_equal(kill(child, SIGKILL), 0);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    /* Its successor's record is whole, whatever lies before it. */
    struct tl_appender *a = NULL;
    struct tl_reader *r = NULL;
    must(tl_appender_new(log, 0, 1, &a));
    append(a, 1000, count);
    await_durable(a, 1);
    must(tl_log_range(log, 0, tl_now_ms() + DEADLINE, &first, &end));
    must(tl_reader_new(log, 0, 0, count, &r));
    uint64_t last = 0;
    for (uint64_t p = 1; p < end; p++) {
        struct tl_reader_item item = next(r);
        if (item.has_record) {
            assert_true(item.record.sequence == last + 1 ||
                        item.record.sequence == 1000);
            last = item.record.sequence;
            assert_gradient(&item, last, count);
        }
    }
    assert_int_equal(last, 1000);
    tl_reader_free(r);
    tl_appender_free(a);
    tl_log_close(log);
}

/* ---- what does not belong there -------------------------------------------------- */

static void other_runs_and_sizes_are_refused(struct kind *k) {
    char run[32];
    k->runs++;
    struct tl_log_config config = config_of(k, run);
    struct tl_log *log = open_with(&config);
    config.identity++;
    struct tl_log *stranger = open_with(&config);
    struct tl_appender *a = NULL;
    struct tl_reader *r = NULL;
    struct tl_reader_item item;
    must(tl_appender_new(stranger, 0, 8, &a));
    append(a, 1, COUNT);
    await_durable(a, 1);
    tl_appender_free(a);
    must(tl_reader_new(log, 0, 0, COUNT, &r));
    assert_int_equal(try_next(r, &item, DEADLINE), TL_E_MISMATCH);
    assert_non_null(strstr(tl_error_text(), "position 1 is of another job, run"));
    tl_reader_free(r);
    must(tl_appender_new(log, 1, 8, &a));
    append(a, 1, COUNT / 2);
    await_durable(a, 1);
    must(tl_reader_new(log, 1, 0, COUNT, &r));
    assert_int_equal(try_next(r, &item, DEADLINE), TL_E_MISMATCH);
    assert_non_null(strstr(tl_error_text(), "another size"));
    tl_reader_free(r);
    tl_appender_free(a);
    tl_log_close(stranger);
    tl_log_close(log);
}

/* ---- the log's own death --------------------------------------------------------- */

static void restart(const struct kind *k) {
    if (strcmp(k->name, "redis") == 0) {
        test_redis_kill(&redis);
        test_redis_run(&redis);
    } else {
        test_kafka_kill(&kafka);
        test_kafka_run(&kafka);
    }
}

/* SIGKILL of the broker while records are under way: those acknowledged before are
 * there, those under way come, in order; duplicates of one record may follow it. */
static void the_broker_dies_and_comes_back(struct kind *k) {
    struct tl_log *log = open_log(k);
    struct tl_appender *a = NULL;
    struct tl_reader *r = NULL;
    must(tl_appender_new(log, 0, 8, &a));
    must(tl_reader_new(log, 0, 0, COUNT, &r));
    for (uint64_t n = 1; n <= 50; n++) {
        append(a, n, COUNT);
    }
    restart(k);
    for (uint64_t n = 51; n <= 100; n++) {
        append(a, n, COUNT);
    }
    await_durable(a, 100);
    uint64_t last = 0;
    while (last < 100) {
        struct tl_reader_item item = next(r);
        uint64_t sequence = item.record.sequence;
        assert_true(sequence == last || sequence == last + 1);
        assert_gradient(&item, sequence, COUNT);
        last = sequence;
    }
    tl_reader_free(r);
    tl_appender_free(a);
    tl_log_close(log);
}

/* ---- each on both ---------------------------------------------------------------- */

#define ON_BOTH(test)                                                                  \
    static void test##_redis(void **state) {                                           \
        (void)state;                                                                   \
        test(&kinds[0]);                                                               \
    }                                                                                  \
    static void test##_kafka(void **state) {                                           \
        (void)state;                                                                   \
        test(&kinds[1]);                                                               \
    }
ON_BOTH(in_order_and_each_once)
ON_BOTH(every_kind_of_record)
ON_BOTH(from_a_position_and_trimmed)
ON_BOTH(appenders_are_held_back)
ON_BOTH(long_records_go_in_parts)
ON_BOTH(half_a_record_is_none)
ON_BOTH(other_runs_and_sizes_are_refused)
ON_BOTH(the_broker_dies_and_comes_back)
#define BOTH(test) cmocka_unit_test(test##_redis), cmocka_unit_test(test##_kafka)

/* ---- Redis alone ----------------------------------------------------------------- */

static void await_trouble(struct tl_appender *a, const char *what) {
    char why[256] = "";
    int64_t deadline_ms = tl_now_ms() + DEADLINE;
    while (strstr(why, what) == NULL) {
        assert_true(tl_now_ms() < deadline_ms);
        tl_appender_trouble(a, why, sizeof(why));
    }
}

static void a_full_stream_holds_appenders_back(void **state) {
    (void)state;
    char run[32];
    kinds[0].runs++;
    struct tl_log_config config = config_of(&kinds[0], run);
    config.max_bytes =
        10 * (COUNT * sizeof(float) + TL_HEADER_BYTES + TL_TRAILER_BYTES);
    struct tl_log *log = open_with(&config);
    struct tl_appender *a = NULL;
    must(tl_appender_new(log, 0, 20, &a));
    for (uint64_t n = 1; n <= 12; n++) {
        append(a, n, COUNT);
    }
    await_durable(a, 10);
    await_trouble(a, "log.max_bytes");
    int64_t deadline_ms = tl_now_ms() + DEADLINE;
    uint64_t bytes = 0;
    must(tl_log_bytes(log, 0, deadline_ms, &bytes));
    assert_int_equal(bytes, config.max_bytes);
    assert_int_equal(tl_appender_durable_count(a), 10);
    must(tl_log_trim(log, 0, 2, 2, deadline_ms));
    await_durable(a, 12);
    must(tl_log_bytes(log, 0, deadline_ms, &bytes));
    assert_int_equal(bytes, config.max_bytes);
    /* What a checkpoint covers keeps nobody waiting, though it has to stay. */
    for (uint64_t n = 13; n <= 20; n++) {
        append(a, n, COUNT);
    }
    must(tl_log_trim(log, 0, 2, 12, deadline_ms));
    await_durable(a, 20);
    must(tl_log_bytes(log, 0, deadline_ms, &bytes));
    assert_int_equal(bytes, config.max_bytes / 10 * 18);
    /* Twice the same counts once. */
    must(tl_log_trim(log, 0, 12, 12, deadline_ms));
    must(tl_log_bytes(log, 0, deadline_ms, &bytes));
    assert_int_equal(bytes, config.max_bytes / 10 * 8);
    for (uint64_t n = 21; n <= 23; n++) {
        append(a, n, COUNT);
    }
    await_durable(a, 22);
    await_trouble(a, "log.max_bytes");
    assert_range(log, 0, 13, 23);
    tl_appender_free(a);
    tl_log_close(log);
}

static void foreign_and_damaged_entries(void **state) {
    (void)state;
    struct tl_log *log = open_log(&kinds[0]);
    struct tl_reader *r = NULL;
    struct tl_reader_item item;
    test_redis_do(&redis, "XADD tl:{contract/r%u}:log:0 0-* f hello", kinds[0].runs);
    must(tl_reader_new(log, 0, 0, COUNT, &r));
    assert_int_equal(try_next(r, &item, DEADLINE), TL_E_MISMATCH);
    assert_non_null(strstr(tl_error_text(), "is no frame of ours"));
    tl_reader_free(r);
    test_redis_do(&redis, "XADD tl:{contract/r%u}:log:1 * f hello", kinds[0].runs);
    must(tl_reader_new(log, 1, 0, COUNT, &r));
    assert_int_equal(try_next(r, &item, DEADLINE), TL_E_MISMATCH);
    assert_non_null(strstr(tl_error_text(), "somebody else"));
    tl_reader_free(r);
    tl_log_close(log);
}

static void a_flushed_redis_is_noticed(void **state) {
    (void)state;
    struct tl_log *log = open_log(&kinds[0]);
    struct tl_appender *a = NULL;
    struct tl_reader *r = NULL;
    struct tl_reader_item item;
    must(tl_appender_new(log, 0, 8, &a));
    must(tl_reader_new(log, 0, 0, COUNT, &r));
    append(a, 1, COUNT);
    append(a, 2, COUNT);
    await_durable(a, 2);
    (void)next(r);
    (void)next(r);
    test_redis_flush(&redis);
    assert_int_equal(try_next(r, &item, DEADLINE), TL_E_CORRUPT);
    assert_non_null(strstr(tl_error_text(), "lost what it acknowledged"));
    append(a, 3, COUNT);
    int64_t deadline_ms = tl_now_ms() + DEADLINE;
    while (tl_appender_failure(a) == 0 && tl_now_ms() < deadline_ms) {
        await_fd(tl_appender_fd(a), deadline_ms);
    }
    assert_int_equal(tl_appender_failure(a), TL_E_CORRUPT);
    assert_int_equal(tl_appender_durable_count(a), 2);
    tl_reader_free(r);
    tl_appender_free(a);
    tl_log_close(log);
}

/* ---- settings -------------------------------------------------------------------- */

static void assert_config_error(const char *url, const char *settings,
                                const char *says) {
    struct tl_log *log = NULL;
    json_t *json = settings != NULL ? json_loads(settings, 0, NULL) : NULL;
    struct tl_log_config config = {.url = url,
                                   .job = "j",
                                   .run = "r",
                                   .identity = 1,
                                   .shards = 1,
                                   .workers = 1,
                                   .record_bytes = 4,
                                   .kafka = json};
    assert_int_equal(tl_log_open(&config, &log), TL_E_CONFIG);
    if (strstr(tl_error_text(), says) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", tl_error_text(), says);
    }
    json_decref(json);
}

static void wrong_settings_are_named(void **state) {
    (void)state;
    assert_config_error("http://x", NULL, "kafka://host:port");
    assert_config_error("kafka://", NULL, "kafka://host:port");
    assert_config_error("redis://:x", NULL, "redis URL");
    assert_config_error("kafka://h:1", "{\"acsk\": 1}",
                        "\"acsk\": librdkafka has no such");
    assert_config_error("kafka://h:1", "{\"acks\": \"0\"}",
                        "\"acks\" is not to be set");
    assert_config_error("kafka://h:1", "{\"sasl.password\": \"s3cret\"}",
                        "\"sasl.password_file\"");
    assert_config_error("kafka://h:1", "{\"sasl.password_file\": \"/no/such\"}",
                        "/no/such");
    assert_config_error("kafka://h:1", "{\"socket.timeout.ms\": \"soon\"}",
                        "does not take this value");
}

static void nobody_there(void **state) {
    (void)state;
    char port[8];
    char url[2][64];
    test_free_port(port);
    (void)snprintf(url[0], sizeof(url[0]), "redis://127.0.0.1:%s", port);
    (void)snprintf(url[1], sizeof(url[1]), "kafka://127.0.0.1:%s", port);
    for (unsigned i = 0; i < 2; i++) {
        char note[256];
        struct tl_log *log = NULL;
        struct tl_log_config config = {.url = url[i],
                                       .job = "j",
                                       .run = "r",
                                       .identity = 1,
                                       .shards = 1,
                                       .workers = 1,
                                       .record_bytes = 4};
        must(tl_log_open(&config, &log));
        int64_t start_ms = tl_now_ms();
        assert_int_equal(tl_log_create(log, start_ms + 700, note, sizeof(note)),
                         TL_E_UNAVAILABLE);
        assert_true(tl_now_ms() - start_ms < 5000);
        assert_non_null(strstr(tl_error_text(), port)); /* who was not reached */
        tl_log_close(log);
    }
}

/* ---- Kafka alone ----------------------------------------------------------------- */

/* A listener that asks who is there: the right password, the wrong one, and none. */
static void credentials_are_checked(void **state) {
    (void)state;
    char secret[] = "/tmp/throughline-secret-XXXXXX";
    int fd = mkstemp(secret);
    assert_true(fd >= 0);
    struct kind asking = kinds[1];
    (void)snprintf(asking.url, sizeof(asking.url), "%s", kafka.asking_url);
    for (unsigned i = 0; i < 2; i++) {
        const char *password = i == 0 ? "right" : "wrong";
        char run[32];
        char note[256];
        asking.runs = 900 + i;
        struct tl_log_config config = config_of(&asking, run);
        assert_int_equal(pwrite(fd, password, 5, 0), 5);
        json_t *settings =
            json_pack("{s:s, s:s, s:s, s:s}", "security.protocol", "SASL_PLAINTEXT",
                      "sasl.mechanism", "PLAIN", "sasl.username", "train",
                      "sasl.password_file", secret);
        config.kafka = settings;
        struct tl_log *log = NULL;
        must(tl_log_open(&config, &log));
        int rc = tl_log_create(log, tl_now_ms() + DEADLINE, note, sizeof(note));
        if (i == 0) {
            struct tl_appender *a = NULL;
            must(rc);
            must(tl_appender_new(log, 0, 2, &a));
            append(a, 1, COUNT);
            await_durable(a, 1);
            tl_appender_free(a);
        } else {
            assert_int_equal(rc, TL_E_DENIED);
            assert_non_null(strstr(tl_error_text(), "check the credentials"));
            assert_null(strstr(tl_error_text(), "wrong"));
        }
        tl_log_close(log);
        json_decref(settings);
    }
    (void)close(fd);
    (void)unlink(secret);
}

/* What the disk of the broker takes, by a limit of its files' size. */
static void let_grow(pid_t pid, rlim_t bytes) {
    const struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};
    assert_int_equal(prlimit(pid, RLIMIT_FSIZE, &limit, NULL), 0);
}

/* Redis refuses what it cannot write down; the appender waits, says why, and goes on.
 */
static void a_full_disk_under_redis(void **state) {
    (void)state;
    struct tl_log *log = open_log(&kinds[0]);
    struct tl_appender *a = NULL;
    must(tl_appender_new(log, 0, 2, &a));
    append(a, 1, COUNT);
    await_durable(a, 1);
    let_grow(redis.pid, 4096);
    append(a, 2, COUNT);
    append(a, 3, COUNT);
    await_trouble(a, "MISCONF");
    assert_true(tl_appender_durable_count(a) < 3);
    let_grow(redis.pid, RLIM_INFINITY);
    await_durable(a, 3);
    tl_appender_free(a);
    struct tl_reader *r = NULL;
    must(tl_reader_new(log, 0, 0, COUNT, &r));
    uint64_t last = 0;
    while (last < 3) { /* one may be there twice: its answer was lost */
        struct tl_reader_item item = next(r);
        assert_true(item.record.sequence <= last + 1);
        last = item.record.sequence > last ? item.record.sequence : last;
    }
    tl_reader_free(r);
    tl_log_close(log);
}

/* Kafka gives up a directory that it cannot write to, and with its only one itself.
 * What it had acknowledged is there when it comes back with room. */
static void a_full_disk_under_kafka(void **state) {
    (void)state;
    struct tl_log *log = open_log(&kinds[1]);
    struct tl_appender *a = NULL;
    int status = 0;
    must(tl_appender_new(log, 0, 2, &a));
    append(a, 1, COUNT);
    await_durable(a, 1);
    let_grow(kafka.pid, 4096);
    append(a, 2, COUNT);
    append(a, 3, COUNT);
    assert_int_equal(waitpid(kafka.pid, &status, 0),
                     kafka.pid); /* it has ended by it */
    assert_true(!WIFSIGNALED(status) && WEXITSTATUS(status) != 0);
    test_kafka_run(&kafka);
    await_durable(a, 3);
    tl_appender_free(a);
    struct tl_reader *r = NULL;
    must(tl_reader_new(log, 0, 0, COUNT, &r));
    for (uint64_t n = 1; n <= 3; n++) {
        struct tl_reader_item item = next(r);
        assert_gradient(&item, n, COUNT);
    }
    tl_reader_free(r);
    tl_log_close(log);
}

static void a_topic_that_does_not_fit(void **state) {
    (void)state;
    char run[32];
    char note[256];
    struct tl_log *log = open_log(&kinds[1]); /* two partitions */
    struct tl_log_config config = config_of(&kinds[1], run);
    tl_log_close(log);
    config.shards = 3;
    must(tl_log_open(&config, &log));
    assert_int_equal(tl_log_create(log, tl_now_ms() + DEADLINE, note, sizeof(note)),
                     TL_E_MISMATCH);
    assert_non_null(strstr(tl_error_text(), "has 2 partitions, but the job has 3"));
    tl_log_close(log);
    config.shards = 2;
    config.max_entry_bytes = 64 << 20; /* more than the topic was made for */
    must(tl_log_open(&config, &log));
    assert_int_equal(tl_log_create(log, tl_now_ms() + DEADLINE, note, sizeof(note)),
                     TL_E_MISMATCH);
    assert_non_null(strstr(tl_error_text(), "max.message.bytes="));
    tl_log_close(log);
}

static void a_topic_that_is_missing(void **state) {
    (void)state;
    char run[32];
    uint64_t first = 0;
    uint64_t end = 0;
    struct tl_log *log = NULL;
    kinds[1].runs++;
    struct tl_log_config config = config_of(&kinds[1], run);
    must(tl_log_open(&config, &log));
    assert_int_equal(tl_log_range(log, 0, tl_now_ms() + 5000, &first, &end),
                     TL_E_NOTFOUND);
    assert_non_null(strstr(tl_error_text(), "contract.r"));
    tl_log_close(log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH(in_order_and_each_once),
        BOTH(every_kind_of_record),
        BOTH(from_a_position_and_trimmed),
        BOTH(appenders_are_held_back),
        BOTH(long_records_go_in_parts),
        BOTH(half_a_record_is_none),
        BOTH(other_runs_and_sizes_are_refused),
        BOTH(the_broker_dies_and_comes_back),
        cmocka_unit_test(a_full_stream_holds_appenders_back),
        cmocka_unit_test(foreign_and_damaged_entries),
        cmocka_unit_test(a_flushed_redis_is_noticed),
        cmocka_unit_test(wrong_settings_are_named),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(a_topic_that_does_not_fit),
        cmocka_unit_test(a_topic_that_is_missing),
        cmocka_unit_test(credentials_are_checked),
        cmocka_unit_test(a_full_disk_under_redis),
        cmocka_unit_test(a_full_disk_under_kafka),
    };
    return cmocka_run_group_tests_name("durable_log", tests, setup, teardown);
}
