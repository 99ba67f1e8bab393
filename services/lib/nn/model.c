/* model.c - a model's JSON, checked to the last key, as an array of layers.
 *
 * Whatever is wrong is said in one line: file, layer (counted from 0, as in the names
 * of the tensors), field, and what would be right. */
#include "throughline/config.h"

#include "nn_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define EDGE_MAX     65536
#define CLASSES_MAX  256 /* a label is a byte */

static const struct tl_nn_kind *const kinds[] = {
    &tl_nn_conv2d,  &tl_nn_max_pool, &tl_nn_relu,       &tl_nn_dense,
    &tl_nn_dropout, &tl_nn_flatten,  &tl_nn_batch_norm,
};

/* What an error text starts with: "FILE" or "FILE: layers[N] (KIND)". */
struct place {
    char text[256];
};

/* A value as the file has it, cut to what fits into a line. */
static void quote(const json_t *value, char *text, size_t size) {
    char *dump = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    (void)snprintf(text, size, "%s", dump != NULL ? dump : "?");
    free(dump);
}

static int unknown_name(const struct place *at, const char *what, const char *name,
                        const char *const *names, size_t count) {
    const char *nearest = tl_nearest(name, names, count);
    if (nearest != NULL) {
        return tl_fail(TL_E_CONFIG, "%s: unknown %s \"%.40s\"; did you mean \"%s\"?",
                       at->text, what, name, nearest);
    }
    char list[160] = "";
    for (size_t i = 0, used = 0; i < count && used < sizeof(list); i++) {
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
                                 i == 0 ? "" : ", ", names[i]);
    }
    return tl_fail(TL_E_CONFIG, "%s: unknown %s \"%.40s\"; known: %s", at->text, what,
                   name, list);
}

static int check_keys(const struct place *at, const json_t *object,
                      const char *const *names, size_t count) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        size_t i = 0;
        while (i < count && strcmp(key, names[i]) != 0) {
            i++;
        }
        if (i == count) {
            return unknown_name(at, "key", key, names, count);
        }
    }
    return 0;
}

/* ---- numbers ------------------------------------------------------------------ */

static int wrong_number(const struct place *at, const struct tl_nn_field *f,
                        const json_t *value) {
    char found[48] = "missing";
    if (value != NULL) {
        quote(value, found, sizeof(found));
    }
    return tl_fail(TL_E_CONFIG, "%s: \"%s\" must be a %snumber from %g to %s%g, is %s",
                   at->text, f->name, f->whole ? "whole " : "", f->min,
                   f->open ? "below " : "", f->max, found);
}

static int read_number(const struct place *at, const struct tl_nn_field *f,
                       const json_t *object, double *ret_number) {
    const json_t *value = json_object_get(object, f->name);
    if (value == NULL && !isnan(f->fallback)) {
        *ret_number = f->fallback;
        return 0;
    }
    const bool typed = f->whole ? json_is_integer(value) : json_is_number(value);
    const double number = json_number_value(value);
    if (!typed || number < f->min || number > f->max || (f->open && number >= f->max)) {
        return wrong_number(at, f, value);
    }
    *ret_number = number;
    return 0;
}

/* ---- layers ------------------------------------------------------------------- */

void tl_nn_declare(struct tl_nn_layer *l, const char *name, enum tl_nn_fill fill,
                   size_t rank, const size_t *shape) {
    struct tl_nn_slot *s = &l->slot[l->slots++];
    struct tl_nn_tensor *t = &s->tensor;
    (void)snprintf(t->name, sizeof(t->name), "%zu.%s.%s", l->index, l->kind->name,
                   name);
    t->rank = rank;
    t->count = 1;
    for (size_t i = 0; i < rank; i++) {
        t->shape[i] = shape[i];
        t->count *= shape[i];
    }
    s->fill = fill;
    /* A bias belongs to the weight declared before it. */
    s->fan_in = rank > 1 ? (size_t)(t->count / shape[0])
                         : (l->slots > 1 ? l->slot[0].fan_in : 1);
    l->parameters += t->count;
}

