/* The job file: loaded, checked across fields, digested, and saved so that it reads
 * back the same from anywhere. */
#include "throughline/job.h"

#include "scratch.h"

static const char text[] =
    "{\"name\": \"fashion\", \"model\": \"models/m.json\", \"data\": {"
    "\"train_images\": \"data/a\", \"train_labels\": \"data/b\", "
    "\"test_images\": \"data/c\", \"test_labels\": \"/abs/d\"}, "
    "\"optimizer\": {\"momentum\": 0.9}, "
    "\"checkpoint\": {\"store\": \"file:///tmp/s\"}, \"until\": {\"updates\": 100}}";

static struct tl_job job;

static int load(void **state) {
    (void)state;
    return tl_job_load(scratch_path("job.json"), &job);
}

static int done(void **state) {
    (void)state;
    tl_job_done(&job);
    return 0;
}

static void set(const char *name, const char *value) {
    assert_int_equal(tl_config_set(&tl_job_table, &job, name, value, "test"), 0);
}

static void defaults_are_in_place(void **state) {
    (void)state;
    char expected[256];
    (void)snprintf(expected, sizeof(expected), "%s/data/a", scratch);
    assert_string_equal(job.train_images, expected);
    assert_string_equal(job.test_labels, "/abs/d");
    assert_string_equal(json_string_value(json_object_get(job.model, "kind")), "tiny");
    assert_int_equal(job.strategy, TL_STRATEGY_CHECKPOINT);
    assert_int_equal(job.consistency, TL_ASYNC);
    assert_int_equal(job.reduce, TL_REDUCE_MEAN);
    assert_int_equal(job.optimizer, TL_SGD);
    assert_int_equal(job.schedule, TL_CONSTANT);
    assert_true(job.learning_rate == 0.01 && job.momentum == 0.9);
    assert_int_equal(job.lease_ms, 3000);
    assert_int_equal(job.patience_ms, 120000);
    assert_int_equal(job.request_ms, 10000);
    assert_int_equal(job.checkpoint_updates, 100);
    assert_int_equal(job.checkpoint_keep, 3);
    assert_true(job.unix_checksum && job.refuse_nonfinite);
    assert_int_equal(job.stale_policy, TL_STALE_INVERSE);
    assert_int_equal(job.encoding, TL_ENCODING_F32);
    assert_int_equal(tl_job_check(&job), 0);
}

/* The words of the table stand for the numbers of the headers. */
static void words_mean_their_numbers(void **state) {
    (void)state;
    set("consistency", "sync");
    assert_int_equal(job.consistency, TL_SYNC);
    set("consistency", "ssp");
    assert_int_equal(job.consistency, TL_SSP);
    set("sync.reduce", "sum");
    assert_int_equal(job.reduce, TL_REDUCE_SUM);
    set("optimizer.kind", "adam");
    assert_int_equal(job.optimizer, TL_ADAM);
    set("schedule.kind", "step");
    assert_int_equal(job.schedule, TL_STEP);
    set("schedule.kind", "cosine");
    assert_int_equal(job.schedule, TL_COSINE);
    set("strategy", "none");
    assert_int_equal(job.strategy, TL_STRATEGY_NONE);
    static const char *const policies[TL_STALE_POLICIES] = {
        "apply", "backlog", "inverse", "gap", "delay", "clip", "elastic"};
    for (int i = 0; i < (int)TL_STALE_POLICIES; i++) {
        set("stale.policy", policies[i]);
        assert_int_equal(job.stale_policy, i);
    }
    set("encoding", "topk");
    assert_int_equal(job.encoding, TL_ENCODING_TOPK);
}

static void the_environment_goes_over_the_file(void **state) {
    (void)state;
    struct tl_job other;
    (void)setenv("THROUGHLINE_OPTIMIZER_MOMENTUM", "0.5", 1);
    assert_int_equal(tl_job_load(scratch_path("job.json"), &other), 0);
    (void)unsetenv("THROUGHLINE_OPTIMIZER_MOMENTUM");
    assert_true(other.momentum == 0.5);
    tl_job_done(&other);
}

static void a_misspelt_key_is_named(void **state) {
    (void)state;
    struct tl_job other;
    const char *path =
        scratch_write("bad.json", "{\"optimizer\": {\"lerning_rate\": 0.1}}");
    char expected[512];
    (void)snprintf(expected, sizeof(expected),
                   "%s: \"optimizer.lerning_rate\" is not known; did you mean "
                   "\"optimizer.learning_rate\"?",
                   path);
    assert_int_equal(tl_job_load(path, &other), TL_E_CONFIG);
    assert_string_equal(tl_error_text(), expected);
    assert_int_equal(tl_job_load(scratch_path("none.json"), &other), TL_E_CONFIG);
}

