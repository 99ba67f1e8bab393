/* option.h - one option: from text, from JSON, to JSON; inside base/ only.
 *
 * A label says where a value came from, as its author wrote it: `--batch`,
 * `THROUGHLINE_BATCH`, `fashion.json: "batch"`. Errors start with it. */
#ifndef TL_BASE_OPTION_H
#define TL_BASE_OPTION_H

#include "throughline/config.h"

#define TL_LABEL_MAX    256u
#define TL_VARIABLE_MAX 128u

/* Where the table says that the option's field is. */
static inline void *tl_option_field(const struct tl_option *o, void *target) {
    return (char *)target + o->offset;
}
static inline const void *tl_option_value(const struct tl_option *o,
                                          const void *target) {
    return (const char *)target + o->offset;
}

/* The option called `name`, or NULL. */
const struct tl_option *tl_option_find(const struct tl_option_table *t,
                                       const char *name);

/* "a whole number from 1 to 64": what a value must be. */
void tl_option_describe(const struct tl_option *o, char *buffer, size_t size);

/* Set from text. TL_E_CONFIG: label, what is right, what was given. */
TL_MUST_USE int tl_option_parse(const struct tl_option *o, void *target,
                                const char *text, const char *label);
/* Set from JSON; `file` is where relative paths start. */
TL_MUST_USE int tl_option_take(const struct tl_option *o, void *target, json_t *value,
                               const char *label, const char *file);
/* Set a secret from the file that holds it. */
TL_MUST_USE int tl_option_read_secret(const struct tl_option *o, void *target,
                                      const char *path, const char *label);
/* Number setters, shared by text and JSON; `shown` is the value as given. */
TL_MUST_USE int tl_option_set_whole(const struct tl_option *o, void *target, uint64_t v,
                                    const char *label, const char *shown);
TL_MUST_USE int tl_option_set_double(const struct tl_option *o, void *target, double v,
                                     const char *label, const char *shown);
TL_MUST_USE int tl_option_set_string(const struct tl_option *o, void *target,
                                     const char *text, const char *label);
/* The TL_E_CONFIG of a value that `o` cannot take. */
int tl_option_refuse(const struct tl_option *o, const char *label, const char *shown);

/* New reference; NULL when there is nothing to write (an absent JSON value). */
json_t *tl_option_json(const struct tl_option *o, const void *target);
/* Required, and still without a value? */
bool tl_option_missing(const struct tl_option *o, const void *target);

/* `path`, or, when it is relative, `path` beside `file`. TL_E_TOOBIG. */
TL_MUST_USE int tl_path_beside(const char *file, const char *path, char *buffer,
                               size_t size);

/* Spellings of a name: "a.b_c" is --a-b-c and THROUGHLINE_A_B_C. */
void tl_flag_spell(const char *name, char *buffer, size_t size);
void tl_variable_spell(const char *name, char *buffer, size_t size);

#endif
