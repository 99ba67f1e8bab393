/* A job file's text: what is taken is in its ranges and can be dumped and read again.
 */
#include "throughline/job.h"

#include "fuzz.h"

static int read(const json_t *json, struct tl_job *job) {
    int rc = tl_config_defaults(&tl_job_table, job);
    return rc == 0 ? tl_config_json(&tl_job_table, job, json, "fuzz/job.json") : rc;
}

static void again(const struct tl_job *job) {
    struct tl_job copy = {0};
    json_t *json = tl_config_dump(&tl_job_table, job);
    if (json != NULL) { /* NULL: a text that is no UTF-8 */
        must(read(json, &copy) == 0);
        tl_job_done(&copy);
    }
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct tl_job job = {0};
    json_t *json = NULL;
    if (tl_json_parse((const char *)data, size, "job", TL_E_CONFIG, &json) != 0) {
        return 0;
    }
    if (json_is_object(json) && read(json, &job) == 0) {
        (void)!tl_job_check(&job);
        again(&job);
    }
    tl_job_done(&job);
    json_decref(json);
    return 0;
}
