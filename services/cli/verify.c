/* verify.c - the end of a run with a durable log: fold it again, alone, and compare. */
#include "log.h"
#include "redis.h"
#include "run.h"

#include <stdio.h>
#include <stdlib.h>

static int verify_log(struct tl_run *run, FILE *out) {
    char redis[TL_PATH_MAX];
    struct tl_log_view v;
    tl_redis_url(run->scratch.path, redis, sizeof(redis));
    int rc = tl_log_view_open(&run->job, run->options.run, redis, &v);
    if (rc == 0) {
        v.ledgers = run->options.out;
        rc = tl_log_verify(&v, UINT32_MAX, run->options.json, out);
        tl_log_view_close(&v);
    }
    return rc;
}

void tl_run_verify(struct tl_run *run) {
    size_t size = 0;
    if (!tl_job_is_logged(&run->job) || run->verified != NULL ||
        run->verdict != TL_RUN_COMPLETED) {
        return;
    }
    FILE *out = open_memstream(&run->verified, &size);
    if (out == NULL) {
        return;
    }
    tl_live_news(run, "folding the log again, alone");
    int rc = verify_log(run, out);
    (void)fclose(out);
    run->verified_good = rc == 0;
    if (rc != 0) {
        run->phase = TL_RUN_STOPPING;
        tl_run_fail(run, TL_EXIT_FAILED, "the log: %s", tl_error_text());
    }
}
