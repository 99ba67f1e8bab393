/* Memory runs out while objects go to a real bucket and come back: what fails says so,
 * and what is in the bucket is whole. The large ones have a place of their own, since
 * this server stumbles in its listings over what a broken-off upload left. */
#include "s3_internal.h"
#include "s3_server.h"
#include "scarce.h"
#include "snapshots.h"

static struct s3_server server;

#define LARGE (S3_PIECE_BYTES + 1u)
static char *large;

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

static int use_small(struct tl_store *s) {
    unsigned objects = 0;
    int rc = put(s, "small", "a small one", 11, false);
    int settled = tl_store_settle(s, rc != 0);
    rc = rc == 0 ? settled : rc;
    rc = rc == 0 ? put(s, "first", "the first", 9, true) : rc;
    rc = rc == 0 ? expect(s, "small", "a small one", 11) : rc;
    rc = rc == 0 ? s->ops->list(s, "", count, &objects) : rc;
    if (rc == 0) {
        assert_int_equal(objects, 2);
        rc = s->ops->remove(s, "small");
    }
    return rc;
}

/* As a multipart upload. */
static int use_large(struct tl_store *s) {
    int rc = put(s, "large", large, LARGE, false);
    int settled = tl_store_settle(s, rc != 0);
    rc = rc == 0 ? settled : rc;
    return rc == 0 ? expect(s, "large", large, LARGE) : rc;
}

struct visit {
    char url[TL_PATH_MAX + 64];
    int (*use)(struct tl_store *s);
};

static int visit(void *ctx) {
    const struct visit *v = ctx;
    struct tl_store *s = NULL;
    int rc = tl_store_open(v->url, &server.options, &s);
    if (rc == 0) {
        rc = v->use(s);
        tl_store_close(s);
    }
    return rc;
}

static void torture(const char *name, int (*use)(struct tl_store *s)) {
    struct visit v = {.use = use};
    (void)snprintf(v.url, sizeof(v.url), "%s", s3_server_url(&server, name));
    scarce_torture(visit, &v);
}

static void small_objects_work_or_say_why(void **state) {
    (void)state;
    torture("small", use_small);
}

static void large_objects_work_or_say_why(void **state) {
    (void)state;
    large = snapshots_state(3, LARGE, false);
    torture("large", use_large);
    free(large);
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
        cmocka_unit_test(small_objects_work_or_say_why),
        cmocka_unit_test(large_objects_work_or_say_why),
    };
    return cmocka_run_group_tests_name("snapshot/s3_memory", tests, start, stop);
}
