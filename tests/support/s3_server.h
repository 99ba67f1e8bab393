/* s3_server.h - a real S3 server for a test: s3proxy over a directory, on a free port
 * of loopback. It dies with the test. Jars: scripts/bootstrap s3proxy.
 *
 * Where THROUGHLINE_TEST_S3_URL names a bucket (s3://bucket/prefix; endpoint and keys
 * in THROUGHLINE_S3_* variables), that is used instead by tests that can share a
 * server. */
#ifndef TEST_S3_SERVER_H
#define TEST_S3_SERVER_H

#include "throughline/s3.h"
#include "throughline/service.h"
#include "throughline/snapshot.h"

#include "redis.h"
#include "tempdir.h"

#include <netinet/in.h>

#define S3_TEST_KEY    "tester"
#define S3_TEST_SECRET "a-secret-of-no-worth"
#define S3_TEST_BUCKET "test-bucket"

struct s3_server {
    pid_t pid; /* 0: somebody else's */
    char directory[TEMPDIR_MAX];
    char port[8];
    char base[TL_PATH_MAX]; /* s3://bucket or s3://bucket/prefix */
    struct tl_s3_options options;
};

/* The directory with the jars: the last line that the script prints. */
static inline void s3_server_jars(char *ret_path, size_t size) {
    FILE *out = popen(TL_SOURCE_DIR "/scripts/jars s3proxy", "re"); /* NOLINT: ours */
    assert_non_null(out);
    ret_path[0] = '\0';
    assert_non_null(fgets(ret_path, (int)size, out));
    assert_int_equal(pclose(out), 0);
    ret_path[strcspn(ret_path, "\n")] = '\0';
}

static inline void s3_server_exec(const char *jars, const char *properties,
                                  const char *log) {
    char path[1100];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    (void)dup2(fd, STDOUT_FILENO);
    (void)dup2(fd, STDERR_FILENO);
    (void)snprintf(path, sizeof(path), "%s/*", jars);
    (void)execlp(
        "java", "java", "-Xmx256m", "-XX:TieredStopAtLevel=1",
        "-Dlogback.configurationFile=" TL_SOURCE_DIR "/scripts/jars.d/logback-warn.xml",
        "-cp", path, "org.gaul.s3proxy.Main", "--properties", properties, (char *)NULL);
    _exit(127);
}

static inline bool s3_server_listens(const struct s3_server *s) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_port = htons((uint16_t)atoi(s->port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool connected =
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
    (void)close(fd);
    return connected;
}

/* `more`: further lines of s3proxy's properties, "" for none. */
static inline void s3_server_run(struct s3_server *s, const char *more) {
    char jars[1024];
    char path[256];
    char log[256];
    char text[2048];
    const bool is_https = strstr(more, "secure-endpoint") != NULL;
    s3_server_jars(jars, sizeof(jars));
    (void)snprintf(path, sizeof(path), "%s/properties", s->directory);
    (void)snprintf(log, sizeof(log), "%s/log", s->directory);
    (void)snprintf(text, sizeof(text),
                   "%s%s\n"
                   "s3proxy.authorization=aws-v4\n"
                   "s3proxy.identity=" S3_TEST_KEY "\n"
                   "s3proxy.credential=" S3_TEST_SECRET "\n"
                   "jclouds.provider=filesystem-nio2\n"
                   "jclouds.identity=none\n"
                   "jclouds.credential=none\n"
                   "jclouds.filesystem.basedir=%s/data\n%s",
                   is_https ? "#" : "s3proxy.endpoint=http://127.0.0.1:", s->port,
                   s->directory, more);
    file_write(path, text, strlen(text));
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        s3_server_exec(jars, path, log);
    }
    const int64_t deadline_ms = tl_now_ms() + 60000;
    while (!s3_server_listens(s)) {
        assert_int_equal(waitpid(s->pid, NULL, WNOHANG), 0);
        assert_true(tl_now_ms() < deadline_ms);
        test_redis_pause();
    }
}

static inline void s3_server_take_given(struct s3_server *s, const char *url) {
    (void)snprintf(s->base, sizeof(s->base), "%s", url);
    assert_int_equal(tl_config_environment(&tl_s3_table, &s->options), 0);
}

/* A directory with an empty bucket, a port, and settings for them. */
static inline void s3_server_prepare(struct s3_server *s) {
    char bucket[256];
    *s = (struct s3_server){.base = "s3://" S3_TEST_BUCKET};
    assert_int_equal(tl_config_defaults(&tl_s3_table, &s->options), 0);
    tempdir_make(s->directory);
    (void)snprintf(bucket, sizeof(bucket), "mkdir -p %s/data/" S3_TEST_BUCKET,
                   s->directory);
    assert_int_equal(system(bucket), 0); /* NOLINT: our own directory's name */
    test_free_port(s->port);
    (void)snprintf(s->options.endpoint, sizeof(s->options.endpoint),
                   "http://127.0.0.1:%s", s->port);
    (void)snprintf(s->options.access_key, sizeof(s->options.access_key), S3_TEST_KEY);
    (void)snprintf(s->options.secret_key, sizeof(s->options.secret_key),
                   S3_TEST_SECRET);
}

static inline void s3_server_start_with(struct s3_server *s, const char *more) {
    s3_server_prepare(s);
    s3_server_run(s, more);
}

static inline void s3_server_start(struct s3_server *s) {
    const char *given = getenv("THROUGHLINE_TEST_S3_URL");
    if (given == NULL || given[0] == '\0') {
        s3_server_start_with(s, "");
        return;
    }
    *s = (struct s3_server){.pid = 0};
    assert_int_equal(tl_config_defaults(&tl_s3_table, &s->options), 0);
    s3_server_take_given(s, given);
}

static inline void s3_server_stop(struct s3_server *s) {
    if (s->pid != 0) {
        (void)kill(s->pid, SIGKILL);
        (void)waitpid(s->pid, NULL, 0);
        tempdir_remove(s->directory);
    }
}

/* A place in it that nobody has used: s3://bucket/.../NAME-random. */
static inline const char *s3_server_url(const struct s3_server *s, const char *name) {
    static char url[TL_PATH_MAX + 64];
    (void)snprintf(url, sizeof(url), "%s/%s-%016llx", s->base, name,
                   (unsigned long long)tl_random_u64());
    return url;
}

#endif
