/* killspec.c - one "--kill server/1@updates=300,down=5s", read strictly.
 *
 * A drill that is misread tests something else than its author believes, so nothing is
 * guessed: every part must be there, in order, and whole. */
#include "throughline/config.h"
#include "throughline/drill.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A duration of more than a month is a slip of the pen. */
static const double max_seconds = 31.0 * 24 * 3600;

static const char *const target_names[] = {"server",  "worker", "checkpointer",
                                           "monitor", "redis",  "replica",
                                           "head",    "middle", "tail"};

const char *tl_drill_target_name(enum tl_drill_target target) {
    return (size_t)target < COUNT(target_names) ? target_names[target] : "?";
}

static int wrong(const char *text, const char *what) {
    return tl_fail(TL_E_CONFIG,
                   "--kill %s: %s; right is WHO[/N]@WHEN[,down=D], such as "
                   "server@updates=300,down=5s",
                   text, what);
}

/* Digits alone; strtoull() by itself would take signs, blanks and what follows. */
static bool read_count(const char *text, uint64_t *ret_value) {
    if (!isdigit((unsigned char)text[0])) {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0') {
        return false;
    }
    *ret_value = value;
    return true;
}

/* "5", "2.5s" or "500ms". */
static bool read_duration(const char *text, int64_t *ret_ms) {
    if (!isdigit((unsigned char)text[0]) || strchr(text, 'x') || strchr(text, 'X')) {
        return false;
    }
    char *end;
    double value = strtod(text, &end);
    if (strcmp(end, "ms") == 0) {
        value /= 1000;
    } else if (strcmp(end, "s") != 0 && *end != '\0') {
        return false;
    }
    if (!(value <= max_seconds)) {
        return false;
    }
    *ret_ms = (int64_t)(value * 1000 + 0.5);
    return true;
}

static bool is_numbered(enum tl_drill_target target) {
    return target == TL_DRILL_SERVER || target == TL_DRILL_WORKER ||
           target == TL_DRILL_REPLICA || tl_drill_is_place(target);
}

static int read_target(const char *text, char *who, struct tl_drill_kill *kill) {
    char *slash = strchr(who, '/');
    if (slash) {
        *slash = '\0';
    }
    size_t i = 0;
    while (i < COUNT(target_names) && strcmp(who, target_names[i]) != 0) {
        i++;
    }
    if (i == COUNT(target_names)) {
        const char *near = tl_nearest(who, target_names, COUNT(target_names));
        return tl_fail(TL_E_CONFIG, "--kill %s: there is no \"%s\"; %s%s%s", text, who,
                       near ? "did you mean \"" : "right is server, worker, ",
                       near ? near
                            : "checkpointer, monitor, redis, replica, head, middle or "
                              "tail",
                       near ? "\"?" : "");
    }
    kill->target = (enum tl_drill_target)i;
    kill->index = 0;
    if (!slash) {
        return 0;
    }
    if (!is_numbered(kill->target)) {
        return wrong(text, "only servers, workers, replicas and the places of a chain "
                           "have numbers");
    }
    uint64_t index;
    if (!read_count(slash + 1, &index) || index > UINT32_MAX) {
        return wrong(text, "the number after the slash is none");
    }
    kill->index = (uint32_t)index;
    return 0;
}

static int read_trigger(const char *text, const char *when,
                        struct tl_drill_kill *kill) {
    const char *value = strchr(when, '=');
    size_t length = value ? (size_t)(value - when) : strlen(when);
    if (value && length == 7 &&
        (memcmp(when, "updates", 7) == 0 || memcmp(when, "version", 7) == 0)) {
        kill->trigger = TL_DRILL_AT_VERSION;
        return read_count(value + 1, &kill->version)
                   ? 0
                   : wrong(text, "the number of updates is none");
    }
    if (value && length == 7 && memcmp(when, "seconds", 7) == 0) {
        kill->trigger = TL_DRILL_AT_TIME;
        return read_duration(value + 1, &kill->at_ms)
                   ? 0
                   : wrong(text, "the time is none (seconds, or with s or ms)");
    }
    return wrong(text, "WHEN must be updates=N, version=N or seconds=T");
}

