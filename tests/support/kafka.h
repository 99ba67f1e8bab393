/* kafka.h - a private Kafka of one node for a test, in a directory of its own.
 *
 * `throughline kafka up` starts it, so that it can be killed and come back with its
 * data. It dies with the test, whatever happens to that. Beside its plain listener it
 * has one that asks for a name and a password: "train", "right". */
#ifndef TEST_KAFKA_H
#define TEST_KAFKA_H

#include "redis.h" /* test_free_port() */

#include <sys/stat.h>

struct test_kafka {
    pid_t pid; /* 0: not running */
    char directory[64];
    char port[8];
    char url[64]; /* kafka://... */
    char asking_port[8];
    char asking_url[64]; /* ... of the listener that asks who is there */
};

static inline void test_kafka_exec(const struct test_kafka *k) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    char said[96];
    (void)snprintf(said, sizeof(said), "%s/said", k->directory);
    int fd = open(said, O_WRONLY | O_CREAT | O_APPEND, 0600);
    (void)dup2(fd, STDOUT_FILENO);
    (void)dup2(fd, STDERR_FILENO);
    (void)execl(TL_BIN_DIR "/throughline", "throughline", "kafka", "up", "--foreground",
                "--dir", k->directory, "--port", k->port, (char *)NULL);
    _exit(127);
}

static inline bool test_kafka_answers(const struct test_kafka *k) {
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)atoi(k->port))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    (void)close(fd);
    return connected;
}

/* Start, or start again; returns when it takes connections. */
static inline void test_kafka_run(struct test_kafka *k) {
    k->pid = fork();
    assert_true(k->pid >= 0);
    if (k->pid == 0) {
        test_kafka_exec(k);
    }
    int64_t deadline_ms = test_redis_now_ms() + 90000;
    while (!test_kafka_answers(k)) {
        if (waitpid(k->pid, NULL, WNOHANG) != 0) {
            fail_msg("Kafka did not start: see %s (scripts/bootstrap kafka installs "
                     "what it needs)",
                     k->directory);
        }
        assert_true(test_redis_now_ms() < deadline_ms);
        test_redis_pause();
    }
}

static inline void test_kafka_settings(const struct test_kafka *k, const char *extra) {
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/extra.properties", k->directory);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fprintf(
        f,
        "listeners=PLAINTEXT://127.0.0.1:%s,CONTROLLER://127.0.0.1:%d,"
        "ASKING://127.0.0.1:%s\n"
        "advertised.listeners=PLAINTEXT://127.0.0.1:%s,ASKING://127.0.0.1:%s\n"
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
        "ASKING:SASL_PLAINTEXT\n"
        "inter.broker.listener.name=PLAINTEXT\n"
        "listener.name.asking.sasl.enabled.mechanisms=PLAIN\n"
        "listener.name.asking.plain.sasl.jaas.config="
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        "user_train=\"right\";\n%s",
        k->port, atoi(k->port) + 1, k->asking_port, k->port, k->asking_port, extra);
    assert_int_equal(fclose(f), 0);
}

/* `extra`: broker settings besides; NULL: none. */
static inline void test_kafka_start_with(struct test_kafka *k, const char *extra) {
    *k = (struct test_kafka){.directory = "/tmp/throughline-kafka-XXXXXX"};
    assert_non_null(mkdtemp(k->directory));
    test_free_port(k->port);
    (void)snprintf(k->url, sizeof(k->url), "kafka://127.0.0.1:%s", k->port);
    test_free_port(k->asking_port);
    (void)snprintf(k->asking_url, sizeof(k->asking_url), "kafka://127.0.0.1:%s",
                   k->asking_port);
    test_kafka_settings(k, extra != NULL ? extra : "");
    test_kafka_run(k);
}

static inline void test_kafka_start(struct test_kafka *k) {
    test_kafka_start_with(k, NULL);
}

/* SIGKILL, and the proof that it has ended by it. */
static inline void test_kafka_kill(struct test_kafka *k) {
    int status = 0;
    assert_int_equal(kill(k->pid, SIGKILL), 0);
    assert_int_equal(waitpid(k->pid, &status, 0), k->pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    k->pid = 0;
}

static inline void test_kafka_stop(struct test_kafka *k) {
    char command[128];
    if (k->pid != 0) {
        test_kafka_kill(k);
    }
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", k->directory);
    assert_int_equal(system(command), 0); /* NOLINT: our own directory's name */
}

#endif
