/* A whole job with its snapshots in a bucket: server and S3 server are killed on the
 * way; no loss goes uncounted, and no secret leaves the environment. */
#include "job_run.h"
#include "s3_server.h"

static struct s3_server s3;

/* How often `word` stands in a file. */
static unsigned count_in(const char *path, const char *word) {
    size_t size = 0;
    unsigned count = 0;
    if (access(path, R_OK) != 0) {
        return 0;
    }
    char *text = file_read(path, &size);
    for (const char *at = text;
         (at = memmem(at, size - (size_t)(at - text), word, strlen(word))) != NULL;
         at++) {
        count++;
    }
    free(text);
    return count;
}

static unsigned count_below(const char *directory, const char *word) {
    char root[PATH_MAX];
    unsigned count = 0;
    (void)snprintf(root, sizeof(root), "%s", directory);
    char *const paths[] = {root, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    assert_non_null(tree);
    for (FTSENT *e = fts_read(tree); e != NULL; e = fts_read(tree)) {
        count += e->fts_info == FTS_F ? count_in(e->fts_accpath, word) : 0;
    }
    (void)fts_close(tree);
    return count;
}

static void soon(const char *path, const char *word) {
    const int64_t deadline_ms = test_now_ms() + 60000;
    while (count_in(path, word) == 0) {
        if (test_now_ms() > deadline_ms) {
            fail_msg("%s never says \"%s\"", path, word);
        }
        test_redis_pause();
    }
}

static void verify(const char *store) {
    char flag[PATH_MAX];
    (void)snprintf(flag, sizeof(flag), "--store=%s", store);
    const char *argv[] = {"throughline", "checkpoints", "verify", flag, NULL};
    struct outcome o = program_run(60, argv);
    if (o.exit_code != 0 || strstr(o.out, "verified") == NULL) {
        fail_msg("checkpoints verify: exit %d\n%s%s", o.exit_code, o.out, o.err);
    }
    outcome_done(&o);
}

/* Keys by file and setting: the services get them from the run alone. */
static void a_job_goes_on_through_the_death_of_its_store(void **state) {
    char log[PATH_MAX];
    char out[PATH_MAX];
    char endpoint[TL_S3_NAME_MAX + 32];
    char secret[PATH_MAX];
    char store[TL_PATH_MAX + 64];
    (void)state;
    (void)snprintf(out, sizeof(out), "%s", scratch_path("job"));
    (void)snprintf(log, sizeof(log), "%.3000s/logs/checkpointer.log", out);
    (void)snprintf(store, sizeof(store), "%s", s3_server_url(&s3, "job"));
    (void)snprintf(endpoint, sizeof(endpoint), "--s3-endpoint=%s", s3.options.endpoint);
    (void)snprintf(secret, sizeof(secret), "--s3-secret-key-file=%s",
                   scratch_write("secret", S3_TEST_SECRET "\n"));
    const char *argv[] = {"throughline",
                          "run",
                          JOB_MLP,
                          "--json",
                          "--out",
                          out,
                          "--store",
                          store,
                          endpoint,
                          "--s3-access-key=" S3_TEST_KEY,
                          secret,
                          "--s3-request-ms=2000",
                          "--s3-retry-ms=3000",
                          "--until=seconds=16",
                          "--checkpoint-every-updates=200",
                          "--kill=server@seconds=2,down=500ms",
                          "--kill=server@seconds=13,down=500ms",
                          NULL};
    struct program p = program_start(argv);
    soon(log, "snapshot taken");
    assert_int_equal(kill(s3.pid, SIGKILL), 0);
    assert_int_equal(waitpid(s3.pid, NULL, 0), s3.pid);
    soon(log, "trying again");
    s3_server_run(&s3, "");
    struct outcome o = program_end(&p, 120);
    if (o.exit_code != 0) {
        fail_msg("exit %d\n%s\n%s", o.exit_code, o.err, o.out);
    }
    json_t *result = json_loads(o.out, 0, NULL);
    assert_non_null(result);
    (void)job_assert_recovered(result, 0); /* perhaps before the first snapshot */
    assert_true(number(job_assert_recovered(result, 1), "resumed_from") > 0);
    job_assert_losses_exact(result, 2);
    json_decref(result);
    assert_null(strstr(o.out, S3_TEST_SECRET));
    assert_null(strstr(o.err, S3_TEST_SECRET));
    outcome_done(&o);
    assert_int_equal(count_below(out, S3_TEST_SECRET), 0);
    assert_true(count_below(out, S3_TEST_KEY) >
                0); /* what was looked for can be found */
    verify(store);
    job_assert_nothing_runs();
}

static void assert_store_refused(const char *store, const char *why) {
    char setting[TL_PATH_MAX + 64];
    (void)snprintf(setting, sizeof(setting), "--store=%s", store);
    job_assert_refused(setting, "--until=updates=50", why);
}

/* One line and exit code 2, not a job that runs without its snapshots. */
static void what_cannot_work_is_said_at_once(void **state) {
    (void)state;
    assert_store_refused("s3://no-such-bucket-here/x", "make the bucket");
    (void)setenv("AWS_SECRET_ACCESS_KEY", "wrong", 1);
    assert_store_refused(s3.base, "check the secret key");
    (void)setenv("AWS_SECRET_ACCESS_KEY", S3_TEST_SECRET, 1);
}

/* From a bucket to a directory and back: the same bits, verified, and once. */
static void checkpoints_are_copied(void **state) {
    char store[TL_PATH_MAX + 64];
    char other[TL_PATH_MAX + 64];
    char directory[PATH_MAX];
    (void)state;
    (void)snprintf(store, sizeof(store), "%s", s3_server_url(&s3, "from"));
    (void)snprintf(other, sizeof(other), "%s", s3_server_url(&s3, "to"));
    (void)snprintf(directory, sizeof(directory), "%s", scratch_path("copies"));
    json_t *result = job_run(scratch_path("copied"), 60, "--until=updates=300",
                             "--shards=2", "--store", store, NULL);
    json_decref(result);
    const char *down[] = {"throughline", "checkpoints", "copy", "--all",
                          store,         directory,     NULL};
    const char *up[] = {"throughline", "checkpoints", "copy", directory, other, NULL};
    const char *const *steps[] = {down, up, up};
    for (size_t i = 0; i < 3; i++) {
        struct outcome o = program_run(60, steps[i]);
        const char *said = i < 2 ? ": copied" : "is there already";
        if (o.exit_code != 0 || strstr(o.out, said) == NULL) {
            fail_msg("copy: exit %d\n%s%s", o.exit_code, o.out, o.err);
        }
        outcome_done(&o);
    }
    verify(directory);
    verify(other);
    job_assert_nothing_runs();
}

static int start(void **state) {
    if (scratch_setup(state) != 0) {
        return -1;
    }
    s3_server_start_with(&s3, "");
    (void)setenv("THROUGHLINE_S3_ENDPOINT", s3.options.endpoint, 1);
    (void)setenv("AWS_ACCESS_KEY_ID", S3_TEST_KEY, 1);
    (void)setenv("AWS_SECRET_ACCESS_KEY", S3_TEST_SECRET, 1);
    return 0;
}

static int stop(void **state) {
    s3_server_stop(&s3);
    return scratch_teardown(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_goes_on_through_the_death_of_its_store),
        cmocka_unit_test(what_cannot_work_is_said_at_once),
        cmocka_unit_test(checkpoints_are_copied),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