/* ---- across fields -------------------------------------------------------------- */

struct change {
    const char *name, *value;
};

struct contradiction {
    struct change changes[3];
    const char *text;
};

static const struct contradiction contradictions[] = {
    {{{"name", "Fashion MNIST"}}, "\"name\" must be lower-case"},
    {{{"name", ""}}, "\"name\" is missing"},
    {{{"data.test_images", ""}}, "\"data.test_images\" is missing"},
    {{{"checkpoint.store", ""}}, "\"checkpoint.store\" is missing"},
    {{{"checkpoint.every_updates", "0"}}, "are both 0"},
    {{{"consistency", "sync"}, {"sync.quorum", "3"}},
     "more than \"workers\", which is 2"},
    {{{"server.max_connections", "5"}}, "2 workers need at least 6"},
    {{{"worker.request_ms", "200000"}}, "more than \"worker.patience_ms\""},
    {{{"optimizer.momentum", "0"}, {"optimizer.nesterov", "true"}}, "needs"},
    {{{"stale.policy", "backlog"}, {"optimizer.kind", "adam"}}, "needs"},
    {{{"stale.policy", "elastic"}, {"optimizer.kind", "adamw"}}, "needs"},
    {{{"schedule.kind", "cosine"}}, "must be above 0 for \"cosine\""},
    {{{"schedule.kind", "step"}}, "must be above 0 for \"step\""},
    {{{"until.updates", "0"}}, "the job has no end"},
    {{{"until.accuracy", "0.9"}, {"monitor.every_seconds", "0"}}, "is never measured"},
};

static void contradictions_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(contradictions) / sizeof(contradictions[0]); i++) {
        const struct contradiction *c = &contradictions[i];
        assert_int_equal(load(NULL), 0);
        assert_int_equal(tl_job_check(&job), 0);
        for (size_t j = 0; j < 3 && c->changes[j].name != NULL; j++) {
            set(c->changes[j].name, c->changes[j].value);
        }
        assert_int_equal(tl_job_check(&job), TL_E_CONFIG);
        if (strstr(tl_error_text(), c->text) == NULL) {
            fail_msg("%s: %s", c->changes[0].name, tl_error_text());
        }
        tl_job_done(&job);
    }
}

static void other_ends_will_do(void **state) {
    (void)state;
    set("until.updates", "0");
    set("until.seconds", "10");
    assert_int_equal(tl_job_check(&job), 0);
    set("until.seconds", "0");
    set("until.accuracy", "0.8");
    assert_int_equal(tl_job_check(&job), 0);
    set("strategy", "none");
    set("checkpoint.store", "");
    assert_int_equal(tl_job_check(&job), 0);
}

/* ---- digests -------------------------------------------------------------------- */

static uint64_t run_digest(const struct tl_job *j) {
    uint64_t digest = 0;
    assert_int_equal(tl_job_digest(j, &digest), 0);
    return digest;
}

static uint64_t fold_digest(const struct tl_job *j) {
    uint64_t digest = 0;
    assert_int_equal(tl_job_fold_digest(j, &digest), 0);
    return digest;
}

static void digests_follow_what_they_cover(void **state) {
    (void)state;
    const uint64_t run = run_digest(&job);
    const uint64_t fold = fold_digest(&job);
    assert_true(run != 0 && fold != 0 && run != fold);
    set("data.train_images", "/somewhere/else");
    set("worker.patience_ms", "30000");
    set("checkpoint.store", "file:///elsewhere");
    assert_true(run_digest(&job) == run);
    assert_true(fold_digest(&job) == fold);
    set("until.updates", "200");
    assert_true(run_digest(&job) != run);
    assert_true(fold_digest(&job) == fold);
    set("until.updates", "100");
    assert_true(run_digest(&job) == run);
    set("encoding", "int8"); /* a state does not depend on it */
    assert_true(run_digest(&job) != run);
    assert_true(fold_digest(&job) == fold);
    set("encoding", "f32");
    set("stale.policy", "gap");
    assert_true(run_digest(&job) != run);
    assert_true(fold_digest(&job) != fold);
    set("stale.policy", "inverse");
    assert_true(run_digest(&job) == run && fold_digest(&job) == fold);
    set("optimizer.learning_rate", "0.011");
    assert_true(run_digest(&job) != run);
    assert_true(fold_digest(&job) != fold);
}

static void digests_follow_the_model(void **state) {
    (void)state;
    const uint64_t fold = fold_digest(&job);
    assert_int_equal(json_object_set_new(job.model, "layers", json_integer(3)), 0);
    assert_true(fold_digest(&job) != fold);
}

/* ---- saved ---------------------------------------------------------------------- */

