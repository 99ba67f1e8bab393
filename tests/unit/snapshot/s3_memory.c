/* Memory runs out while objects go to a real bucket and come back, libcurl's own
 * allocations included. What fails says so; what is in the bucket is whole. */
#include "s3_internal.h"
#include "s3_server.h"
#include "scarce.h"
#include "snapshots.h"

static struct s3_server server;

struct bucket {
    char url[TL_PATH_MAX + 64];
    const char *large;
};

/* ---- each operation of a store ----------------------------------------------------
 */

static int put(struct tl_store *s, const char *name, const char *bytes, size_t size,
               bool if_absent) {
    struct tl_store_writer *w = NULL;
    int rc = s->ops->create(s, name, &w);
    if (rc < 0) {
        return rc;
    }
    rc = s->ops->write(w, bytes, size);
    if (rc < 0) {
        s->ops->abandon(w);
        return rc;
    }
    rc = s->ops->commit(w, if_absent);
    return rc == TL_E_EXISTS ? 0 : rc;
}

static int expect(struct tl_store *s, const char *name, const char *bytes,
                  size_t size) {
    struct snapshots_bytes got = {.bytes = malloc(size + 1u), .capacity = size + 1u};
    if (got.bytes == NULL) {
        return TL_E_NOMEM;
    }
    int rc = s->ops->read(s, name, snapshots_collect, &got);
    if (rc == 0) {
        assert_int_equal(got.size, size);
        assert_memory_equal(got.bytes, bytes, size);
    }
    free(got.bytes);
    return rc;
}

static int count(void *ctx, const char *name, uint64_t size) {
    (void)name;
    (void)size;
    (*(unsigned *)ctx)++;
    return 0;
}

static int use_store(struct tl_store *s, const struct bucket *b) {
    static const size_t large = S3_PIECE_BYTES + 1u;
    unsigned objects = 0;
    int rc = put(s, "small", "a small one", 11, false);
    rc = rc == 0 ? put(s, "large", b->large, large, false) : rc;
    int settled = tl_store_settle(s, rc != 0);
    rc = rc == 0 ? settled : rc;
    rc = rc == 0 ? put(s, "first", "the first", 9, true) : rc;
    rc = rc == 0 ? expect(s, "small", "a small one", 11) : rc;
    rc = rc == 0 ? expect(s, "large", b->large, large) : rc;
    rc = rc == 0 ? s->ops->list(s, "", count, &objects) : rc;
    if (rc == 0) {
        assert_true(objects >= 3);
        rc = s->ops->remove(s, "small");
    }
    return rc;
}

static int visit(void *ctx) {
    struct tl_store *s = NULL;
    int rc = tl_store_open(((struct bucket *)ctx)->url, &server.options, &s);
    if (rc == 0) {
        rc = use_store(s, ctx);
        tl_store_close(s);
    }
    return rc;
}

static struct bucket bucket_of(const char *name) {
    struct bucket b = {.large = snapshots_state(3, S3_PIECE_BYTES + 1u, false)};
    (void)snprintf(b.url, sizeof(b.url), "%s", s3_server_url(&server, name));
    return b;
}

static void every_operation_works_or_says_why(void **state) {
    (void)state;
    struct bucket b = bucket_of("ours");
    scarce_torture(visit, &b);
    free((char *)b.large);
}

static int start(void **state) {
    (void)state;
    s3_server_start(&server);
    return 0;
}

static int stop(void **state) {
    (void)state;
    s3_server_stop(&server);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_works_or_says_why),
    };
    return cmocka_run_group_tests_name("snapshot/s3_memory", tests, start, stop);
}
