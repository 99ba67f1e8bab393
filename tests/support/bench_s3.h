/* bench_s3.h - a real S3 server for a benchmark, through scripts/s3, in memory where
 * that is possible: what is measured is not this machine's disk. */
#ifndef THROUGHLINE_TESTS_BENCH_S3_H
#define THROUGHLINE_TESTS_BENCH_S3_H

#include "throughline/snapshot.h"

#include "bench.h"

struct bench_s3 {
    char directory[64]; /* everything is below it */
};

/* `command` of scripts/s3, `aside`: with the processor time that nobody else wants;
 * what it exports becomes this process's environment. */
static inline void bench_s3_call(const char *command, bool aside) {
    char line[1024];
    (void)snprintf(line, sizeof(line), "%s" TL_SOURCE_DIR "/scripts/s3 %s",
                   aside ? "chrt --idle 0 " : "", command);
    FILE *out = popen(line, "re"); /* NOLINT: our own script */
    while (out != NULL && fgets(line, sizeof(line), out) != NULL) {
        char *equals = strchr(line, '=');
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "export ", 7) == 0 && equals != NULL) {
            *equals = '\0';
            (void)setenv(line + 7, equals + 1, 1);
        }
    }
    if (out == NULL || pclose(out) != 0) {
        bench_die("no S3 server: scripts/bootstrap s3proxy");
    }
}

static inline void bench_s3_start(struct bench_s3 *s, bool aside) {
    (void)snprintf(s->directory, sizeof(s->directory), "%s/tl-bench-XXXXXX",
                   access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(s->directory) == NULL) {
        bench_die("no temporary directory");
    }
    (void)setenv("XDG_RUNTIME_DIR", s->directory, 1); /* not a user's own server */
    bench_s3_call("start", aside);
}

static inline void bench_s3_write_file(const char *path, const void *bytes,
                                       size_t size) {
    FILE *f = fopen(path, "we");
    if (f == NULL || fwrite(bytes, 1, size, f) != size || fclose(f) != 0) {
        bench_die("no room for a file");
    }
}

/* The keys go into a file, as they should. The server is not told what hash to expect.
 */
static inline void bench_s3_curl_config(const char *path) {
    char text[1024];
    const int n =
        snprintf(text, sizeof(text),
                 "user = \"%s:%s\"\naws-sigv4 = \"aws:amz:us-east-1:s3\"\n"
                 "header = \"x-amz-content-sha256: UNSIGNED-PAYLOAD\"\n",
                 getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY"));
    bench_s3_write_file(path, text, (size_t)n);
}

/* Upload a file, at `rate` bytes a second at most (0: any); the seconds that it took.
 */
static inline double bench_s3_curl(const char *config, const char *file, size_t rate) {
    char url[256];
    char limit[32];
    (void)snprintf(url, sizeof(url), "%s/throughline/by-curl",
                   getenv("THROUGHLINE_S3_ENDPOINT"));
    (void)snprintf(limit, sizeof(limit), "%zu", rate);
    const double start = bench_now();
    const pid_t pid = fork();
    if (pid == 0) {
        execlp("curl", "curl", "-s", "-f", "-o", "/dev/null", "-K", config, "-T", file,
               "--limit-rate", limit, url, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
        WEXITSTATUS(status) != 0) {
        bench_die("curl could not upload");
    }
    return bench_now() - start;
}

static inline void bench_s3_check(int rc) {
    if (rc != 0) {
        bench_die(tl_error_text());
    }
}

static inline struct tl_store *bench_s3_open(const char *url) {
    struct tl_store *store = NULL;
    struct tl_s3_options options;
    bench_s3_check(tl_config_defaults(&tl_s3_table, &options));
    bench_s3_check(tl_config_environment(&tl_s3_table, &options));
    bench_s3_check(tl_store_open(url, &options, &store));
    return store;
}

/* Store a state as the next snapshot; what was written into `ret`. */
static inline void bench_s3_snapshot(struct tl_store *store,
                                     const struct tl_snapshot_options *options,
                                     const char *state, size_t size,
                                     struct tl_manifest *ret) {
    enum { PIECE = 1 << 20 };
    static uint64_t version = 0;
    const struct tl_manifest meta = {.job = "bench",
                                     .run = "bench",
                                     .shards = 1,
                                     .count = 1,
                                     .parameters = 1,
                                     .version = ++version,
                                     .epoch = 1};
    struct tl_snapshot_writer *w = NULL;
    bench_s3_check(tl_snapshot_begin(store, &meta, options, &w));
    for (size_t at = 0; at < size; at += PIECE) {
        const size_t left = size - at;
        bench_s3_check(tl_snapshot_write(w, state + at, left < PIECE ? left : PIECE));
    }
    bench_s3_check(tl_snapshot_finish(w, ret));
}

static inline void bench_s3_stop(const struct bench_s3 *s) {
    bench_s3_call("stop", false);
    bench_remove_tree(s->directory);
}

#endif
