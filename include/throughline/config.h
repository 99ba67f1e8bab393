/* config.h - one table of options: parses, checks, documents.
 *
 * An option "optimizer.learning_rate" is the JSON path in a file, the flag
 * --optimizer-learning-rate, and the variable THROUGHLINE_OPTIMIZER_LEARNING_RATE.
 * Order of precedence: flag, environment, file, default. Strings marked secret may be
 * given as the path of a file that holds them ("name_file", --name-file, NAME_FILE),
 * have no plain flag, and are never printed. An unknown key or flag is an error that
 * names the nearest right one.
 *
 * Thread: main thread, at start. */
#ifndef THROUGHLINE_CONFIG_H
#define THROUGHLINE_CONFIG_H

#include "throughline/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Room for a path or a URL, its end included. */
#define TL_PATH_MAX 1024u

enum tl_option_type {
    TL_OPT_BOOL,   /* bool */
    TL_OPT_U32,    /* uint32_t */
    TL_OPT_U64,    /* uint64_t */
    TL_OPT_DOUBLE, /* double */
    TL_OPT_STRING, /* char[size] in place */
    TL_OPT_CHOICE, /* int: index in choices */
    TL_OPT_JSON,   /* json_t *, owned by the target; a string in a file is a path to a
                      JSON file, relative to it. No flag; as text: a path. */
};

struct tl_option {
    const char *name;
    enum tl_option_type type;
    size_t offset;              /* of the field in the target structure */
    size_t size;                /* TL_OPT_STRING: of the field */
    size_t source;              /* TL_OPT_JSON: offset of a char[TL_PATH_MAX] that gets
                                   where it stood, for errors in it; 0: none */
    const char *fallback;       /* default, as text; NULL: required, and then an empty
                                   string, no JSON or the number 0 is no value */
    double min, max;            /* numbers, inclusive; both 0: all of the type, whole
                                   numbers up to 2^53 */
    const char *const *choices; /* NULL-terminated */
    const char *unit;           /* "ms", "updates", ... or NULL */
    const char *doc;            /* one sentence */
    bool secret;
    bool url;  /* STRING: may hold a password, and is then refused on a command line: it
                  comes from a file ("name_file", as for secrets) or a variable */
    bool path; /* STRING: a relative path in a file is relative to that file */
};

struct tl_option_table {
    const struct tl_option *options;
    size_t count;
};

/* Fill `target` with the defaults; required ones are left empty. */
TL_MUST_USE int tl_config_defaults(const struct tl_option_table *t, void *target);
/* Overlay a JSON object; `where` is its file's name. TL_E_CONFIG: one line with file,
 * key, what is wrong, what is right. */
TL_MUST_USE int tl_config_json(const struct tl_option_table *t, void *target,
                               const json_t *object, const char *where);
/* Overlay THROUGHLINE_* variables. An empty one counts as unset; one that is in no
 * table is ignored (Kubernetes makes such variables for the services of a release). */
TL_MUST_USE int tl_config_environment(const struct tl_option_table *t, void *target);
/* Take the table's variables out of this process's environment, but for the secrets of
 * `target`, which are put there: a parent that has written what it resolved to a file,
 * where no secret goes, does so before it starts children that read it. */
TL_MUST_USE int tl_config_environment_replace(const struct tl_option_table *t,
                                              const void *target);
/* Overlay the flag at argv[0] ("--name=value", or "--name" "value"; booleans "--name",
 * "--no-name" or "--name=value"). Returns how many argv entries were taken (1 or 2), 0
 * when the flag is not in the table, or a negative error. */
TL_MUST_USE int tl_config_flag(const struct tl_option_table *t, void *target, int argc,
                               char *const *argv);
/* Set one option from text. */
TL_MUST_USE int tl_config_set(const struct tl_option_table *t, void *target,
                              const char *name, const char *value, const char *where);
/* Every required option has a value? TL_E_CONFIG names the first that has none. */
TL_MUST_USE int tl_config_complete(const struct tl_option_table *t, const void *target);
/* The target as nested JSON objects that tl_config_json() reads back the same, secrets
 * left out. New reference; NULL on no memory. */
json_t *tl_config_dump(const struct tl_option_table *t, const void *target);
/* Free what TL_OPT_JSON fields own. */
void tl_config_done(const struct tl_option_table *t, void *target);

/* --help text, and rows of docs/configuration.md. */
void tl_config_help(const struct tl_option_table *t, FILE *out);
void tl_config_markdown(const struct tl_option_table *t, FILE *out);
/* The flags, one a line, for shell completion. */
void tl_config_flags(const struct tl_option_table *t, FILE *out);

/* Does a URL hold a password ("redis://user:password@host")? And the URL for people to
 * see, with "***" for who and the password. */
bool tl_url_has_password(const char *url);
void tl_url_show(const char *url, char *ret_text, size_t size);

/* Of `count` names the one nearest to `word` (Levenshtein, at most 3 and less than half
 * its length), or NULL. */
const char *tl_nearest(const char *word, const char *const *names, size_t count);

/* JSON text without duplicate keys. What is no JSON is `code`: "where:line:column: not
 * JSON: why". TL_E_NOMEM */
TL_MUST_USE int tl_json_parse(const char *bytes, size_t size, const char *where,
                              int code, json_t **ret_json);
/* Is there memory for what a text of so many bytes becomes? Jansson does not tell a
 * want of it from bad text, nor always notices. */
bool tl_json_has_room(size_t size);

/* A JSON file (object or array) of at most 16 MiB, without duplicate keys.
 * TL_E_CONFIG: file, line, column. */
TL_MUST_USE int tl_json_load(const char *path, json_t **ret_json);

#endif
