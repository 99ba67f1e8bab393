/* sample_options.h - a small table with an option of each type, for the tests. */
#ifndef TEST_SAMPLE_OPTIONS_H
#define TEST_SAMPLE_OPTIONS_H

#include "throughline/config.h"

struct sample {
    bool loud;
    uint32_t count;
    uint64_t limit;
    double rate;
    char name[16];
    char path[64];
    char token[32];
    int color;
    json_t *shape;
};

static const char *const sample_colors[] = {"red", "green", "blue", NULL};

#define AT(member)                                                                     \
    .offset = offsetof(struct sample, member),                                         \
    .size = sizeof(((struct sample *)NULL)->member)
static const struct tl_option sample_options[] = {
    {.name = "loud",
     .type = TL_OPT_BOOL,
     AT(loud),
     .fallback = "false",
     .doc = "Say more."},
    {.name = "count",
     .type = TL_OPT_U32,
     AT(count),
     .fallback = "3",
     .min = 1,
     .max = 10,
     .unit = "pieces",
     .doc = "How many."},
    {.name = "group.limit",
     .type = TL_OPT_U64,
     AT(limit),
     .fallback = "5",
     .doc = "How much."},
    {.name = "group.rate",
     .type = TL_OPT_DOUBLE,
     AT(rate),
     .fallback = "0.5",
     .min = 0,
     .max = 1,
     .doc = "How fast."},
    {.name = "name", .type = TL_OPT_STRING, AT(name), .doc = "What."},
    {.name = "group.deep.path",
     .type = TL_OPT_STRING,
     AT(path),
     .fallback = "",
     .path = true,
     .doc = "Where."},
    {.name = "token",
     .type = TL_OPT_STRING,
     AT(token),
     .fallback = "",
     .secret = true,
     .doc = "Who."},
    {.name = "color",
     .type = TL_OPT_CHOICE,
     AT(color),
     .fallback = "green",
     .choices = sample_colors,
     .doc = "Which."},
    {.name = "shape",
     .type = TL_OPT_JSON,
     .offset = offsetof(struct sample, shape),
     .fallback = "",
     .doc = "Form."},
};
#undef AT
static const struct tl_option_table sample_table = {
    sample_options, sizeof(sample_options) / sizeof(sample_options[0])};

#endif