static void a_saved_job_is_the_same_from_anywhere(void **state) {
    (void)state;
    struct tl_job again;
    char here[1024];
    char expected[2048];
    assert_non_null(getcwd(here, sizeof(here)));
    set("data.test_images", "relative/c");
    set("optimizer.learning_rate", "0.1");
    assert_int_equal(tl_job_save(&job, scratch_path("saved.json")), 0);
    assert_int_equal(access(scratch_path("saved.json.part"), F_OK), -1);
    assert_int_equal(unlink(scratch_path("models/m.json")), 0);
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(tl_job_load(scratch_path("saved.json"), &again), 0);
    assert_int_equal(chdir(here), 0);
    (void)snprintf(expected, sizeof(expected), "%s/relative/c", here);
    assert_string_equal(again.test_images, expected);
    assert_true(run_digest(&again) == run_digest(&job));
    assert_true(fold_digest(&again) == fold_digest(&job));
    memcpy(job.test_images, again.test_images, sizeof(job.test_images));
    json_t *first = tl_config_dump(&tl_job_table, &job);
    json_t *second = tl_config_dump(&tl_job_table, &again);
    assert_true(json_equal(first, second));
    json_decref(first);
    json_decref(second);
    tl_job_done(&again);
    (void)scratch_write("models/m.json", "{\"kind\": \"tiny\"}");
}

static void a_place_that_cannot_be_written_is_named(void **state) {
    (void)state;
    assert_int_equal(tl_job_save(&job, "/nowhere/at/all.json"), TL_E_IO);
    assert_non_null(strstr(tl_error_text(), "/nowhere/at/all.json"));
}

static void the_fold_gets_what_the_job_says(void **state) {
    (void)state;
    struct tl_fold_config c;
    set("shards", "3");
    set("consistency", "sync");
    set("sync.quorum", "1");
    set("clip.norm", "2.5");
    tl_job_fold_config(&job, 1000, 2, &c);
    assert_int_equal(c.first, 667);
    assert_int_equal(c.count, 333);
    assert_int_equal(c.consistency, TL_SYNC);
    assert_int_equal(c.quorum, 1);
    assert_int_equal(c.start_workers, 2);
    assert_int_equal(c.stale.policy, TL_STALE_APPLY); /* in sync none is stale */
    assert_int_equal(c.until_version, 100);
    assert_true(c.clip_norm == 2.5 && c.optimizer.momentum == 0.9);
    assert_true(c.spare_copies >= 1);
    set("consistency", "async");
    tl_job_fold_config(&job, 1000, 2, &c);
    assert_int_equal(c.start_workers, 0);
    assert_int_equal(c.stale.policy, TL_STALE_INVERSE);
    assert_true(c.stale.lambda == 0.04 && c.stale.alpha == 0.5 && c.stale.norm == 1.0);
}

/* ---- the shipped examples ------------------------------------------------------- */

/* A local run brings the store; all else must be there. */
static void the_examples_are_right(void **state) {
    (void)state;
    static const char *const names[] = {"fashion-cnn", "fashion-mlp",
                                        "fashion-cnn-paper"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[256];
        (void)snprintf(path, sizeof(path), "%s/examples/%s.json", TL_SOURCE_DIR,
                       names[i]);
        assert_int_equal(tl_job_load(path, &job), 0);
        assert_string_equal(job.name, names[i]);
        assert_int_equal(access(job.train_images, R_OK), 0);
        assert_int_equal(access(job.train_labels, R_OK), 0);
        assert_int_equal(access(job.test_images, R_OK), 0);
        assert_int_equal(access(job.test_labels, R_OK), 0);
        set("checkpoint.store", "file:///tmp/store");
        assert_int_equal(tl_job_check(&job), 0);
        tl_job_done(&job);
    }
}

static int setup(void **state) {
    if (scratch_setup(state) != 0 || mkdir(scratch_path("models"), 0700) != 0) {
        return -1;
    }
    (void)scratch_write("models/m.json", "{\"kind\": \"tiny\"}");
    (void)scratch_write("job.json", text);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults_are_in_place, load, done),
        cmocka_unit_test_setup_teardown(words_mean_their_numbers, load, done),
        cmocka_unit_test(the_environment_goes_over_the_file),
        cmocka_unit_test(a_misspelt_key_is_named),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test_setup_teardown(other_ends_will_do, load, done),
        cmocka_unit_test_setup_teardown(digests_follow_what_they_cover, load, done),
        cmocka_unit_test_setup_teardown(digests_follow_the_model, load, done),
        cmocka_unit_test_setup_teardown(a_saved_job_is_the_same_from_anywhere, load,
                                        done),
        cmocka_unit_test_setup_teardown(a_place_that_cannot_be_written_is_named, load,
                                        done),
        cmocka_unit_test_setup_teardown(the_fold_gets_what_the_job_says, load, done),
        cmocka_unit_test(the_examples_are_right),
    };
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
