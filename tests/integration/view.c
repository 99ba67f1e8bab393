/* What is seen of a run, and asked of it, over HTTP; many runs as one experiment. */
#include "program.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#define JOB_MLP TL_SOURCE_DIR "/examples/fashion-mlp.json"

/* ---- a run's dashboard
 * ---------------------------------------------------------------- */

struct dashboard {
    unsigned port;
    char token[64];
};

/* As `throughline run` prints it. */
static struct dashboard dashboard_of(const struct program *run) {
    struct dashboard d = {0};
    const int64_t deadline = test_now_ms() + 60000;
    while (d.port == 0 && test_now_ms() < deadline) {
        char *said = program_read(run->err_path);
        const char *at = strstr(said, "dashboard: ");
        if (at != NULL && strchr(at, '\n') != NULL) {
            assert_int_equal(sscanf(at,
                                    "dashboard: http://127.0.0.1:%u/#token=%63[0-9a-f]",
                                    &d.port, d.token),
                             2);
        }
        free(said);
        (void)poll(NULL, 0, 20);
    }
    assert_true(d.port != 0);
    return d;
}

static int dial(unsigned port) {
    const struct sockaddr_in a = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

/* The status of the reply. */
static int post(const struct dashboard *d, const char *path, const char *token) {
    char text[512] = "";
    int status = 0;
    int fd = dial(d->port);
    (void)snprintf(
        text, sizeof(text),
        "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nX-Throughline-Token: %s\r\n"
        "Content-Length: 0\r\nConnection: close\r\n\r\n",
        path, d->port, token);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 30000), 1);
    ssize_t n = read(fd, text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_int_equal(sscanf(text, "HTTP/1.1 %d", &status), 1);
    close(fd);
    return status;
}

/* What was read and not yet looked at. */
static char unread[1 << 18];
static size_t unread_size;

/* The next whole event is in `unread`: does it have both words? It is taken off. */
static bool take_event(char *end, const char *a, const char *b) {
    *end = '\0';
    const bool is_it = strstr(unread, a) != NULL && strstr(unread, b) != NULL;
    unread_size -= (size_t)(end + 2 - unread);
    memmove(unread, end + 2, unread_size + 1);
    return is_it;
}

/* Read events until one has both words. */
static void await_event(int fd, const char *a, const char *b) {
    const int64_t deadline = test_now_ms() + 60000;
    while (test_now_ms() < deadline) {
        char *end = NULL;
        while ((end = strstr(unread, "\n\n")) != NULL) {
            if (take_event(end, a, b)) {
                return;
            }
        }
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 1000) == 1) {
            ssize_t n =
                read(fd, unread + unread_size, sizeof(unread) - 1 - unread_size);
            assert_true(n > 0);
            unread_size += (size_t)n;
            unread[unread_size] = '\0';
        }
    }
    fail_msg("no event with %s and %s within 60 s", a, b);
}

static void a_service_is_killed_and_revived_by_hand(void **state) {
    (void)state;
    char out[PATH_MAX + 16];
    (void)snprintf(out, sizeof(out), "--out=%s", scratch_path("by-hand"));
    const char *argv[] = {"throughline",
                          "run",
                          JOB_MLP,
                          "--allow-kill",
                          out,
                          "--monitor-every-seconds=0.5",
                          "--until=seconds=300",
                          "--membership-lease-ms=1000",
                          NULL};
    static const char request[] = "GET /events HTTP/1.1\r\nHost: x\r\n\r\n";
    struct program run = program_start(argv);
    const struct dashboard d = dashboard_of(&run);
    int events = dial(d.port);
    assert_int_equal(write(events, request, sizeof(request) - 1), sizeof(request) - 1);
    await_event(events, "\"kind\":\"hello\"", "\"control\":true");
    await_event(events, "\"started\"", "server/0");

    assert_int_equal(post(&d, "/control/kill/server/0", "0123456789abcdef"), 403);
    assert_int_equal(post(&d, "/control/kill/server/0", d.token), 202);
    await_event(events, "\"kill\"", "by hand");
    assert_int_equal(post(&d, "/control/kill/server/9", d.token),
                     202); /* and ignored */
    assert_int_equal(post(&d, "/control/revive/server/0", d.token), 202);
    await_event(events, "\"recovered\"", "server/0");

    close(events);
    assert_int_equal(kill(run.pid, SIGTERM), 0);
    struct outcome o = program_end(&run, 60);
    assert_int_equal(o.exit_code, 128 + SIGTERM);
    if (strstr(o.err, "not possible: kill/server/9") == NULL) {
        fail_msg("the wrong request was not told of:\n%s", o.err);
    }
    outcome_done(&o);
    assert_int_equal(processes_with(scratch), 0);
}

