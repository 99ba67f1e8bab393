/* backend.c - what this process asks of the stores that the job lives on, as metrics.
 *
 * Counted where a request is made, by whichever stage makes it. */
#include "throughline/service.h"

#include <pthread.h>
#include <stdio.h>

#define BACKENDS 3u
#define ACCESSES 2u

static struct counters {
    struct tl_metric *requests, *bytes; /* NULL: there was no memory for them */
} table[BACKENDS][ACCESSES];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_table(void) {
    static const char *const backends[BACKENDS] = {"redis", "kafka", "store"};
    static const char *const accesses[ACCESSES] = {"read", "write"};
    for (size_t b = 0; b < BACKENDS; b++) {
        for (size_t a = 0; a < ACCESSES; a++) {
            char labels[64];
            (void)snprintf(labels, sizeof(labels), "backend=\"%s\",op=\"%s\"",
                           backends[b], accesses[a]);
            table[b][a].requests = tl_metric_new(
                TL_COUNTER, "throughline_backend_requests_total", labels,
                "Requests to Redis and the store; entries of Kafka's log.", NULL, 0);
            table[b][a].bytes =
                tl_metric_new(TL_COUNTER, "throughline_backend_bytes_total", labels,
                              "Bytes of these requests and their answers.", NULL, 0);
        }
    }
}

static void add(struct tl_metric *m, uint64_t n) {
    if (m != NULL && n > 0) {
        tl_metric_add(m, (double)n);
    }
}

void tl_backend_count(enum tl_backend backend, enum tl_access access, uint64_t requests,
                      uint64_t bytes) {
    (void)pthread_once(&once, make_table);
    add(table[backend][access].requests, requests);
    add(table[backend][access].bytes, bytes);
}
