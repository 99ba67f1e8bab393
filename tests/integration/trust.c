/* Who may talk, with real programs: a job behind TLS and a secret; those who lack one
 * of them; and that a secret is in no log, file, command line or metric. */
#include "throughline/auth.h"

#include "certificates.h"
#include "shard_rig.h"

#include <dirent.h>
#include <fts.h>
#include <sys/stat.h>

static const char secret[] = "a-secret-that-nobody-may-see-0123456789";

static struct rig rig;
static unsigned test; /* each has a store of its own */

/* ---- what the programs inherit -------------------------------------------------- */

static void inherit(const char *name, const char *path) {
    if (path != NULL) {
        assert_int_equal(setenv(name, path, 1), 0);
    } else {
        assert_int_equal(unsetenv(name), 0);
    }
}

/* A file of its own for each: a program may read it a moment later. */
static void inherit_secret(const char *text) {
    static unsigned count;
    char name[32];
    (void)snprintf(name, sizeof(name), "secret-%u", count++);
    inherit("THROUGHLINE_SECRET_FILE", text != NULL ? scratch_write(name, text) : NULL);
}

/* The certificate of this name, or none. */
static void inherit_tls(const char *name) {
    const struct tl_trust_files f =
        certificate_files(name != NULL ? name : "", "ca", "");
    inherit("THROUGHLINE_TLS_CERT", name != NULL ? f.tls_cert : NULL);
    inherit("THROUGHLINE_TLS_KEY", name != NULL ? f.tls_key : NULL);
    inherit("THROUGHLINE_TLS_CA", name != NULL ? f.tls_ca : NULL);
}

static const char *job(void) {
    char more[512];
    (void)snprintf(
        more, sizeof(more),
        ", \"checkpoint\": {\"every_updates\": 20, \"store\": \"file://%s/store-%u\"}",
        scratch, test);
    return rig_job(more, "checkpoint");
}

static int next_test(void **state) {
    (void)state;
    test++;
    return 0;
}

static struct program start_checkpointer(void) {
    char servers[160];
    (void)snprintf(servers, sizeof(servers), "--servers=%s", rig.address);
    const char *argv[] = {"tl-checkpointer", job(),   "--redis=off",
                          "--http=off",      servers, NULL};
    return program_start(argv);
}

static struct outcome evaluate(void) {
    char servers[160];
    (void)snprintf(servers, sizeof(servers), "--servers=%s", rig.address);
    const char *argv[] = {"throughline", "evaluate", job(), servers, "--json", NULL};
    return program_run(30, argv);
}

static void assert_says_nothing_secret(struct program *p) {
    struct outcome o = rig_end(p);
    assert_int_equal(o.exit_code, 0);
    assert_null(strstr(o.out, secret));
    assert_null(strstr(o.err, secret));
    outcome_done(&o);
}

/* ---- a job behind TLS and a secret ------------------------------------------------
 */

static void every_program_gets_in_with_both(void **state) {
    (void)state;
    inherit_secret(secret);
    inherit_tls("node");
    rig_start_server(&rig, job());
    rig_start_worker(&rig, 0, job(), rig.address, "200");
    struct program checkpointer = start_checkpointer();
    assert_true(rig_reaches(&rig, "throughline_gradients_folded_total", 50));
    if (!rig_reaches(&rig, "throughline_states_sent_total", 1)) {
        fail_msg("no snapshot: %s", program_read(checkpointer.err_path));
    }
    struct outcome o = evaluate();
    if (o.exit_code != 0) {
        fail_msg("%s", o.err);
    }
    outcome_done(&o);
    assert_true(rig_metric(&rig, "throughline_auth_failures_total") == 0.0);
    char *text = NULL;
    assert_int_equal(tl_metrics_fetch(rig.http, tl_now_ms() + 5000, &text), 0);
    assert_null(strstr(text, secret));
    free(text);
    assert_says_nothing_secret(&rig.workers[0]);
    assert_says_nothing_secret(&checkpointer);
    assert_says_nothing_secret(&rig.server);
}

/* ---- those who lack something ------------------------------------------------------
 */

static void assert_worker_fails(const char *text) {
    rig_start_worker(&rig, 1, job(), rig.address, "200");
    struct outcome o = program_end(&rig.workers[1], 20);
    rig.workers[1].pid = 0;
    if (o.exit_code != 2 || strstr(o.err, text) == NULL) {
        fail_msg("exit %d, without \"%s\":\n%s", o.exit_code, text, o.err);
    }
    assert_null(strstr(o.err, secret));
    outcome_done(&o);
}

static void who_lacks_one_is_told_what_to_do(void **state) {
    (void)state;
    inherit_secret(secret);
    inherit_tls("node");
    rig_start_server(&rig, job());
    rig_start_worker(&rig, 0, job(), rig.address, "100");
    assert_true(rig_reaches(&rig, "throughline_gradients_folded_total", 1));

    inherit_secret(NULL);
    assert_worker_fails("give --secret-file");
    inherit_secret("the secret of some other job");
    assert_worker_fails("does not know this job's secret");
    inherit_secret("short");
    assert_worker_fails("a secret has 16 to 1024 bytes");
    inherit_secret(secret);
    inherit_tls(NULL);
    assert_worker_fails("this server speaks TLS");
    inherit_tls("stranger");
    assert_worker_fails("does not accept our certificate");

    double folded = rig_metric(&rig, "throughline_gradients_folded_total");
    assert_true(rig_reaches(&rig, "throughline_gradients_folded_total", folded + 10));
    assert_true(rig_metric(&rig, "throughline_auth_failures_total") >= 3);
    rig_stop(&rig);
}

