/* job_digest.c - one number for what must be the same everywhere.
 *
 * XXH3 over the chosen keys as canonical JSON: it tells jobs apart that were
 * mixed up by mistake; it is no protection against an intruder. */
#include "throughline/job.h"

#include "option.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* What a state depends on; a name that ends in a dot stands for all below it. */
static const char *const state_keys[] = {
    "model",  "seed",   "shards",     "consistency", "sync.", "ssp.",
    "async.", "stale.", "optimizer.", "schedule.",   "clip.", "refuse_nonfinite",
};
/* What the services of a run must agree on besides. Paths and timings may differ from
 * machine to machine. */
static const char *const run_keys[] = {"name",     "batch",    "workers", "strategy",
                                       "recovery", "encoding", "topk.",   "until.",
                                       "hybrid.",  "chain."};

static bool chosen(const char *name, const char *const *keys, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const size_t length = strlen(keys[i]);
        const bool group = keys[i][length - 1] == '.';
        if (group ? strncmp(name, keys[i], length) == 0 : strcmp(name, keys[i]) == 0) {
            return true;
        }
    }
    return false;
}
#define CHOSEN(name, keys) chosen(name, keys, sizeof(keys) / sizeof((keys)[0]))

/* A digest of less than the whole would make services disagree about equal jobs: all
 * of it, or none. Only a model that is not there has no value. */
static bool add(json_t *object, const struct tl_option *o, const struct tl_job *job) {
    json_t *value = tl_option_json(o, job);
    if (value == NULL) {
        return o->type == TL_OPT_JSON;
    }
    return json_object_set_new(object, o->name, value) == 0;
}

static json_t *covered(const struct tl_job *job, bool whole_run) {
    json_t *object = json_object();
    bool whole = object != NULL;
    for (size_t i = 0; i < tl_job_table.count && whole; i++) {
        const struct tl_option *o = &tl_job_table.options[i];
        if (CHOSEN(o->name, state_keys) || (whole_run && CHOSEN(o->name, run_keys))) {
            whole = add(object, o, job);
        }
    }
    if (!whole) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static int digest(const struct tl_job *job, bool whole_run, uint64_t *ret_digest) {
    json_t *object = covered(job, whole_run);
    char *text = json_dumps(object, JSON_SORT_KEYS | JSON_COMPACT);
    json_decref(object);
    if (text == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for the job's digest");
    }
    const uint64_t sum = XXH3_64bits(text, strlen(text));
    free(text);
    *ret_digest = sum != 0 ? sum : 1;
    return 0;
}

int tl_job_digest(const struct tl_job *job, uint64_t *ret_digest) {
    return digest(job, true, ret_digest);
}

int tl_job_fold_digest(const struct tl_job *job, uint64_t *ret_digest) {
    return digest(job, false, ret_digest);
}
