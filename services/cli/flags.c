/* flags.c - what all subcommands do alike with their arguments. */
#include "flags.h"

#include "throughline/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLAGS_MAX 256u

bool tl_flags_want_help(int argc, char *const *argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

/* Every flag of the tables, one a line; malloc'ed, NULL when memory ran out. */
static char *flag_lines(const struct tl_flag_target *targets, size_t count,
                        const char *const *others) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        tl_config_flags(targets[i].table, out);
    }
    for (; others && *others; others++) {
        (void)fprintf(out, "%s\n", *others);
    }
    (void)fclose(out);
    return text;
}

static int unknown_flag(const struct tl_flag_target *targets, size_t count,
                        const char *const *others, const char *flag) {
    char word[128];
    const char *names[FLAGS_MAX];
    size_t n = 0;
    (void)snprintf(word, sizeof(word), "%.*s", (int)strcspn(flag, "="), flag);
    char *lines = flag_lines(targets, count, others), *rest = lines;
    while (rest && n < FLAGS_MAX && (names[n] = strtok_r(rest, "\n", &rest)) != NULL) {
        n++;
    }
    const char *near = tl_nearest(word, names, n);
    int rc = near
                 ? tl_fail(TL_E_CONFIG, "%s is not known; did you mean %s?", word, near)
                 : tl_fail(TL_E_CONFIG, "%s is not known; see --help", word);
    free(lines);
    return rc;
}

int tl_flags_take(const struct tl_flag_target *targets, size_t count,
                  const char *const *others, int argc, char *const *argv) {
    for (size_t i = 0; i < count; i++) {
        int taken = tl_config_flag(targets[i].table, targets[i].target, argc, argv);
        if (taken != 0) {
            return taken;
        }
    }
    return argv[0][0] == '-' ? unknown_flag(targets, count, others, argv[0]) : 0;
}

int tl_flags_value(const char *flag, int argc, char *const *argv,
                   const char **ret_value) {
    size_t length = strlen(flag);
    if (strncmp(argv[0], flag, length) != 0) {
        return 0;
    }
    if (argv[0][length] == '=') {
        *ret_value = argv[0] + length + 1;
        return 1;
    }
    if (argv[0][length] != '\0') {
        return 0;
    }
    if (argc < 2 || strncmp(argv[1], "--", 2) == 0) {
        return tl_fail(TL_E_CONFIG, "%s needs a value", flag);
    }
    *ret_value = argv[1];
    return 2;
}

void tl_flags_tell(void *ctx, const char *text) {
    (void)ctx;
    (void)fprintf(stderr, "throughline: %s\n", text);
}

int tl_flags_fail(const char *command, int error) {
    (void)fprintf(stderr, "throughline %s: %s\n", command, tl_error_text());
    return tl_exit_code(error);
}

int tl_flags_shard(const char *text, uint32_t *ret_shard) {
    char *end = NULL;
    if (strcmp(text, "all") == 0) {
        *ret_shard = UINT32_MAX;
        return 0;
    }
    const unsigned long shard = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || shard >= UINT32_MAX) {
        return tl_fail(TL_E_CONFIG, "--shard %s: a number, or \"all\"", text);
    }
    *ret_shard = (uint32_t)shard;
    return 0;
}
