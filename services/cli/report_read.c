/* report_read.c - a run's directory as JSON.
 *
 * Only the timeline must be there; what else a run leaves makes the report richer. */
#include "throughline/report.h"
#include "throughline/service.h"

#include "report.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* So many samples a chart can show; of a page with many runs, fewer. */
#define SAMPLES_MAX      1500u
#define SAMPLES_SLIM_MAX 300u

int tl_report_read_json(const char *path, json_t **ret_json) {
    json_error_t error;
    if (access(path, R_OK) != 0) {
        return tl_fail(TL_E_NOTFOUND, "%s: %s", path, strerror(errno));
    }
    json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL) {
        return tl_fail(TL_E_CONFIG, "%s, line %d: %s", path, error.line, error.text);
    }
    *ret_json = json;
    return 0;
}

static bool is_kind(const json_t *line, const char *kind) {
    const char *k = json_string_value(json_object_get(line, "kind"));
    return k != NULL && strcmp(k, kind) == 0;
}

/* Every line that is whole and no nonsense, to `take`. */
static int for_each_line(const char *path, int (*take)(void *ctx, json_t *line),
                         void *ctx) {
    struct tl_timeline_reader *reader;
    const char *text = NULL;
    size_t size = 0;
    int rc = tl_timeline_read(path, &reader);
    if (rc != 0) {
        return rc;
    }
    while (rc == 0 && tl_timeline_next(reader, &text, &size)) {
        json_t *line = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
        rc = line != NULL ? take(ctx, line) : 0;
        json_decref(line);
    }
    tl_timeline_reader_close(reader);
    return rc;
}

/* ---- first pass: figures, the curve ------------------------------------------------
 */

struct pass {
    struct tl_figures *figures;
    json_t *x, *y;  /* evaluations */
    size_t samples; /* all */
    size_t stride;  /* second pass: one of so many is kept */
    bool is_slim;
    json_t *lines;
};

static int take_figures(void *ctx, json_t *line) {
    struct pass *pass = ctx;
    pass->samples += is_kind(line, "sample");
    if (is_kind(line, "sample") && json_is_number(json_object_get(line, "accuracy"))) {
        (void)json_array_append(pass->x, json_object_get(line, "t"));
        (void)json_array_append(pass->y, json_object_get(line, "accuracy"));
    }
    return tl_figures_add(pass->figures, line);
}

/* ---- second pass: the lines a page shows --------------------------------------------
 */

static int take_lines(void *ctx, json_t *line) {
    struct pass *pass = ctx;
    if (is_kind(line, "sample") && pass->samples++ % pass->stride != 0 &&
        !json_is_true(json_object_get(line, "final"))) {
        return 0;
    }
    if (pass->is_slim) {
        (void)json_object_del(line, "processes");
        (void)json_object_del(line, "staleness");
    }
    return json_array_append(pass->lines, line) == 0
               ? 0
               : tl_fail(TL_E_NOMEM, "no memory for a timeline");
}

static int read_timeline(const char *path, struct pass *pass) {
    int rc = for_each_line(path, take_figures, pass);
    const size_t most = pass->is_slim ? SAMPLES_SLIM_MAX : SAMPLES_MAX;
    pass->stride = pass->samples / most + 1;
    pass->samples = 0;
    return rc == 0 ? for_each_line(path, take_lines, pass) : rc;
}

/* ---- all of it
 * ----------------------------------------------------------------------- */

/* When each kill was, when the service was started again, when the work went on. */
static json_t *bands_of(const json_t *figures) {
    json_t *bands = json_array();
    size_t i = 0;
    const json_t *kill = NULL;
    json_array_foreach(json_object_get(figures, "kills"), i, kill) {
        const double from = json_number_value(json_object_get(kill, "seconds"));
        const json_t *down = json_object_get(kill, "down_seconds");
        const json_t *recovery = json_object_get(kill, "recovery_seconds");
        json_t *band = json_pack("{s:O, s:f}", "service",
                                 json_object_get(kill, "service"), "from", from);
        if (json_is_number(down)) {
            (void)json_object_set_new(band, "started",
                                      json_real(from + json_number_value(down)));
        }
        if (json_is_number(recovery)) {
            (void)json_object_set_new(band, "to",
                                      json_real(from + json_number_value(recovery)));
        }
        (void)json_array_append_new(bands, band);
    }
    return bands;
}

/* The directory's last part. */
static const char *name_of(const char *directory) {
    const char *slash = strrchr(directory, '/');
    return slash != NULL && slash[1] != '\0' ? slash + 1 : directory;
}

/* Settings and circumstances, where the run left them. */
static void add_summary(const char *directory, json_t *run) {
    static const char *const keys[] = {"job",     "run",     "strategy", "consistency",
                                       "workers", "shards",  "seed",     "batch",
                                       "state",   "machine", "command"};
    char path[TL_PATH_MAX + 32];
    json_t *summary = NULL;
    (void)snprintf(path, sizeof(path), "%s/summary.json", directory);
    if (tl_report_read_json(path, &summary) != 0) {
        return;
    }
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        json_t *v = json_object_get(summary, keys[i]);
        if (v != NULL) {
            (void)json_object_set(run, keys[i], v);
        }
    }
    json_decref(summary);
}

int tl_report_read_run(const char *directory, bool is_slim, json_t **ret_run) {
    char path[TL_PATH_MAX + 32];
    (void)snprintf(path, sizeof(path), "%s/timeline.jsonl", directory);
    if (access(path, R_OK) != 0) {
        return tl_fail(TL_E_NOTFOUND, "%s: %s; give the directory of a run", path,
                       strerror(errno));
    }
    struct pass pass = {.is_slim = is_slim,
                        .x = json_array(),
                        .y = json_array(),
                        .lines = json_array()};
    int rc = tl_figures_new(&pass.figures);
    rc = rc == 0 ? read_timeline(path, &pass) : rc;
    if (rc == 0) {
        json_t *figures = tl_figures_json(pass.figures);
        *ret_run =
            json_pack("{s:s, s:o, s:{s:O, s:O}, s:o, s:O}", "name", name_of(directory),
                      "figures", figures, "curve", "x", pass.x, "y", pass.y, "bands",
                      bands_of(figures), "lines", pass.lines);
        add_summary(directory, *ret_run);
    }
    tl_figures_free(pass.figures);
    json_decref(pass.x);
    json_decref(pass.y);
    json_decref(pass.lines);
    return rc;
}
