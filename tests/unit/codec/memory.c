/* The codec needs no memory: with none left every encoding is written, checked and read
 * as ever. */
#include "throughline/codec.h"

#include "scarce.h"
#include "test.h"

#include <string.h>

#define COUNT 1000u

static float values[COUNT], back[COUNT];
static uint8_t bytes[COUNT * sizeof(float) + TL_TOPK_PAIR_BYTES];

static void all_works_without_memory(void **state) {
    (void)state;
    for (unsigned i = 0; i < COUNT; i++) {
        values[i] = (float)((int)(i * 7919u % COUNT) - 500) / 512.0f;
    }
    const uint64_t kept = tl_codec_topk_count(COUNT, 0.01);
    scarce_begin(1, true);
    for (unsigned i = 0; i < TL_ENCODINGS; i++) {
        const struct tl_encoded e = {
            .encoding = (enum tl_encoding)i,
            .bytes = bytes,
            .size = tl_codec_size((enum tl_encoding)i, COUNT, kept),
            .count = COUNT};
        tl_codec_encode(e.encoding, values, COUNT, kept, bytes);
        assert_int_equal(tl_codec_check(&e), 0);
        assert_true(tl_codec_is_finite(&e));
        tl_codec_decode(&e, 0, COUNT, back);
    }
    assert_false(scarce_end());
    tl_codec_encode(TL_ENCODING_F32, values, COUNT, 0, bytes);
    assert_memory_equal(bytes, values, sizeof(values));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_works_without_memory)};
    return cmocka_run_group_tests_name("codec/memory", tests, NULL, NULL);
}
