/* What bad input gets: one line that names file and field, and exit code 2. */
#include "job_run.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define SUBSET TL_SOURCE_DIR "/datasets/fashion-mnist-subset/"
#define GOOD_DATA                                                                      \
    "\"data\": {\"train_images\": \"" SUBSET "train-images-idx3-ubyte.gz\","           \
    "\"train_labels\": \"" SUBSET "train-labels-idx1-ubyte.gz\","                      \
    "\"test_images\": \"" SUBSET "t10k-images-idx3-ubyte.gz\","                        \
    "\"test_labels\": \"" SUBSET "t10k-labels-idx1-ubyte.gz\"}"
#define GOOD_MODEL                                                                     \
    "\"model\": {\"input\": [1,28,28], \"classes\": 10, \"layers\": "                  \
    "[{\"type\": \"flatten\"}, {\"type\": \"dense\", \"units\": 10}]}"
#define GOOD_END "\"until\": {\"updates\": 20}"
#define JOB(model, data, more)                                                         \
    "{\"name\": \"bad\", " model ", " data ", " GOOD_END more "}"

static const char *write_file(const char *name, const void *bytes, size_t size) {
    static char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s", scratch, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    return path;
}

/* One line on stderr that holds every part, exit code 2, and nothing left behind. */
static void assert_refused(struct outcome o, const char *part, const char *other) {
    const char *newline = strchr(o.err, '\n');
    if (o.exit_code != 2 || strstr(o.err, part) == NULL ||
        strstr(o.err, other) == NULL || newline == NULL || newline[1] != '\0') {
        fail_msg("wanted exit 2 and one line with \"%s\" and \"%s\", got exit %d:\n%s",
                 part, other, o.exit_code, o.err);
    }
    outcome_done(&o);
    job_assert_nothing_runs();
}

static void assert_job_refused(const char *job, const char *part, const char *other) {
    const char *path = write_file("job.json", job, strlen(job));
    const char *argv[] = {"throughline",         "run", path, "--out",
                          scratch_path("never"), NULL};
    assert_refused(program_run(30, argv), part, other);
}

static void a_good_job_of_this_form_is_accepted(void **state) {
    (void)state;
    const char *job = JOB(GOOD_MODEL, GOOD_DATA, "");
    const char *path = write_file("good.json", job, strlen(job));
    const char *argv[] = {"throughline",        "run",    path, "--out",
                          scratch_path("good"), "--json", NULL};
    json_t *result = program_json(60, argv);
    assert_true(number(result, "updates") >= 20);
    json_decref(result);
}

static void job_files(void **state) {
    (void)state;
    assert_job_refused(JOB(GOOD_MODEL, GOOD_DATA, ", \"bacth\": 32"), "bacth",
                       "\"batch\"");
    assert_job_refused(
        JOB(GOOD_MODEL, GOOD_DATA, ", \"optimizer\": {\"lerning_rate\": 0.1}"),
        "job.json", "optimizer.learning_rate");
    assert_job_refused(JOB(GOOD_MODEL, GOOD_DATA, ", \"batch\": \"32\""), "job.json",
                       "batch");
    assert_job_refused(JOB(GOOD_MODEL, GOOD_DATA, ", \"batch\": 0"), "job.json",
                       "batch");
    assert_job_refused(JOB(GOOD_MODEL, GOOD_DATA, ", \"shards\": 100000"), "shards",
                       "");
    assert_job_refused(JOB(GOOD_MODEL, GOOD_DATA, ", \"strategy\": \"chekpoint\""),
                       "strategy", "checkpoint");
    assert_job_refused("{\"name\": \"bad\", ", "job.json:1:", "");
    assert_job_refused("[1, 2]", "job.json", "");
}

static void models(void **state) {
    (void)state;
    assert_job_refused(
        JOB("\"model\": {\"input\": [1,28,28], \"classes\": 10, \"layers\": "
            "[{\"type\": \"conv2d\", \"filters\": 4, \"kernel\": 99}]}",
            GOOD_DATA, ""),
        "layer", "kernel");
    assert_job_refused(
        JOB("\"model\": {\"input\": [1,28,28], \"classes\": 10, \"layers\": "
            "[{\"type\": \"dens\", \"units\": 10}]}",
            GOOD_DATA, ""),
        "layer", "dense");
    assert_job_refused(
        JOB("\"model\": {\"input\": [1,28,28], \"classes\": 10, \"layers\": "
            "[{\"type\": \"flatten\"}, {\"type\": \"dense\", \"units\": 9}]}",
            GOOD_DATA, ""),
        "9", "10");
    assert_job_refused(JOB("\"model\": \"absent.json\"", GOOD_DATA, ""), "absent.json",
                       "");
}

