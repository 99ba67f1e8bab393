/* Memory runs out while a job is read, checked, digested and saved, and while metrics
 * and the timeline are written. */
#include "throughline/service.h"

#include "scarce.h"
#include "scratch.h"

static const char job_text[] =
    "{\"name\": \"fashion\", \"model\": \"model.json\", \"data\": {"
    "\"train_images\": \"data/a\", \"train_labels\": \"data/b\", "
    "\"test_images\": \"data/c\", \"test_labels\": \"/abs/d\"}, "
    "\"checkpoint\": {\"store\": \"file:///tmp/s\"}, \"until\": {\"updates\": 100}}";

static char job_path[256], saved_path[256], timeline_path[256];

static int start(void **state) {
    (void)setenv("THROUGHLINE_OPTIMIZER_MOMENTUM", "0.5", 1);
    int rc = scratch_setup(state);
    (void)scratch_write("model.json", "{\"layers\": [{\"type\": \"relu\"}], \"n\": 2}");
    (void)snprintf(job_path, sizeof(job_path), "%s",
                   scratch_write("job.json", job_text));
    (void)snprintf(saved_path, sizeof(saved_path), "%s", scratch_path("saved.json"));
    (void)snprintf(timeline_path, sizeof(timeline_path), "%s", scratch_path("t.jsonl"));
    return rc;
}

static int use(const struct tl_job *job) {
    uint64_t digest = 0;
    int rc = tl_job_check(job);
    if (rc == 0) {
        rc = tl_job_digest(job, &digest);
    }
    if (rc == 0) {
        rc = tl_job_fold_digest(job, &digest);
    }
    return rc == 0 ? tl_job_save(job, saved_path) : rc;
}

static int load_and_save(void *ctx) {
    struct tl_job job;
    (void)ctx;
    int rc = tl_job_load(job_path, &job);
    if (rc == 0) {
        rc = use(&job);
        tl_job_done(&job);
    }
    return rc;
}

/* A job is the same, and saved whole, or it is refused. */
static void a_job(void **state) {
    (void)state;
    struct tl_job before;
    struct tl_job after;
    uint64_t digests[2] = {0, 1};
    assert_int_equal(tl_job_load(job_path, &before), 0);
    scarce_torture(load_and_save, NULL);
    assert_int_equal(tl_job_load(saved_path, &after), 0);
    assert_int_equal(tl_job_digest(&before, &digests[0]), 0);
    assert_int_equal(tl_job_digest(&after, &digests[1]), 0);
    assert_true(digests[0] == digests[1]);
    tl_job_done(&before);
    tl_job_done(&after);
}

static int write_timeline(void *ctx) {
    struct tl_timeline *t = NULL;
    (void)ctx;
    int rc = tl_timeline_open(timeline_path, &t);
    if (rc == 0) {
        json_t *line = json_pack("{s:s, s:i}", "kind", "kill", "n", 1);
        rc = line == NULL ? TL_E_NOMEM : tl_timeline_write(t, line);
        tl_timeline_close(t);
    }
    return rc;
}

static void the_timeline(void **state) {
    (void)state;
    scarce_torture(write_timeline, NULL);
}

static int write_metrics(void *ctx) {
    static const double bounds[] = {1, 2, 4};
    size_t size = 0;
    unsigned *count = ctx;
    char labels[32]; /* a metric that is known already needs no memory */
    (void)snprintf(labels, sizeof(labels), "n=\"%u\"", (*count)++);
    struct tl_metric *m = tl_metric_new(TL_HISTOGRAM, "throughline_test_seconds",
                                        labels, "A test's.", bounds, 3);
    if (m == NULL) {
        return TL_E_NOMEM;
    }
    tl_metric_observe(m, 3.0);
    char *text = tl_metrics_text(TL_METRICS_PROMETHEUS, &size);
    int rc = text != NULL ? 0 : TL_E_NOMEM;
    free(text);
    return rc;
}

static void metrics(void **state) {
    (void)state;
    unsigned count = 0;
    scarce_torture(write_metrics, &count);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job),
        cmocka_unit_test(the_timeline),
        cmocka_unit_test(metrics),
    };
    return cmocka_run_group_tests_name("base/memory", tests, start, scratch_teardown);
}
