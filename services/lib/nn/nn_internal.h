/* nn_internal.h - what the files of the model stage share.
 *
 * A model is an array of layers. Each kind of layer is one file that exports one
 * struct tl_nn_kind; model.c reads the JSON by the kinds' tables, memory.c carves one
 * block for all of them, pass.c runs them forward and backward.
 *
 * Inside, images are stored [batch, height, width, channels]: a pixel's channels lie
 * side by side, so that patches are copied in long runs and every pass over an image
 * is a loop over channels that the compiler turns into vector code. The public order
 * (channels first) is restored by flatten; conv2d reorders its weights likewise. */
#ifndef TL_NN_INTERNAL_H
#define TL_NN_INTERNAL_H

#include "throughline/nn.h"

/* Compile a function for AVX2 too, and let the loader choose. Only GCC on x86-64 glibc:
 * clang 14 leaves such symbols undefined, and sanitizers cannot run resolvers. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) &&                  \
    !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&                           \
    !defined(__SANITIZE_THREAD__)
#define TL_NN_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define TL_NN_CLONES
#endif

#define TL_NN_LAYERS_MAX     256u
#define TL_NN_OPTIONS_MAX    4u
#define TL_NN_SLOTS_MAX      4u
#define TL_NN_PARAMETERS_MAX (UINT64_C(1) << 30)
#define TL_NN_BATCH_MAX      65536u
/* Floats of one buffer; also keeps every size within OpenBLAS's int. */
#define TL_NN_BUFFER_MAX     ((size_t)INT32_MAX)
/* A pooling window's mark is its index in a byte; this one means "cut off by ReLU". */
#define TL_NN_MARK_NONE      255u
#define TL_NN_POOL_MAX       15u

/* What flows between layers: an image, or a row of `channels` values (1 x 1, flat). */
struct tl_nn_shape {
    bool flat;
    size_t height, width, channels;
};

static inline size_t tl_nn_pixels(const struct tl_nn_shape *s) {
    return s->height * s->width;
}
static inline size_t tl_nn_size(const struct tl_nn_shape *s) {
    return tl_nn_pixels(s) * s->channels;
}

/* ---- layers ------------------------------------------------------------------- */

enum tl_nn_fill { TL_NN_FILL_WEIGHT, TL_NN_FILL_BIAS, TL_NN_FILL_ONE, TL_NN_FILL_ZERO };

/* One parameter tensor: what exports show, and how it starts. */
struct tl_nn_slot {
    struct tl_nn_tensor tensor;
    enum tl_nn_fill fill;
    size_t fan_in;
};

struct tl_nn_layer {
    const struct tl_nn_kind *kind;
    size_t index;                     /* among the model's "layers", from 0 */
    double option[TL_NN_OPTIONS_MAX]; /* values of kind->fields */
    struct tl_nn_shape in, out;
    struct tl_nn_shape grid; /* what is pooled: out before pooling */
    size_t pool;             /* edge of the pooling windows; 1: not pooled */
    bool relu;               /* ends with ReLU (conv2d, dense: taken over) */

    struct tl_nn_slot slot[TL_NN_SLOTS_MAX];
    size_t slots;
    uint64_t first, parameters; /* place in the flat vector */
    uint64_t learned;           /* the first so many; the rest are statistics */

    float *values;  /* [max_batch, out]: the output, kept for the way back */
    uint8_t *marks; /* per output value: place in the window, or dropout's choice */
    float *kept;    /* weights reordered, statistics of the batch */
    size_t scratch; /* floats that a pass over this layer needs for itself */
};

/* One gradient or evaluation. */
struct tl_nn_pass {
    const float *weights;
    float *gradient; /* NULL on the way forward */
    size_t batch;
    uint64_t seed;
    bool training;
    float *scratch; /* shared: valid within one call of one layer */
};

/* An option of a layer, as the model file spells it. */
struct tl_nn_field {
    const char *name;
    double min, max;
    double fallback; /* NAN: required */
    bool whole;      /* an integer */
    bool open;       /* max itself is out of range */
};

struct tl_nn_arena;

struct tl_nn_kind {
    const char *name;
    const struct tl_nn_field *fields;
    size_t field_count;
    bool in_place; /* writes its output over its input */
    /* From in and option: out, and the slots. A text for the user, or NULL if it fits.
     */
    const char *(*fit)(struct tl_nn_layer *l);
    /* Do `next`'s work too, from now on? NULL: never. */
    bool (*absorb)(struct tl_nn_layer *l, const struct tl_nn_layer *next);
    /* Take marks and kept from the arena and say how much scratch; may be NULL. */
    void (*reserve)(struct tl_nn_layer *l, struct tl_nn_arena *a, size_t max_batch);
    /* in [batch, in] -> l->values. */
    void (*forward)(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                    const float *in);
    /* From d_out, the loss's derivative by l->values (may be overwritten): d_in, unless
     * it is NULL, and this layer's part of pass->gradient. */
    void (*backward)(struct tl_nn_layer *l, const struct tl_nn_pass *pass,
                     const float *in, float *d_out, float *d_in);
};

extern const struct tl_nn_kind tl_nn_conv2d, tl_nn_max_pool, tl_nn_dense,
    tl_nn_batch_norm, tl_nn_relu, tl_nn_dropout, tl_nn_flatten;

