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
    "model",      "seed",      "shards", "consistency",      "sync.", "ssp.", "async.",
    "optimizer.", "schedule.", "clip.",  "refuse_nonfinite",
};
/* What the services of a run must agree on besides. Paths and timings may differ from
 * machine to machine. */
static const char *const run_keys[] = {"name", "batch", "workers", "strategy",
                                       "until."};

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

/* A digest of less than the whole would make services disagree about equal jobs: it is
 * better to stop at once. */
static _Noreturn void no_memory(void) {
    abort();
}

static void add(json_t *object, const struct tl_option *o, const struct tl_job *job) {
    json_t *value = tl_option_json(o, job);
    if (value != NULL && json_object_set_new(object, o->name, value) != 0) {
        no_memory();
    }
}

static uint64_t digest(const struct tl_job *job, bool whole_run) {
    json_t *object = json_object();
    for (size_t i = 0; i < tl_job_table.count; i++) {
        const struct tl_option *o = &tl_job_table.options[i];
        if (CHOSEN(o->name, state_keys) || (whole_run && CHOSEN(o->name, run_keys))) {
            add(object, o, job);
        }
    }
    char *text = json_dumps(object, JSON_SORT_KEYS | JSON_COMPACT);
    json_decref(object);
    if (text == NULL) {
        no_memory();
    }
    const uint64_t sum = XXH3_64bits(text, strlen(text));
    free(text);
    return sum != 0 ? sum : 1;
}

uint64_t tl_job_digest(const struct tl_job *job) {
    return digest(job, true);
}

uint64_t tl_job_fold_digest(const struct tl_job *job) {
    return digest(job, false);
}
