/* IDX files that are right are read exactly; files that lie are refused by one line
 * that names the file and the field. */
#include "throughline/data.h"

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { COUNT = 5, ROWS = 3, COLUMNS = 2, PIXELS = ROWS * COLUMNS, CLASSES = 4 };
enum { IMAGES_SIZE = 16 + COUNT * PIXELS, LABELS_SIZE = 8 + COUNT };

static char folder[64];
static char images_path[128];
static char labels_path[128];

/* A right pair of files' bytes; tests spoil them. */
static uint8_t images[IMAGES_SIZE + 1];
static uint8_t labels[LABELS_SIZE + 1];

static void put_u32(uint8_t *at, uint32_t v) {
    at[0] = (uint8_t)(v >> 24);
    at[1] = (uint8_t)(v >> 16);
    at[2] = (uint8_t)(v >> 8);
    at[3] = (uint8_t)v;
}

static int make_right_bytes(void **state) {
    (void)state;
    memset(images, 0, sizeof(images));
    put_u32(images, 0x803);
    put_u32(images + 4, COUNT);
    put_u32(images + 8, ROWS);
    put_u32(images + 12, COLUMNS);
    for (int i = 0; i < COUNT * PIXELS; i++) {
        images[16 + i] = (uint8_t)(i * 8);
    }
    images[IMAGES_SIZE - 1] = 255;
    memset(labels, 0, sizeof(labels));
    put_u32(labels, 0x801);
    put_u32(labels + 4, COUNT);
    for (int i = 0; i < COUNT; i++) {
        labels[8 + i] = (uint8_t)(i % CLASSES);
    }
    return 0;
}

