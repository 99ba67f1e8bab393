/* bench_kafka.h - a real single-node Kafka for a benchmark: `throughline kafka`. */
#ifndef THROUGHLINE_TESTS_BENCH_KAFKA_H
#define THROUGHLINE_TESTS_BENCH_KAFKA_H

#include "bench.h"

#define BENCH_KAFKA_PORT "19392"
#define BENCH_KAFKA_URL  "kafka://127.0.0.1:" BENCH_KAFKA_PORT

static char bench_kafka_directory[] = "/tmp/tl-bench-kafka-XXXXXX";

static inline void bench_kafka_call(const char *what) {
    const char *argv[] = {
        "throughline", "kafka",          what, "--dir", bench_kafka_directory,
        "--port",      BENCH_KAFKA_PORT, NULL};
    char text[4096];
    int fd = -1;
    pid_t pid = bench_start(argv, &fd);
    bench_finish(pid, fd, text, sizeof(text));
}

static inline void bench_kafka_start(void) {
    if (mkdtemp(bench_kafka_directory) == NULL) {
        bench_die("no temporary directory");
    }
    bench_kafka_call("up");
}

static inline void bench_kafka_stop(void) {
    bench_kafka_call("down");
    bench_remove_tree(bench_kafka_directory);
}

#endif