/* NULL: the failure has been recorded. */
static const struct tl_nn_kind *find_kind(const struct place *at,
                                          const json_t *object) {
    const char *names[COUNT(kinds)];
    const char *type = json_string_value(json_object_get(object, "type"));
    if (type == NULL) {
        (void)tl_fail(TL_E_CONFIG,
                      "%s: must be an object with a \"type\", such as {\"type\": "
                      "\"relu\"}",
                      at->text);
        return NULL;
    }
    for (size_t i = 0; i < COUNT(kinds); i++) {
        names[i] = kinds[i]->name;
        if (strcmp(type, names[i]) == 0) {
            return kinds[i];
        }
    }
    (void)unknown_name(at, "type", type, names, COUNT(kinds));
    return NULL;
}

static int read_options(const struct place *at, struct tl_nn_layer *l,
                        const json_t *object) {
    const char *names[1 + TL_NN_OPTIONS_MAX] = {"type"};
    for (size_t i = 0; i < l->kind->field_count; i++) {
        names[i + 1] = l->kind->fields[i].name;
    }
    int rc = check_keys(at, object, names, 1 + l->kind->field_count);
    for (size_t i = 0; i < l->kind->field_count && rc == 0; i++) {
        rc = read_number(at, &l->kind->fields[i], object, &l->option[i]);
    }
    return rc;
}

/* `before` is the shape that the layer gets. */
static int read_layer(const struct tl_nn *nn, const char *where, size_t index,
                      const json_t *object, const struct tl_nn_shape *before,
                      struct tl_nn_layer *l) {
    struct place at;
    (void)snprintf(at.text, sizeof(at.text), "%.200s: layers[%zu]", where, index);
    *l = (struct tl_nn_layer){.index = index, .in = *before, .pool = 1};
    l->kind = find_kind(&at, object);
    if (l->kind == NULL) {
        return TL_E_CONFIG;
    }
    (void)snprintf(at.text, sizeof(at.text), "%.200s: layers[%zu] (%s)", where, index,
                   l->kind->name);
    const int rc = read_options(&at, l, object);
    if (rc != 0) {
        return rc;
    }
    const char *misfit = l->kind->fit(l);
    if (misfit != NULL) {
        return tl_fail(TL_E_CONFIG, "%s: %s", at.text, misfit);
    }
    if (tl_nn_size(&l->out) > TL_NN_BUFFER_MAX / nn->max_batch) {
        return tl_fail(TL_E_CONFIG,
                       "%s: gives %zu values for each example, too many for batches of "
                       "%zu",
                       at.text, tl_nn_size(&l->out), nn->max_batch);
    }
    if (l->parameters > TL_NN_PARAMETERS_MAX) {
        return tl_fail(TL_E_CONFIG, "%s: has more than %llu parameters", at.text,
                       (unsigned long long)TL_NN_PARAMETERS_MAX);
    }
    l->learned = l->learned == 0 ? l->parameters : l->learned;
    return 0;
}

/* Append a layer to the model, unless the last one does its work from now on. */
static void append(struct tl_nn *nn, const struct tl_nn_layer *l) {
    if (nn->layers > 0) {
        struct tl_nn_layer *last = &nn->layer[nn->layers - 1];
        if (last->kind->absorb != NULL && last->kind->absorb(last, l)) {
            return;
        }
    }
    struct tl_nn_layer *to = &nn->layer[nn->layers++];
    *to = *l;
    to->first = nn->parameters;
    for (size_t s = 0; s < to->slots; s++) {
        to->slot[s].tensor.first = nn->parameters;
        nn->parameters += to->slot[s].tensor.count;
    }
}

static int read_layers(struct tl_nn *nn, const char *where, const json_t *array) {
    const size_t count = json_array_size(array);
    if (count == 0 || count > TL_NN_LAYERS_MAX) {
        return tl_fail(TL_E_CONFIG, "%s: \"layers\" must be an array of 1 to %u layers",
                       where, TL_NN_LAYERS_MAX);
    }
    nn->layer = calloc(count, sizeof(*nn->layer));
    if (nn->layer == NULL) {
        return tl_fail(TL_E_NOMEM, "%s: no memory for %zu layers", where, count);
    }
    struct tl_nn_shape shape = nn->in;
    nn->layers = 0;
    for (size_t i = 0; i < count; i++) {
        struct tl_nn_layer l;
        const int rc = read_layer(nn, where, i, json_array_get(array, i), &shape, &l);
        if (rc != 0) {
            return rc;
        }
        append(nn, &l);
        shape = l.out;
    }
    return 0;
}