/* A job whose training images are the file `name` with these bytes. */
static void assert_images_refused(const char *name, const void *bytes, size_t size,
                                  const char *part) {
    (void)write_file(name, bytes, size);
    char job[4096];
    (void)snprintf(job, sizeof(job),
                   "{\"name\": \"bad\", " GOOD_MODEL ", \"data\": {\"train_images\": "
                   "\"%s\", \"train_labels\": \"" SUBSET
                   "train-labels-idx1-ubyte.gz\", \"test_images\": \"" SUBSET
                   "t10k-images-idx3-ubyte.gz\", \"test_labels\": \"" SUBSET
                   "t10k-labels-idx1-ubyte.gz\"}, " GOOD_END "}",
                   name);
    assert_job_refused(job, name, part);
}

static void image_files(void **state) {
    (void)state;
    static const unsigned char lying[16 + 100] = {0, 0, 8, 3,  0, 0, 0x27, 0x10,
                                                  0, 0, 0, 28, 0, 0, 0,    28};
    static const unsigned char magic[16] = {1, 2, 3, 4};
    static const unsigned char gzip[64] = {0x1f, 0x8b, 8, 0, 0,    0,
                                           0,    0,    0, 3, 0xff, 0xff};
    assert_images_refused("lying.idx", lying, sizeof(lying), "");
    assert_images_refused("magic.idx", magic, sizeof(magic), "");
    assert_images_refused("short.idx", lying, 7, "");
    assert_images_refused("damaged.gz", gzip, sizeof(gzip), "");
    assert_job_refused(JOB(GOOD_MODEL,
                           "\"data\": {\"train_images\": \"nowhere\", "
                           "\"train_labels\": \"nowhere\", \"test_images\": "
                           "\"nowhere\", \"test_labels\": \"nowhere\"}",
                           ""),
                       "nowhere", "");
}

static void flags(void **state) {
    (void)state;
    static const struct {
        const char *flag, *part, *other;
    } bad[] = {
        {"--wrokers=2", "--wrokers", "--workers"},
        {"--workers=two", "workers", "two"},
        {"--until=forever", "until", "forever"},
        {"--kill=server@sometime", "kill", ""},
        {"--kill=sevrer@updates=10", "sevrer", "server"},
        {"--kill=worker/7@updates=10", "worker/7", ""},
        {"--kill=server@updates=99999", "99999", ""},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *argv[] = {"throughline",         "run",       JOB_MLP, "--out",
                              scratch_path("never"), bad[i].flag, NULL};
        assert_refused(program_run(30, argv), bad[i].part, bad[i].other);
    }
}

static void a_port_in_use(void **state) {
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(a);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, size), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    char address[64];
    (void)snprintf(address, sizeof(address), "tcp://127.0.0.1:%u", ntohs(a.sin_port));
    const char *server[] = {"tl-server",   "--job",    JOB_MLP, "--strategy=none",
                            "--redis=off", "--listen", address, NULL};
    struct outcome o = program_run(30, server);
    assert_int_equal(o.exit_code, 2);
    assert_non_null(strstr(o.err, address));
    outcome_done(&o);
    const char *http[] = {"tl-server",
                          "--job",
                          JOB_MLP,
                          "--strategy=none",
                          "--redis=off",
                          "--http",
                          address + strlen("tcp://"),
                          NULL};
    o = program_run(30, http);
    assert_int_equal(o.exit_code, 2);
    assert_non_null(strstr(o.err, address + strlen("tcp://")));
    outcome_done(&o);
    close(fd);
}

static void redis_refused(void **state) {
    (void)state;
    const char *argv[] = {"tl-worker",
                          "--job",
                          JOB_MLP,
                          "--redis=unix:///tmp/tl-no-redis.sock",
                          "--worker-patience-ms=1500",
                          "--worker-request-ms=1000",
                          "--strategy=none",
                          NULL};
    struct outcome o = program_run(30, argv);
    assert_int_equal(o.exit_code, 4); /* it waited for as long as the job allows */
    assert_non_null(strstr(o.err, "Redis"));
    outcome_done(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_job_of_this_form_is_accepted),
        cmocka_unit_test(job_files),
        cmocka_unit_test(models),
        cmocka_unit_test(image_files),
        cmocka_unit_test(flags),
        cmocka_unit_test(a_port_in_use),
        cmocka_unit_test(redis_refused),
    };
    return cmocka_run_group_tests_name("input", tests, scratch_setup, scratch_teardown);
}
