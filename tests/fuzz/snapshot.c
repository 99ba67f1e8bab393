/* A shard's state, as a snapshot or a peer gives it: what is taken is cut into the same
 * bytes again. */
#include "throughline/fold.h"

#include "fuzz.h"

static struct tl_fold_config config_of(uint8_t choice) {
    return (struct tl_fold_config){
        .shards = 1,
        .count = 16,
        .consistency = (enum tl_consistency)(choice % 3),
        .spare_copies = 1,
        .optimizer = {.kind = (enum tl_optimizer_kind)(choice / 3 % 3),
                      .learning_rate = 0.1,
                      .momentum = 0.5,
                      .beta1 = 0.9,
                      .beta2 = 0.999,
                      .epsilon = 1e-8},
        .schedule = {.factor = 1},
    };
}

static void cut(struct tl_fold *f, const uint8_t *data, size_t size) {
    struct tl_cut *c = NULL;
    const void *bytes = NULL;
    size_t n = 0;
    size_t at = 0;
    must(tl_fold_cut(f, &c) == 0);
    for (size_t i = 0; tl_cut_segment(c, i, &bytes, &n); i++) {
        must(n <= size - at && memcmp(data + at, bytes, n) == 0);
        at += n;
    }
    must(at == size);
    tl_cut_release(c);
}

/* In two pieces, as it may come. */
static int restore(const struct tl_fold_config *config, const uint8_t *data,
                   size_t size, struct tl_fold **ret_fold) {
    struct tl_restore *r = NULL;
    must(tl_restore_new(config, &r) == 0);
    int rc = tl_restore_feed(r, data, size / 3);
    if (rc == 0) {
        rc = tl_restore_feed(r, data + size / 3, size - size / 3);
    }
    if (rc == 0) {
        rc = tl_restore_done(r, ret_fold);
    }
    if (rc != 0) {
        tl_restore_free(r);
    }
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct tl_fold *f = NULL;
    if (size < 1) {
        return 0;
    }
    const struct tl_fold_config config = config_of(data[0]);
    if (restore(&config, data + 1, size - 1, &f) == 0) {
        cut(f, data + 1, size - 1);
        tl_fold_free(f);
    }
    return 0;
}