static int read_down(const char *text, const char *option, struct tl_drill_kill *kill) {
    if (strncmp(option, "down=", 5) != 0) {
        return wrong(text, "after the comma only down=D may follow");
    }
    if (strcmp(option + 5, "forever") == 0) {
        kill->down_ms = TL_DRILL_FOREVER;
        return 0;
    }
    return read_duration(option + 5, &kill->down_ms)
               ? 0
               : wrong(text, "the down time is none (seconds, s, ms, or forever)");
}

int tl_drill_parse(const char *text, struct tl_drill_kill *ret_kill) {
    struct tl_drill_kill kill = {.down_ms = 0};
    char parts[TL_DRILL_TEXT_MAX];
    if (strlen(text) >= sizeof(parts)) {
        return wrong("...", "it is too long");
    }
    (void)snprintf(kill.text, sizeof(kill.text), "%s", text);
    (void)snprintf(parts, sizeof(parts), "%s", text);
    char *when = strchr(parts, '@');
    if (!when) {
        return wrong(text, "the @ is missing");
    }
    *when++ = '\0';
    char *down = strchr(when, ',');
    if (down) {
        *down++ = '\0';
    }
    int rc = read_target(text, parts, &kill);
    if (rc == 0) {
        rc = read_trigger(text, when, &kill);
    }
    if (rc == 0 && down) {
        rc = read_down(text, down, &kill);
    }
    if (rc == 0) {
        *ret_kill = kill;
    }
    return rc;
}

static uint32_t how_many(enum tl_drill_target target,
                         const struct tl_drill_limits *limits) {
    switch (target) {
    case TL_DRILL_SERVER:
    case TL_DRILL_HEAD:
    case TL_DRILL_MIDDLE:
    case TL_DRILL_TAIL:
        return limits->servers;
    case TL_DRILL_WORKER:
        return limits->workers;
    case TL_DRILL_REPLICA:
        return limits->servers * limits->replicas;
    default:
        return 1;
    }
}

/* Is there such a service in this job? */
static int check_target(const struct tl_drill_kill *kill,
                        const struct tl_drill_limits *limits) {
    if (kill->target == TL_DRILL_CHECKPOINTER && !limits->checkpointer) {
        return tl_fail(TL_E_CONFIG,
                       "--kill %s: this job takes no checkpoints, so no checkpointer "
                       "runs; use --strategy checkpoint",
                       kill->text);
    }
    bool is_replica =
        tl_drill_is_place(kill->target) || kill->target == TL_DRILL_REPLICA;
    if (is_replica != (limits->replicas > 0) &&
        (is_replica || kill->target == TL_DRILL_SERVER)) {
        return tl_fail(TL_E_CONFIG, "--kill %s: %s", kill->text,
                       is_replica
                           ? "this job has no replicas; use --strategy chain or hybrid"
                           : "this job has replicas, and no servers; right is "
                             "head, middle, tail or replica/N");
    }
    if (kill->target == TL_DRILL_MIDDLE && limits->replicas < 3) {
        return tl_fail(TL_E_CONFIG, "--kill %s: a chain of %" PRIu32 " has no middle",
                       kill->text, limits->replicas);
    }
    uint32_t count = how_many(kill->target, limits);
    if (kill->index >= count) {
        return tl_fail(TL_E_CONFIG,
                       "--kill %s: there is no %s/%" PRIu32 "; the job has %" PRIu32
                       ", the last is %s/%" PRIu32,
                       kill->text, tl_drill_target_name(kill->target), kill->index,
                       count, tl_drill_target_name(kill->target), count - 1);
    }
    return 0;
}

int tl_drill_check(const struct tl_drill_kill *kill,
                   const struct tl_drill_limits *limits) {
    int rc = check_target(kill, limits);
    if (rc != 0) {
        return rc;
    }
    if (kill->trigger == TL_DRILL_AT_VERSION && limits->until_updates > 0 &&
        kill->version >= limits->until_updates) {
        return tl_fail(TL_E_CONFIG,
                       "--kill %s can never happen: the job ends at %" PRIu64
                       " updates",
                       kill->text, limits->until_updates);
    }
    if (kill->trigger == TL_DRILL_AT_TIME && limits->until_seconds > 0 &&
        (double)kill->at_ms >= limits->until_seconds * 1000) {
        return tl_fail(TL_E_CONFIG,
                       "--kill %s can never happen: the job ends after %g seconds",
                       kill->text, limits->until_seconds);
    }
    return 0;
}
