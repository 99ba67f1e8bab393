/* checkpoints_export.c - the weights in a store as a safetensors file.
 *
 * The format: the length of a JSON header as 64 bits little-endian, the header (a
 * tensor's type, shape and place for each name), the tensors' bytes. The header is
 * padded with spaces to a multiple of 8. With the job at hand each tensor has its name
 * and shape, else all parameters are one flat tensor. */
#include "throughline/nn.h"

#include "checkpoints.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 8u

struct export {
    struct tl_nn *nn; /* NULL: one flat tensor */
    uint64_t parameters, version;
    float *weights;
    char job[64], run[64]; /* of the newest snapshot */
};

/* ---- what is exported --------------------------------------------------------- */

/* How large the model is, as the newest manifest that can be read says; 0: none can. */
static int find_size(struct tl_store *store, const struct tl_checkpoints_options *o,
                     struct export *e) {
    struct tl_manifest *list = NULL;
    size_t count = 0;
    int r = tl_snapshot_list(store, 0, &list, &count);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < count && e->parameters == 0; i++) {
        if (list[i].part_count > 0 &&
            (o->version == 0 || list[i].version <= o->version)) {
            e->parameters = list[i].parameters;
            memcpy(e->job, list[i].job, sizeof(e->job));
            memcpy(e->run, list[i].run, sizeof(e->run));
        }
    }
    tl_manifests_free(list, count);
    return 0;
}

static int load_model(const char *path, struct export *e) {
    struct tl_job job;
    struct tl_nn *nn = NULL;
    int r = tl_job_load(path, &job);
    if (r < 0) {
        return r;
    }
    r = tl_nn_new(job.model, job.model_source, 1, &nn);
    tl_job_done(&job);
    if (r < 0) {
        return r;
    }
    if (tl_nn_parameters(nn) != e->parameters) {
        r = tl_fail(TL_E_MISMATCH,
                    "%s: its model has %" PRIu64 " parameters, the snapshots %" PRIu64,
                    path, tl_nn_parameters(nn), e->parameters);
        tl_nn_free(nn);
        return r;
    }
    e->nn = nn;
    return 0;
}

static void tell_skipped(void *ctx, const char *name, int error, const char *why) {
    (void)ctx;
    (void)error;
    (void)fprintf(stderr, "throughline checkpoints: skipped %s: %s\n", name, why);
}

static int load_weights(struct tl_store *store, const struct tl_checkpoints_options *o,
                        struct export *e) {
    e->weights = calloc(e->parameters, sizeof(*e->weights));
    if (e->weights == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for %" PRIu64 " parameters",
                       e->parameters);
    }
    return tl_snapshot_weights_at(store, o->version == 0 ? UINT64_MAX : o->version,
                                  e->parameters, tell_skipped, NULL, e->weights,
                                  &e->version);
}

/* ---- safetensors -------------------------------------------------------------- */