/* ---- an experiment
 * ---------------------------------------------------------------------- */

static void write_experiment(const char *path) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fprintf(f,
                  "{\"name\":\"e\",\"job\":\"%s\",\"seeds\":[1,2],"
                  "\"until\":{\"updates\":400},\"set\":{\"monitor.every_seconds\":0.3},"
                  "\"kills\":{\"none\":[],\"one\":[\"server@updates=200,down=200ms\"]},"
                  "\"arms\":[{\"name\":\"checkpoint\",\"kills\":[\"one\",\"none\"]},"
                  "{\"name\":\"none\",\"set\":{\"strategy\":\"none\"},"
                  "\"kills\":[\"none\"]},"
                  "{\"name\":\"unknown\",\"set\":{\"strategy\":\"magic\"},"
                  "\"kills\":[\"none\"]}]}",
                  JOB_MLP);
    assert_int_equal(fclose(f), 0);
}

static void assert_state(const json_t *results, const char *run, const char *state) {
    const char *is =
        json_string_value(json_object_get(json_object_get(results, run), "state"));
    if (is == NULL || strcmp(is, state) != 0) {
        fail_msg("%s is \"%s\", not \"%s\"", run, is != NULL ? is : "", state);
    }
}

static json_t *load(const char *directory, const char *name) {
    char path[PATH_MAX + 64];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    json_t *json = json_load_file(path, 0, NULL);
    if (json == NULL) {
        fail_msg("%s cannot be read", path);
    }
    return json;
}

static void an_experiment_goes_on_where_it_was_stopped(void **state) {
    (void)state;
    char file[PATH_MAX];
    char directory[PATH_MAX];
    char out[PATH_MAX + 16];
    char report[PATH_MAX + 32];
    (void)snprintf(file, sizeof(file), "%s", scratch_path("e.json"));
    (void)snprintf(directory, sizeof(directory), "%s", scratch_path("e"));
    (void)snprintf(out, sizeof(out), "--out=%s", directory);
    write_experiment(file);
    const char *argv[] = {"throughline", "experiment", file, out, NULL};

    struct program first = program_start(argv);
    (void)snprintf(report, sizeof(report), "%s/results.json", directory);
    const int64_t deadline = test_now_ms() + 60000;
    while (access(report, F_OK) != 0 && test_now_ms() < deadline) {
        (void)poll(NULL, 0, 10); /* one run has ended, the next one is on */
    }
    assert_int_equal(kill(first.pid, SIGTERM), 0);
    struct outcome stopped = program_end(&first, 60);
    assert_int_equal(stopped.exit_code, 1);
    outcome_done(&stopped);
    assert_int_equal(processes_with(scratch), 0);
    json_t *before = load(directory, "results.json");
    assert_in_range(json_object_size(before), 1, 7);

    struct outcome o = program_run(180, argv);
    if (o.exit_code != 0) {
        fail_msg("exit %d\n%s", o.exit_code, o.err);
    }
    outcome_done(&o);
    json_t *after = load(directory, "results.json");
    assert_state(after, "checkpoint-one-seed1", "completed");
    assert_state(after, "checkpoint-one-seed2", "completed");
    assert_state(after, "none-none-seed2", "completed");
    assert_state(after, "unknown-none-seed1", "not available");
    assert_true(json_equal(json_object_get(before, "checkpoint-one-seed1"),
                           json_object_get(after, "checkpoint-one-seed1")));
    json_decref(before);
    json_decref(after);

    const char *as_json[] = {"throughline", "report", directory, "--format=json", NULL};
    json_t *model = program_json(60, as_json);
    const json_t *rows =
        json_object_get(json_array_get(json_object_get(model, "tables"), 0), "rows");
    assert_int_equal(json_array_size(rows), 1); /* of those with a control */
    const json_t *checkpoint = json_array_get(rows, 0);
    assert_true(number(checkpoint, "seeds") == 2);
    assert_true(number(checkpoint, "accuracy_interval") >= 0);
    assert_true(number(checkpoint, "recovery_seconds") > 0.2);
    assert_true(number(checkpoint, "control_accuracy") > 0);
    assert_true(number(checkpoint, "gap_interval") >= 0);
    assert_true(number(checkpoint, "redis_writes") > 0);
    assert_true(number(checkpoint, "store_write_bytes") > 0);
    json_decref(model);
    (void)snprintf(report, sizeof(report), "%s/report.html", directory);
    assert_int_equal(access(report, R_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_service_is_killed_and_revived_by_hand),
        cmocka_unit_test(an_experiment_goes_on_where_it_was_stopped),
    };
    return cmocka_run_group_tests_name("view", tests, scratch_setup, scratch_teardown);
}