/* ---- the model ---------------------------------------------------------------- */

static int read_input(struct tl_nn *nn, const char *where, const json_t *array) {
    size_t edge[3] = {0};
    const size_t rank = json_array_size(array);
    for (size_t i = 0; i < rank && i < COUNT(edge); i++) {
        const json_int_t value = json_integer_value(json_array_get(array, i));
        edge[i] = value >= 1 && value <= EDGE_MAX ? (size_t)value : 0;
    }
    const bool image = rank == 3 && edge[0] > 0 && edge[1] > 0 && edge[2] > 0;
    if (!image && !(rank == 1 && edge[0] > 0)) {
        return tl_fail(TL_E_CONFIG,
                       "%s: \"input\" must be [channels, height, width] or [values], "
                       "whole numbers from 1 to %d",
                       where, EDGE_MAX);
    }
    nn->in = image ? (struct tl_nn_shape){false, edge[1], edge[2], edge[0]}
                   : (struct tl_nn_shape){true, 1, 1, edge[0]};
    if (tl_nn_size(&nn->in) > TL_NN_BUFFER_MAX / nn->max_batch) {
        return tl_fail(TL_E_CONFIG, "%s: \"input\" is too large for batches of %zu",
                       where, nn->max_batch);
    }
    return 0;
}

static int read_rule(struct tl_nn *nn, const struct place *at, const json_t *value) {
    static const char *const names[] = {"he", "pytorch"};
    const char *name = value == NULL ? "he" : json_string_value(value);
    if (name == NULL) {
        return tl_fail(TL_E_CONFIG, "%s: \"init\" must be \"he\" or \"pytorch\"",
                       at->text);
    }
    for (size_t i = 0; i < COUNT(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            nn->rule = (enum tl_nn_rule)i;
            return 0;
        }
    }
    return unknown_name(at, "\"init\"", name, names, COUNT(names));
}

/* What only the model as a whole can be asked. */
static int check_whole(struct tl_nn *nn, const char *where) {
    const struct tl_nn_shape *out = &nn->layer[nn->layers - 1].out;
    if (!out->flat || out->channels != nn->classes) {
        return tl_fail(TL_E_CONFIG,
                       "%s: the last layer must give a flat row of %zu values "
                       "(\"classes\"), but gives %s of %zu",
                       where, nn->classes, out->flat ? "a row" : "an image",
                       tl_nn_size(out));
    }
    if (nn->parameters == 0 || nn->parameters > TL_NN_PARAMETERS_MAX) {
        return tl_fail(TL_E_CONFIG, "%s: the layers must have 1 to %llu parameters",
                       where, (unsigned long long)TL_NN_PARAMETERS_MAX);
    }
    while (nn->layer[nn->first_learned].parameters == 0) {
        nn->first_learned++;
    }
    return 0;
}

int tl_nn_parse(struct tl_nn *nn, const json_t *model, const char *where) {
    static const char *const keys[] = {"input", "classes", "layers", "init"};
    static const struct tl_nn_field classes = {.name = "classes",
                                               .min = 2,
                                               .max = CLASSES_MAX,
                                               .fallback = NAN,
                                               .whole = true};
    struct place at;
    double number = 0.0;
    (void)snprintf(at.text, sizeof(at.text), "%.200s", where);
    if (!json_is_object(model)) {
        return tl_fail(TL_E_CONFIG, "%s: the model must be a JSON object", at.text);
    }
    int rc = check_keys(&at, model, keys, COUNT(keys));
    if (rc == 0) {
        rc = read_input(nn, at.text, json_object_get(model, "input"));
    }
    if (rc == 0) {
        rc = read_number(&at, &classes, model, &number);
        nn->classes = (size_t)number;
    }
    if (rc == 0) {
        rc = read_rule(nn, &at, json_object_get(model, "init"));
    }
    if (rc == 0) {
        rc = read_layers(nn, at.text, json_object_get(model, "layers"));
    }
    return rc == 0 ? check_whole(nn, at.text) : rc;
}
