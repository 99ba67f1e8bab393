/* Memory runs out while a data set is loaded, plain and compressed. */
#include "throughline/data.h"

#include "scarce.h"
#include "scratch.h"

#include <zlib.h>

static char images[256], labels[256];

static int start(void **state) {
    static const unsigned char pixels[16 + 12] = {0, 0, 8, 3, 0, 0, 0, 3,
                                                  0, 0, 0, 2, 0, 0, 0, 2};
    static const unsigned char classes[8 + 3] = {0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 2};
    int rc = scratch_setup(state);
    (void)snprintf(images, sizeof(images), "%s", scratch_path("images.gz"));
    (void)snprintf(labels, sizeof(labels), "%s", scratch_path("labels"));
    gzFile f = gzopen(images, "wb");
    FILE *g = fopen(labels, "wb");
    assert_true(f != NULL && g != NULL);
    assert_int_equal(gzwrite(f, pixels, sizeof(pixels)), sizeof(pixels));
    assert_int_equal(fwrite(classes, 1, sizeof(classes), g), sizeof(classes));
    assert_int_equal(gzclose(f), Z_OK);
    assert_int_equal(fclose(g), 0);
    return rc;
}

static int load(void *ctx) {
    struct tl_dataset *set = NULL;
    struct tl_feed *feed = NULL;
    (void)ctx;
    int rc = tl_dataset_load(images, labels, 3, &set);
    if (rc == 0) {
        rc = tl_feed_new(tl_dataset_count(set), 1, 0, 1, 2, &feed);
    }
    tl_feed_free(feed);
    tl_dataset_free(set);
    return rc;
}

static void a_data_set(void **state) {
    (void)state;
    scarce_torture(load, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_data_set)};
    return cmocka_run_group_tests_name("data/memory", tests, start, scratch_teardown);
}