/* Add a parameter tensor to a layer that is being fitted. */
void tl_nn_declare(struct tl_nn_layer *l, const char *name, enum tl_nn_fill fill,
                   size_t rank, const size_t *shape);

/* ---- the model ---------------------------------------------------------------- */

enum tl_nn_rule { TL_NN_HE, TL_NN_PYTORCH };

struct tl_nn {
    struct tl_nn_shape in;
    size_t classes, max_batch;
    enum tl_nn_rule rule;
    struct tl_nn_layer *layer; /* those that others have absorbed are gone */
    size_t layers;
    size_t first_learned; /* no derivative is needed below this layer */
    uint64_t parameters;

    void *block;   /* all the buffers below and the layers' */
    float *inputs; /* channels last; NULL when both orders are the same */
    float *delta[2];
    float *scratch;
};

/* model.c: read and check the JSON into nn->layer, fused, with places assigned. */
TL_MUST_USE int tl_nn_parse(struct tl_nn *nn, const json_t *model, const char *where);

/* memory.c: one block for every buffer. TL_E_NOMEM, TL_E_CONFIG when one is too large.
 */
TL_MUST_USE int tl_nn_reserve(struct tl_nn *nn, const char *where);
float *tl_nn_take_floats(struct tl_nn_arena *a, size_t count);
uint8_t *tl_nn_take_bytes(struct tl_nn_arena *a, size_t count);

/* pass.c: all layers forward; the last one's values are the logits. */
const float *tl_nn_run_forward(struct tl_nn *nn, const struct tl_nn_pass *pass,
                               const float *inputs);

/* ---- tools -------------------------------------------------------------------- */

/* A matrix as a product sees it; `transposed`: stored the other way round. */
struct tl_nn_matrix {
    const float *values;
    size_t rows, columns;
    bool transposed;
};
static inline struct tl_nn_matrix tl_nn_plain(const float *values, size_t rows,
                                              size_t columns) {
    return (struct tl_nn_matrix){values, rows, columns, false};
}
/* The transpose of `rows` x `columns` stored values. */
static inline struct tl_nn_matrix tl_nn_flipped(const float *values, size_t rows,
                                                size_t columns) {
    return (struct tl_nn_matrix){values, columns, rows, true};
}
/* c = a b, or c += a b. */
void tl_nn_multiply(struct tl_nn_matrix a, struct tl_nn_matrix b, bool add, float *c);
/* One thread, unless the user has said otherwise in OPENBLAS_NUM_THREADS. */
void tl_nn_limit_threads(void);

/* to[column][row] = from[row][column]. */
void tl_nn_transpose(const float *from, size_t rows, size_t columns, float *to);

/* sums[c] = sum over rows; rows x columns. */
void tl_nn_column_sums(const float *values, size_t rows, size_t columns, float *sums);
/* Sum of squares. */
double tl_nn_squares(const float *values, uint64_t count);

/* loss.c: softmax cross-entropy of a batch, summed; d_logits of the mean, or NULL. */
double tl_nn_loss(const float *logits, const uint8_t *labels, size_t batch,
                  size_t classes, float *d_logits);

/* Patches of an image that a convolution looks at (patches.c). */
struct tl_nn_patches {
    size_t height, width, channels; /* of the image */
    size_t kernel, stride, padding;
    size_t rows, columns; /* of the grid of patches */
};
static inline size_t tl_nn_padded_line(const struct tl_nn_patches *p) {
    return (p->width + 2 * p->padding) * p->channels;
}
static inline size_t tl_nn_padded_size(const struct tl_nn_patches *p) {
    return (p->height + 2 * p->padding) * tl_nn_padded_line(p);
}
static inline size_t tl_nn_patch_size(const struct tl_nn_patches *p) {
    return p->kernel * p->kernel * p->channels;
}
/* Copy an image into one with a border of zeros, and the inner part back. */
void tl_nn_pad(const struct tl_nn_patches *p, const float *image, float *padded);
void tl_nn_crop(const struct tl_nn_patches *p, const float *padded, float *image);
/* Every patch of a padded image as a row; and rows added back where they came from. */
void tl_nn_gather(const struct tl_nn_patches *p, const float *padded, float *rows);
void tl_nn_scatter(const struct tl_nn_patches *p, const float *rows, float *padded);

/* Bias, ReLU and the maximum over size x size windows in one sweep (pool.c). */
struct tl_nn_pooling {
    size_t height, width, channels; /* of what is pooled */
    size_t size;
    const float *bias; /* [channels] */
    bool relu;
};
void tl_nn_pool(const struct tl_nn_pooling *p, const float *grid, float *out,
                uint8_t *marks);
/* Give every output's derivative to the place that its mark names, zero elsewhere. */
void tl_nn_unpool(const struct tl_nn_pooling *p, const float *d_out,
                  const uint8_t *marks, float *d_grid);

/* conv_sparse.c: the way back through a pooled convolution, for one image.
 *   d_out, marks  of the pooled image; d_weights is added to; d_padded too, or NULL
 *   list          scratch of tl_nn_sparse_scratch() floats */
size_t tl_nn_sparse_scratch(size_t windows);
void tl_nn_sparse_backward(const struct tl_nn_patches *p, size_t pool, size_t filters,
                           const float *d_out, const uint8_t *marks,
                           const float *weights, const float *padded, float *d_weights,
                           float *d_padded, float *list);

#endif