static void write_plain(const char *path, const uint8_t *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void write_gzip(const char *path, const uint8_t *bytes, size_t size) {
    gzFile f = gzopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(gzwrite(f, bytes, (unsigned)size), (int)size);
    assert_int_equal(gzclose(f), Z_OK);
}

static size_t file_size(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (size_t)st.st_size;
}

static void write_right_files(void) {
    write_plain(images_path, images, IMAGES_SIZE);
    write_plain(labels_path, labels, LABELS_SIZE);
}

static int load(struct tl_dataset **ret_set) {
    return tl_dataset_load(images_path, labels_path, CLASSES, ret_set);
}

/* Loading fails with `code`, with one line that names `path` and `field`. */
static void expect_refusal(int code, const char *path, const char *field) {
    struct tl_dataset *set = NULL;
    assert_int_equal(load(&set), code);
    assert_null(set);
    if (strstr(tl_error_text(), path) == NULL ||
        strstr(tl_error_text(), field) == NULL ||
        strchr(tl_error_text(), '\n') != NULL) {
        fail_msg("\"%s\" is not one line that names %s and %s", tl_error_text(), path,
                 field);
    }
}

static void check_contents(void) {
    struct tl_dataset *set = NULL;
    assert_int_equal(load(&set), 0);
    assert_int_equal(tl_dataset_count(set), COUNT);
    assert_int_equal(tl_dataset_inputs(set), PIXELS);
    const uint32_t wanted[] = {4, 0};
    float inputs[2 * PIXELS];
    uint8_t classes[2] = {99, 99};
    tl_dataset_gather(set, wanted, 2, inputs, classes);
    assert_int_equal(classes[0], 4 % CLASSES);
    assert_int_equal(classes[1], 0);
    assert_true(inputs[PIXELS - 1] == 1.0F);
    assert_true(inputs[PIXELS] == -1.0F);
    assert_true(inputs[0] == (float)(4 * PIXELS * 8) / 127.5F - 1.0F);
    tl_dataset_free(set);
}

static void plain_and_gzip_are_read(void **state) {
    (void)state;
    write_right_files();
    check_contents();
    write_gzip(images_path, images, IMAGES_SIZE);
    check_contents();
    write_gzip(labels_path, labels, LABELS_SIZE);
    check_contents();
}

static void channels_are_read(void **state) {
    (void)state;
    uint8_t bytes[IMAGES_SIZE + 4];
    put_u32(bytes, 0x804);
    put_u32(bytes + 4, COUNT);
    put_u32(bytes + 8, 1);
    memcpy(bytes + 12, images + 8, IMAGES_SIZE - 8);
    write_plain(images_path, bytes, sizeof(bytes));
    write_plain(labels_path, labels, LABELS_SIZE);
    check_contents();
}

static void missing_files_are_named(void **state) {
    (void)state;
    (void)unlink(images_path);
    write_plain(labels_path, labels, LABELS_SIZE);
    expect_refusal(TL_E_CONFIG, images_path, "No such file");
    write_plain(images_path, images, IMAGES_SIZE);
    (void)unlink(labels_path);
    expect_refusal(TL_E_CONFIG, labels_path, "No such file");
}

static void what_is_no_file_is_refused(void **state) {
    (void)state;
    write_right_files();
    (void)unlink(images_path);
    assert_int_equal(mkdir(images_path, 0700), 0);
    expect_refusal(TL_E_CONFIG, images_path, "not a regular file");
    assert_int_equal(rmdir(images_path), 0);
    assert_int_equal(mkfifo(images_path, 0600), 0);
    expect_refusal(TL_E_CONFIG, images_path, "not a regular file");
    assert_int_equal(unlink(images_path), 0);
}

/* Every length short of the right one is refused, plain or gzip. */
static void short_files_are_refused(void **state) {
    (void)state;
    write_right_files();
    for (size_t size = 0; size < IMAGES_SIZE; size++) {
        write_plain(images_path, images, size);
        expect_refusal(TL_E_CONFIG, images_path,
                       size < 4    ? "magic number"
                       : size < 16 ? "dimension"
                                   : "elements");
    }
    write_plain(images_path, images, IMAGES_SIZE);
    for (size_t size = 0; size < LABELS_SIZE; size++) {
        write_plain(labels_path, labels, size);
        expect_refusal(TL_E_CONFIG, labels_path, "");
    }
}

static void long_files_are_refused(void **state) {
    (void)state;
    write_right_files();
    write_plain(images_path, images, IMAGES_SIZE + 1);
    expect_refusal(TL_E_CONFIG, images_path, "elements: the file goes on");
    write_gzip(images_path, images, IMAGES_SIZE + 1);
    expect_refusal(TL_E_CONFIG, images_path, "elements: the file goes on");
}

/* A gzip file cut at any place is refused. */
static void cut_gzip_is_refused(void **state) {
    (void)state;
    write_right_files();
    write_gzip(images_path, images, IMAGES_SIZE);
    uint8_t packed[512];
    size_t size = file_size(images_path);
    assert_in_range(size, 20, sizeof(packed));
    FILE *f = fopen(images_path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(packed, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    for (size_t cut = 0; cut < size; cut++) {
        write_plain(images_path, packed, cut);
        expect_refusal(TL_E_CONFIG, images_path, "");
    }
}

/* A flipped bit in the compressed bytes is found, at the latest by their checksum. */
static void damaged_gzip_is_refused(void **state) {
    (void)state;
    write_right_files();
    write_gzip(images_path, images, IMAGES_SIZE);
    uint8_t packed[512];
    size_t size = file_size(images_path);
    assert_in_range(size, 20, sizeof(packed));
    FILE *f = fopen(images_path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(packed, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    /* The first ten bytes are gzip's own header: only its magic and method count. */
    for (size_t at = 10; at < size; at++) {
        packed[at] ^= 0x10;
        write_plain(images_path, packed, size);
        expect_refusal(TL_E_CONFIG, images_path, "");
        packed[at] ^= 0x10;
    }
}

static void wrong_magic_is_refused(void **state) {
    (void)state;
    static const uint32_t wrong[] = {0x801, 0x802, 0x805,      0x903,
                                     0xd03, 0x0,   0x01000803, 0xffffffff};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        write_right_files();
        uint8_t bytes[IMAGES_SIZE];
        memcpy(bytes, images, sizeof(bytes));
        put_u32(bytes, wrong[i]);
        write_plain(images_path, bytes, sizeof(bytes));
        expect_refusal(TL_E_CONFIG, images_path, "magic number");
    }
    /* Images and labels exchanged. */
    write_plain(images_path, labels, LABELS_SIZE);
    expect_refusal(TL_E_CONFIG, images_path, "magic number: is 0x00000801");
}

static void lying_dimensions_are_refused(void **state) {
    (void)state;
    static const uint32_t wrong[] = {0, 1, 4, 6, 1u << 20, 0x7fffffff, 0xffffffff};
    for (size_t field = 4; field < 16; field += 4) {
        for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
            write_right_files();
            uint8_t bytes[IMAGES_SIZE];
            memcpy(bytes, images, sizeof(bytes));
            put_u32(bytes + field, wrong[i]);
            write_plain(images_path, bytes, sizeof(bytes));
            expect_refusal(TL_E_CONFIG, images_path, "");
        }
    }
}

/* A small file whose header asks for gigabytes is refused without asking for them. */
static void a_lie_costs_no_memory(void **state) {
    (void)state;
    write_right_files();
    put_u32(images + 4, 2000);
    put_u32(images + 8, 2000);
    put_u32(images + 12, 1000);
    write_plain(images_path, images, IMAGES_SIZE);
    expect_refusal(TL_E_CONFIG, images_path, "more than the file can hold");
}

static void counts_that_differ_are_refused(void **state) {
    (void)state;
    write_right_files();
    put_u32(labels + 4, COUNT - 1);
    write_plain(labels_path, labels, LABELS_SIZE - 1);
    expect_refusal(TL_E_CONFIG, labels_path, "dimension 1 (examples): is 4");
}

static void a_label_out_of_range_is_refused(void **state) {
    (void)state;
    labels[8 + 3] = CLASSES;
    write_right_files();
    expect_refusal(TL_E_CONFIG, labels_path, "label 3: is 4");
}

/* The shipped data set: its size, and as many examples of each class as of any. */
static void check_balance(const char *part, size_t count) {
    char subset_images[512], subset_labels[512];
    static const char base[] = TL_SOURCE_DIR "/datasets/fashion-mnist-subset";
    (void)snprintf(subset_images, sizeof(subset_images), "%s/%s-images-idx3-ubyte.gz",
                   base, part);
    (void)snprintf(subset_labels, sizeof(subset_labels), "%s/%s-labels-idx1-ubyte.gz",
                   base, part);
    struct tl_dataset *set = NULL;
    if (tl_dataset_load(subset_images, subset_labels, 10, &set) != 0) {
        fail_msg("%s", tl_error_text());
    }
    assert_int_equal(tl_dataset_count(set), count);
    assert_int_equal(tl_dataset_inputs(set), 28 * 28);
    size_t of_class[10] = {0};
    float inputs[28 * 28];
    for (uint32_t i = 0; i < count; i++) {
        uint8_t label = 0;
        tl_dataset_gather(set, &i, 1, inputs, &label);
        of_class[label]++;
    }
    for (size_t c = 0; c < 10; c++) {
        assert_int_equal(of_class[c], count / 10);
    }
    tl_dataset_free(set);
}

static void the_shipped_subset_is_balanced(void **state) {
    (void)state;
    check_balance("train", 10000);
    check_balance("t10k", 2000);
}

static int make_folder(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/throughline-test-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    (void)snprintf(images_path, sizeof(images_path), "%s/images", folder);
    (void)snprintf(labels_path, sizeof(labels_path), "%s/labels", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    (void)unlink(images_path);
    (void)unlink(labels_path);
    return rmdir(folder);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup(f, make_right_bytes)
    const struct CMUnitTest tests[] = {
        TEST(plain_and_gzip_are_read),
        TEST(channels_are_read),
        TEST(missing_files_are_named),
        TEST(what_is_no_file_is_refused),
        TEST(short_files_are_refused),
        TEST(long_files_are_refused),
        TEST(cut_gzip_is_refused),
        TEST(damaged_gzip_is_refused),
        TEST(wrong_magic_is_refused),
        TEST(lying_dimensions_are_refused),
        TEST(a_lie_costs_no_memory),
        TEST(counts_that_differ_are_refused),
        TEST(a_label_out_of_range_is_refused),
        TEST(the_shipped_subset_is_balanced),
    };
    return cmocka_run_group_tests_name("data/dataset", tests, make_folder,
                                       remove_folder);
}
