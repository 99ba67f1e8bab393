/* job.c - the job: loaded, resolved, written back. */
#include "throughline/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int tl_job_load(const char *path, struct tl_job *ret_job) {
    struct tl_job job;
    json_t *json;
    int rc = tl_json_load(path, &json);
    if (rc != 0) {
        return rc;
    }
    rc = tl_config_defaults(&tl_job_table, &job);
    if (rc == 0) {
        rc = tl_config_json(&tl_job_table, &job, json, path);
    }
    if (rc == 0) {
        rc = tl_config_environment(&tl_job_table, &job);
    }
    json_decref(json);
    if (rc != 0) {
        tl_job_done(&job);
        return rc;
    }
    *ret_job = job;
    return 0;
}

void tl_job_done(struct tl_job *job) {
    tl_config_done(&tl_job_table, job);
}

/* ---- save ----------------------------------------------------------------------- */

/* The file may be read from anywhere: its paths must not depend on this directory. */
static int make_absolute(char path[TL_PATH_MAX]) {
    char here[TL_PATH_MAX];
    char whole[2 * TL_PATH_MAX];
    if (path[0] == '/' || path[0] == '\0') {
        return 0;
    }
    if (getcwd(here, sizeof(here)) == NULL) {
        return tl_fail(TL_E_IO, "the working directory: %s", strerror(errno));
    }
    const int n = snprintf(whole, sizeof(whole), "%s/%s", here, path);
    if (n < 0 || (size_t)n >= TL_PATH_MAX) {
        return tl_fail(TL_E_CONFIG, "the path of %.64s is longer than %u bytes", path,
                       TL_PATH_MAX - 1);
    }
    memcpy(path, whole, (size_t)n + 1);
    return 0;
}

static int make_paths_absolute(struct tl_job *job) {
    for (size_t i = 0; i < tl_job_table.count; i++) {
        const struct tl_option *o = &tl_job_table.options[i];
        const int rc = o->path ? make_absolute((char *)job + o->offset) : 0;
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* Written beside and renamed, so that a child never reads half a job. */
static int write_file(const json_t *json, const char *path) {
    char part[TL_PATH_MAX + 8];
    const int n = snprintf(part, sizeof(part), "%s.part", path);
    if (n < 0 || (size_t)n >= sizeof(part)) {
        return tl_fail(TL_E_CONFIG, "the path of %.64s is too long", path);
    }
    if (json_dump_file(json, part, JSON_INDENT(2)) != 0 || rename(part, path) != 0) {
        const int rc =
            tl_fail(TL_E_IO, "%s: cannot be written: %s", path, strerror(errno));
        (void)unlink(part);
        return rc;
    }
    return 0;
}

int tl_job_save(const struct tl_job *job, const char *path) {
    struct tl_job resolved = *job;
    int rc = make_paths_absolute(&resolved);
    if (rc != 0) {
        return rc;
    }
    json_t *json = tl_config_dump(&tl_job_table, &resolved);
    if (json == NULL) {
        return tl_fail(TL_E_NOMEM, "%s: out of memory", path);
    }
    rc = write_file(json, path);
    json_decref(json);
    return rc;
}
