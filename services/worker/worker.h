/* worker.h - what the files of tl-worker share.
 *
 *   main.c      settings, start, exit code
 *   train.c     the loop: batch, gradient, push-pull; and what each outcome means
 *   baseline.c  --compute-only: the same gradients, for nobody
 *   example.c   model, data and buffers: batch number n becomes a gradient
 *   logged.c    a durable log: opened, and weights to begin on without a server
 *   presence.c  the lease, and the health of a process that waits
 *   gauges.c    what /metrics says
 */
#ifndef THROUGHLINE_WORKER_H
#define THROUGHLINE_WORKER_H

#include "throughline/client.h"
#include "throughline/data.h"
#include "throughline/job.h"
#include "throughline/log.h"
#include "throughline/member.h"
#include "throughline/nn.h"
#include "throughline/service.h"

#include <stdbool.h>
#include <stdint.h>

struct worker_options {
    char servers[TL_PATH_MAX * 4];
    char ledger[TL_PATH_MAX];
    uint32_t compute_only;
    double max_rate;
};

/* Model, data, and the buffers of one batch. */
struct worker_example {
    struct tl_nn *nn;
    struct tl_dataset *set;
    struct tl_feed *feed;
    uint32_t *index;
    float *inputs;
    uint8_t *labels;
    float *gradient;
    uint64_t seed; /* of this worker's dropout masks */
    size_t batch;
};

struct worker_gauges;
struct worker_presence;

struct worker {
    struct tl_service_options service;
    struct worker_options options;
    struct tl_job job;
    struct worker_example example;
    struct tl_log *log; /* NULL: the direct log */
    struct tl_client *client;
    struct worker_presence *presence;
    struct worker_gauges *gauges;
    bool is_unfinished; /* was asked to stop before the job had ended */
};

/* example.c: load everything; TL_E_CONFIG names the file or field. */
TL_MUST_USE int worker_example_init(struct worker_example *e, const struct tl_job *job,
                                    uint32_t worker);
void worker_example_done(struct worker_example *e);
/* The gradient of batch `sequence` on `weights`, in e->gradient. */
TL_MUST_USE int worker_example_gradient(struct worker_example *e, uint64_t sequence,
                                        const float *weights, float *ret_loss);

/* train.c, baseline.c: the error that ended it, 0 for a good end. */
TL_MUST_USE int worker_train(struct worker *w);
TL_MUST_USE int worker_baseline(struct worker *w);

/* presence.c: announce this worker and keep its lease, and its health, alive. */
TL_MUST_USE int worker_presence_new(const struct worker *w, const char *http,
                                    struct worker_presence **ret_presence);
void worker_presence_free(struct worker_presence *p); /* NULL is legal */
void worker_presence_announce(struct worker_presence *p, enum tl_member_state state,
                              uint64_t incarnation, uint64_t acknowledged);
/* Leaving: give a monitor, if there is one, the time to read the last counters. */
void worker_presence_linger(struct worker_presence *p);
/* The main thread is alive and will say so again within `ms`. */
void worker_presence_expect(struct worker_presence *p, int64_t ms);

/* logged.c: what the client needs besides, if gradients go to a durable log. */
TL_MUST_USE int worker_logged(struct worker *w, struct tl_client_config *config);

/* gauges.c */
TL_MUST_USE int worker_gauges_new(struct worker_gauges **ret_gauges);
void worker_gauges_computed(struct worker_gauges *g, double seconds, float loss);
void worker_gauges_exchanged(struct worker_gauges *g, const struct tl_client *client);

#endif