static void a_worker_s_key_makes_no_checkpointer(void **state) {
    (void)state;
    const char *file = scratch_write("job-secret", secret);
    const char *key = scratch_path("worker.key");
    const char *argv[] = {"throughline", "secret", key, "--role=worker",
                          "--from",      file,     NULL};
    struct outcome o = program_run(10, argv);
    if (o.exit_code != 0) {
        fail_msg("%s", o.err);
    }
    assert_string_equal(o.out, "");
    outcome_done(&o);
    inherit_tls(NULL);
    inherit_secret(secret);
    rig_start_server(&rig, job());

    inherit("THROUGHLINE_SECRET_FILE", key);
    rig_start_worker(&rig, 0, job(), rig.address, "100");
    assert_true(rig_reaches(&rig, "throughline_gradients_folded_total", 1));
    struct outcome refused = evaluate();
    assert_int_equal(refused.exit_code, 2);
    assert_non_null(strstr(refused.err, "good for a worker, not for a monitor"));
    outcome_done(&refused);
    rig_stop(&rig);

    const char *server[] = {"tl-server", job(), "--redis=off", NULL};
    o = program_run(10, server);
    assert_int_equal(o.exit_code, 2);
    assert_non_null(strstr(o.err, "needs the job's secret"));
    outcome_done(&o);
}

static void without_a_secret_nobody_else_may_connect(void **state) {
    (void)state;
    inherit_secret(NULL);
    inherit_tls(NULL);
    const char *argv[] = {"tl-server", job(), "--redis=off", "--listen=tcp://0.0.0.0:0",
                          NULL};
    struct outcome o = program_run(10, argv);
    assert_int_equal(o.exit_code, 2);
    assert_non_null(strstr(o.err, "can be reached from other machines"));
    outcome_done(&o);
}

/* ---- a local run -------------------------------------------------------------------
 */

/* The run's private directory is made below `base`. */
static bool find_secret(const char *base, char ret_path[600]) {
    DIR *listing = opendir(base);
    bool found = false;
    for (struct dirent *e;
         listing != NULL && (e = readdir(listing)) != NULL && !found;) {
        (void)snprintf(ret_path, 600, "%s/%s/secret", base, e->d_name);
        struct stat st;
        found = strncmp(e->d_name, "throughline-run-", 16) == 0 &&
                stat(ret_path, &st) == 0 && st.st_size > TL_SECRET_MIN;
    }
    if (listing != NULL) {
        (void)closedir(listing);
    }
    return found;
}

static void assert_in_no_file(const char *directory, const char *text) {
    char *const paths[] = {(char *)directory, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    unsigned files = 0;
    assert_non_null(tree);
    for (FTSENT *e = fts_read(tree); e != NULL; e = fts_read(tree)) {
        if (e->fts_info == FTS_F) {
            char *bytes = program_read(e->fts_accpath);
            if (strstr(bytes, text) != NULL) {
                fail_msg("%s has the secret", e->fts_path);
            }
            free(bytes);
            files++;
        }
    }
    (void)fts_close(tree);
    assert_true(files >= 5); /* job, timeline and logs were looked at */
}

static void a_local_run_tells_nobody_its_secret(void **state) {
    (void)state;
    char base[256];
    char out[300];
    char path[600];
    char value[TL_SECRET_MAX + 1] = "";
    inherit_secret(NULL);
    inherit_tls(NULL);
    (void)snprintf(base, sizeof(base), "%s/runtime", scratch);
    (void)snprintf(out, sizeof(out), "--out=%s/out", scratch);
    assert_int_equal(mkdir(base, 0700), 0);
    inherit("XDG_RUNTIME_DIR", base);
    const char *argv[] = {
        "throughline", "run", job(), "--until=updates=300", "--kill=server@updates=100",
        "--json",      out,   NULL};
    struct program p = program_start(argv);
    for (int64_t end = tl_now_ms() + RIG_WAIT_MS; !find_secret(base, path);) {
        assert_true(tl_now_ms() < end);
        rig_pause(5);
    }
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(value, sizeof(value), file));
    (void)fclose(file);
    value[strcspn(value, "\n")] = '\0';
    assert_int_equal(strlen(value), 64);
    assert_int_equal(processes_with(value), 0); /* on no command line */

    struct outcome o = program_end(&p, 120);
    if (o.exit_code != 0) {
        fail_msg("%s", o.err);
    }
    assert_null(strstr(o.out, value));
    assert_null(strstr(o.err, value));
    outcome_done(&o);
    assert_in_no_file(out + strlen("--out="), value);
    assert_int_equal(access(path, F_OK), -1); /* gone with the run */
    inherit("XDG_RUNTIME_DIR", NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_program_gets_in_with_both, next_test),
        cmocka_unit_test_setup(who_lacks_one_is_told_what_to_do, next_test),
        cmocka_unit_test_setup(a_worker_s_key_makes_no_checkpointer, next_test),
        cmocka_unit_test_setup(without_a_secret_nobody_else_may_connect, next_test),
        cmocka_unit_test_setup(a_local_run_tells_nobody_its_secret, next_test),
    };
    return cmocka_run_group_tests_name("trust", tests, certificates_setup,
                                       scratch_teardown);
}
