/* run.c - which run a page shows, from its job. */
#include "throughline/page.h"

json_t *tl_page_run(const struct tl_job *job, const char *run) {
    static const char *const keys[] = {"name",   "strategy", "consistency", "workers",
                                       "shards", "seed",     "batch"};
    json_t *all = tl_config_dump(&tl_job_table, job);
    json_t *shown = all != NULL ? json_pack("{s:s}", "run", run) : NULL;
    for (size_t i = 0; shown != NULL && i < sizeof(keys) / sizeof(keys[0]); i++) {
        (void)json_object_set(shown, keys[i], json_object_get(all, keys[i]));
    }
    json_decref(all);
    return shown;
}
