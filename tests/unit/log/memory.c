/* Memory runs out while records become entries and entries records, and at each step of
 * an exchange, of appending and of reading. Nothing that is then in a log is damaged:
 * what could not be made is refused, and can be put again. */
#include "throughline/service.h"

#include "durable.h"
#include "fake_shard.h"
#include "redis.h"
#include "scarce.h"

#include <inttypes.h>
#include <poll.h>

enum { COUNT = 40000, ENTRY_BYTES = 65536, DEADLINE_MS = 20000 };

static float gradient[COUNT];

/* ---- entries --------------------------------------------------------------------- */

static const struct entry_rules rules = {
    .identity = 7, .count = COUNT, .max_entry_bytes = ENTRY_BYTES, .span = 64};

static int carry(struct assembly *a, uint64_t parts, unsigned *ret_records) {
    const struct tl_header record = {
        .kind = TL_KIND_PUSH, .sequence = 1, .length = sizeof(gradient)};
    struct tl_reader_item item;
    for (uint64_t i = 0; i < parts; i++) {
        size_t size = 0;
        uint8_t *entry = entry_encode(&rules, &record, gradient, i, parts, &size);
        if (entry == NULL) {
            return TL_E_NOMEM;
        }
        int rc = assembly_take(a, i + 1, entry, size, &item);
        if (rc == 0 && item.has_record) {
            assert_memory_equal(item.record.values, gradient, sizeof(gradient));
            (*ret_records)++;
        }
        free(entry);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int encode_and_assemble(void *ctx) {
    (void)ctx;
    struct assembly *a = NULL;
    unsigned records = 0;
    int rc = assembly_new(&rules, &a);
    if (rc == 0) {
        rc = carry(a, entry_parts(rules.max_entry_bytes, sizeof(gradient)), &records);
        assert_int_equal(records, rc == 0);
    }
    assembly_free(a);
    return rc;
}

static void entries_are_whole_or_none(void **state) {
    (void)state;
    scarce_torture(encode_and_assemble, NULL);
}

/* ---- the direct log -------------------------------------------------------------- */

static int find_shard(void *ctx, uint32_t number, struct tl_address *ret_address) {
    (void)number;
    return tl_address_parse(((const struct fake_shard *)ctx)->server.address,
                            ret_address);
}

static int perform(struct tl_direct *d, const struct tl_direct_request *request) {
    const int64_t deadline_ms = tl_now_ms() + DEADLINE_MS;
    int rc = tl_direct_begin(d, request, tl_now_ms());
    rc = rc == 0 ? tl_direct_advance(d, tl_now_ms()) : rc;
    while (rc == TL_E_BUSY) {
        struct pollfd p = {.fd = tl_direct_fd(d), .events = tl_direct_events(d)};
        assert_true(tl_now_ms() < deadline_ms);
        (void)poll(&p, 1, 10);
        rc = tl_direct_advance(d, tl_now_ms());
    }
    return rc;
}

static int join_and_leave(void *ctx) {
    const struct tl_direct_config config = {.role = TL_ROLE_WORKER,
                                            .job = "job",
                                            .run = "run",
                                            .request_ms = 2000,
                                            .find = find_shard,
                                            .ctx = ctx};
    const struct tl_direct_request join = {.op = TL_DIRECT_JOIN, .incarnation = 1};
    const struct tl_direct_request leave = {.op = TL_DIRECT_LEAVE};
    struct tl_direct *d = NULL;
    int rc = tl_direct_new(&config, &d);
    rc = rc == 0 ? perform(d, &join) : rc;
    rc = rc == 0 ? perform(d, &leave) : rc;
    tl_direct_free(d);
    return rc;
}

static void an_exchange_completes_or_says_why(void **state) {
    (void)state;
    struct fake_shard shard;
    fake_shard_start(&shard, 0, 1, 8);
    scarce_torture(join_and_leave, &shard);
    fake_shard_stop(&shard);
}

/* ---- durable logs ---------------------------------------------------------------- */

struct durable {
    const char *url;
    unsigned runs; /* each attempt has a log of its own */
};

static int open_log(struct durable *durable, struct tl_log **ret_log) {
    char run[32];
    (void)snprintf(run, sizeof(run), "r%u", durable->runs++);
    const struct tl_log_config config = {.url = durable->url,
                                         .job = "memory",
                                         .run = run,
                                         .identity = 7,
                                         .shards = 1,
                                         .workers = 1,
                                         .record_bytes = sizeof(gradient),
                                         .max_bytes = 64u << 20,
                                         .max_entry_bytes = ENTRY_BYTES};
    return tl_log_open(&config, ret_log);
}

static int append(struct tl_log *log) {
    const struct tl_header push = {
        .kind = TL_KIND_PUSH, .sequence = 1, .length = sizeof(gradient)};
    const int64_t deadline_ms = tl_now_ms() + DEADLINE_MS;
    struct tl_appender *a = NULL;
    int rc = tl_appender_new(log, 0, 1, &a);
    rc = rc == 0 ? tl_appender_put(a, &push, gradient) : rc;
    while (rc == 0 && tl_appender_durable_count(a) == 0) {
        struct pollfd p = {.fd = tl_appender_fd(a), .events = POLLIN};
        assert_true(tl_now_ms() < deadline_ms);
        (void)poll(&p, 1, 100);
        rc = tl_appender_failure(a);
    }
    tl_appender_free(a);
    return rc;
}

/* The first record; its last part has it. */
static int read_back(struct tl_log *log) {
    const int64_t deadline_ms = tl_now_ms() + DEADLINE_MS;
    struct tl_reader *r = NULL;
    struct tl_reader_item item = {0};
    int rc = tl_reader_new(log, 0, 0, COUNT, &r);
    while (rc == 0 && !item.has_record) {
        rc = tl_reader_next(r, &item);
        if (rc == TL_E_BUSY) {
            struct pollfd p = {.fd = tl_reader_fd(r), .events = POLLIN};
            assert_true(tl_now_ms() < deadline_ms);
            (void)poll(&p, 1, 100);
            rc = 0;
        }
    }
    if (rc == 0) {
        assert_memory_equal(item.record.values, gradient, sizeof(gradient));
    }
    tl_reader_free(r);
    return rc;
}

static int append_and_read(void *ctx) {
    struct tl_log *log = NULL;
    char note[256];
    int rc = open_log(ctx, &log);
    if (rc == 0) {
        rc = tl_log_create(log, tl_now_ms() + DEADLINE_MS, note, sizeof(note));
        rc = rc == 0 ? append(log) : rc;
        rc = rc == 0 ? read_back(log) : rc;
        tl_log_close(log);
    }
    return rc;
}

static void a_log_on_redis_has_all_or_says_why(void **state) {
    (void)state;
    struct test_redis redis;
    test_redis_start(&redis);
    struct durable durable = {.url = redis.url};
    scarce_torture(append_and_read, &durable);
    test_redis_stop(&redis);
}

/* Without a broker: what is put waits, and is given up. */
static int open_appender(void *ctx) {
    const struct tl_header join = {.kind = TL_KIND_JOIN};
    struct tl_log *log = NULL;
    struct tl_appender *a = NULL;
    int rc = open_log(ctx, &log);
    if (rc == 0) {
        rc = tl_appender_new(log, 0, 1, &a);
        rc = rc == 0 ? tl_appender_put(a, &join, NULL) : rc;
        tl_appender_free(a);
        tl_log_close(log);
    }
    return rc;
}

static void an_appender_to_kafka_opens_or_says_why(void **state) {
    (void)state;
#if defined(__SANITIZE_THREAD__)
    skip(); /* librdkafka begins its threads in a way that this sanitizer does not see
             */
#endif
    struct durable durable = {.url = "kafka://127.0.0.1:1"};
    scarce_torture(open_appender, &durable);
}

int main(void) {
    for (unsigned i = 0; i < COUNT; i++) {
        gradient[i] = (float)i / 8.0F;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_whole_or_none),
        cmocka_unit_test(an_exchange_completes_or_says_why),
        cmocka_unit_test(a_log_on_redis_has_all_or_says_why),
        cmocka_unit_test(an_appender_to_kafka_opens_or_says_why),
    };
    return cmocka_run_group_tests_name("log/memory", tests, NULL, NULL);
}
