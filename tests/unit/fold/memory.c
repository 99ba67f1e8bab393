/* Memory runs out while a fold is made, held and cut. What it has folded stays. */
#include "fold_rig.h"
#include "scarce.h"

#define COUNT 70000u

static float values[COUNT];

/* No part of it allocates but what may say so. */
static int live(void *ctx) {
    const struct tl_fold_config config = rig_config(COUNT);
    struct tl_fold *f = NULL;
    (void)ctx;
    int rc = tl_fold_new(&config, values, &f);
    if (rc != 0) {
        return rc;
    }
    struct tl_view *view = NULL;
    struct tl_cut *cut = NULL;
    assert_int_equal(rig_join(f, 0, 1, 0, 0), 0);
    rc = tl_fold_view(f, &view);
    assert_int_equal(rig_push(f, 0, 1, 0, values), 0);
    if (rc == 0) {
        rc = tl_fold_cut(f, &cut);
    }
    assert_int_equal(rig_push(f, 0, 2, 1, values), 0);
    assert_true(tl_fold_version(f) == 2);
    tl_cut_release(cut);
    tl_view_release(view);
    tl_fold_free(f);
    return rc;
}

static void a_fold(void **state) {
    (void)state;
    scarce_torture(live, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_fold)};
    return cmocka_run_group_tests_name("fold/memory", tests, NULL, NULL);
}