static json_t *tensor_json(const struct tl_nn_tensor *t) {
    json_t *shape = json_array();
    for (size_t i = 0; i < t->rank; i++) {
        (void)json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
    }
    const uint64_t begin = t->first * sizeof(float);
    const uint64_t end = begin + t->count * sizeof(float);
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static size_t tensor_count(const struct export *e) {
    return e->nn == NULL ? 1u : tl_nn_tensors(e->nn);
}

static void tensor_at(const struct export *e, size_t i, struct tl_nn_tensor *ret) {
    if (e->nn != NULL) {
        tl_nn_tensor(e->nn, i, ret);
        return;
    }
    *ret = (struct tl_nn_tensor){.name = "parameters",
                                 .rank = 1,
                                 .shape = {e->parameters},
                                 .count = e->parameters};
}

static char *header_text(const struct export *e) {
    json_t *metadata = json_pack("{s:s, s:s, s:o}", "job", e->job, "run", e->run,
                                 "version", json_sprintf("%" PRIu64, e->version));
    json_t *header = json_pack("{s:o}", "__metadata__", metadata);
    for (size_t i = 0; i < tensor_count(e) && header != NULL; i++) {
        struct tl_nn_tensor t;
        tensor_at(e, i, &t);
        if (json_object_set_new(header, t.name, tensor_json(&t)) < 0) {
            json_decref(header);
            return NULL;
        }
    }
    char *text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    return text;
}

static bool write_all(FILE *out, const char *header, const struct export *e) {
    static const char spaces[ALIGNMENT] = "        ";
    const size_t length = strlen(header);
    const size_t padding = (ALIGNMENT - length % ALIGNMENT) % ALIGNMENT;
    unsigned char prefix[sizeof(uint64_t)];
    for (size_t i = 0; i < sizeof(prefix); i++) {
        prefix[i] = (unsigned char)((uint64_t)(length + padding) >> 8u * i);
    }
    return fwrite(prefix, 1, sizeof(prefix), out) == sizeof(prefix) &&
           fwrite(header, 1, length, out) == length &&
           fwrite(spaces, 1, padding, out) == padding &&
           fwrite(e->weights, sizeof(float), e->parameters, out) == e->parameters;
}

/* Under another name first: a file of this name is a whole one. */
static int write_file(const char *path, const struct export *e) {
    char partial[TL_PATH_MAX + 8u];
    char *header = header_text(e);
    if (header == NULL) {
        return tl_fail(TL_E_NOMEM, "no memory for the header of %s", path);
    }
    (void)snprintf(partial, sizeof(partial), "%s.part", path);
    FILE *out = fopen(partial, "wbe");
    bool is_good = out != NULL && write_all(out, header, e);
    free(header);
    is_good = out != NULL && fclose(out) == 0 && is_good;
    if (is_good && rename(partial, path) == 0) {
        return 0;
    }
    const int error = errno;
    if (out != NULL) {
        (void)remove(partial);
    }
    return tl_fail(TL_E_IO, "cannot write %s: %s", path, strerror(error));
}

/* ---- the whole ---------------------------------------------------------------- */

static int report(const char *path, const struct export *e, bool json) {
    if (!json) {
        (void)printf("%s: version %" PRIu64 ", %" PRIu64
                     " parameters in %zu tensor%s\n",
                     path, e->version, e->parameters, tensor_count(e),
                     tensor_count(e) == 1 ? "" : "s");
        return 0;
    }
    json_t *object =
        json_pack("{s:s, s:I, s:I, s:I}", "file", path, "version",
                  (json_int_t)e->version, "parameters", (json_int_t)e->parameters,
                  "tensors", (json_int_t)tensor_count(e));
    if (object == NULL) {
        return tl_fail(TL_E_INVALID, "%s is written; its name is not UTF-8", path);
    }
    (void)json_dumpf(object, stdout, 0);
    (void)fputc('\n', stdout);
    json_decref(object);
    return 0;
}

int tl_checkpoints_export(struct tl_store *store,
                          const struct tl_checkpoints_options *o) {
    struct export e = {.parameters = 0};
    char path[TL_PATH_MAX];
    int r = find_size(store, o, &e);
    if (r < 0 || e.parameters == 0) {
        return r < 0 ? r
                     : tl_fail(TL_E_NOTFOUND, "%s: no snapshot to export", o->store);
    }
    if (o->job[0] != '\0') {
        r = load_model(o->job, &e);
    }
    if (r == 0) {
        r = load_weights(store, o, &e);
    }
    if (r == 0 && o->output[0] != '\0') {
        (void)snprintf(path, sizeof(path), "%s", o->output);
    } else {
        (void)snprintf(path, sizeof(path), "weights-%" PRIu64 ".safetensors",
                       e.version);
    }
    if (r == 0) {
        r = write_file(path, &e);
    }
    if (r == 0) {
        r = report(path, &e, o->json);
    }
    free(e.weights);
    tl_nn_free(e.nn);
    return r;
}
