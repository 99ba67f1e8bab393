/* nearest.c - the name that was probably meant, for "did you mean ...?".
 *
 * A misspelt key is the commonest mistake in a job file; naming the right one
 * next to it saves a look into the documentation. */
#include "throughline/config.h"

#include <string.h>

/* Longer words are no misspelt option names; the bound keeps the row on the stack. */
#define WORD_MAX 128u
#define FARTHEST 3u

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Levenshtein's distance with one row; `b` is shorter than WORD_MAX. */
static size_t distance(const char *a, const char *b) {
    size_t row[WORD_MAX + 1u];
    const size_t width = strlen(b);
    for (size_t j = 0; j <= width; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= width; j++) {
            const size_t above = row[j];
            const size_t swap = diagonal + (a[i - 1] == b[j - 1] ? 0u : 1u);
            row[j] = least(swap, least(above, row[j - 1]) + 1u);
            diagonal = above;
        }
    }
    return row[width];
}

const char *tl_nearest(const char *word, const char *const *names, size_t count) {
    const size_t length = strlen(word);
    if (length >= WORD_MAX) {
        return NULL;
    }
    const char *nearest = NULL;
    size_t best = FARTHEST + 1u;
    for (size_t i = 0; i < count; i++) {
        if (strlen(names[i]) >= WORD_MAX) {
            continue;
        }
        const size_t d = distance(word, names[i]);
        if (d < best && 2u * d < length) {
            nearest = names[i];
            best = d;
        }
    }
    return nearest;
}
