/* logline.c - one event, one line, one write().
 *
 * Several processes share a terminal or a file: a line that is written in one
 * piece is never torn by another's. */
#include "throughline/service.h"

#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES  4096u
#define VALUE_MAX_BYTES 1024u
#define FIELDS_MAX      8u
#define FIELD_MAX_BYTES 64u
#define RING            32u
#define RING_TEXT       32u

struct field {
    char key[FIELD_MAX_BYTES];
    char value[FIELD_MAX_BYTES];
};

/* Guarded by `lock` once threads exist; format and level are set before. */
static struct {
    pthread_mutex_t lock;
    bool json;
    enum tl_level level;
    char service[FIELD_MAX_BYTES], job[FIELD_MAX_BYTES], run[FIELD_MAX_BYTES];
    uint32_t index;
    struct field fields[FIELDS_MAX];
    size_t field_count;
} log_state = {.lock = PTHREAD_MUTEX_INITIALIZER, .level = TL_INFO};

/* ---- numbers -------------------------------------------------------------------- */

static _Thread_local char ring[RING][RING_TEXT];
static _Thread_local unsigned ring_next;

static char *ring_slot(void) {
    return ring[ring_next++ % RING];
}

/* A text from the ring is a number, and stays one in JSON. */
static bool is_number(const char *value) {
    return (uintptr_t)value - (uintptr_t)ring[0] < sizeof(ring);
}

const char *tl_text_u64(uint64_t v) {
    char *text = ring_slot();
    (void)snprintf(text, RING_TEXT, "%llu", (unsigned long long)v);
    return text;
}

const char *tl_text_i64(int64_t v) {
    char *text = ring_slot();
    (void)snprintf(text, RING_TEXT, "%lld", (long long)v);
    return text;
}

/* Beyond what a slot holds in full, the exponent form is the readable one. */
const char *tl_text_double(double v, int decimals) {
    char *text = ring_slot();
    const int places = decimals < 0 ? 0 : decimals > 12 ? 12 : decimals;
    (void)snprintf(text, RING_TEXT, fabs(v) < 1e15 ? "%.*f" : "%.*e", places, v);
    return text;
}

/* ---- the line ------------------------------------------------------------------- */

/* A line under construction: logfmt text, or a JSON object. */
struct line {
    char text[LINE_MAX_BYTES];
    size_t size;
    json_t *object;
};

static void put_char(struct line *l, char c) {
    if (l->size < sizeof(l->text) - 1) { /* the last byte is the newline's */
        l->text[l->size++] = c;
    }
}

static void put_text(struct line *l, const char *text) {
    for (; *text != '\0'; text++) {
        put_char(l, *text);
    }
}

static void put_escaped(struct line *l, unsigned char c) {
    char code[8];
    if (c == '"' || c == '\\') {
        put_char(l, '\\');
        put_char(l, (char)c);
    } else if (c == '\n') {
        put_text(l, "\\n");
    } else if (c < 0x20 || c == 0x7f) {
        (void)snprintf(code, sizeof(code), "\\x%02x", c);
        put_text(l, code);
    } else {
        put_char(l, (char)c);
    }
}

static bool is_bare(const char *value) {
    if (value[0] == '\0') {
        return false;
    }
    for (; *value != '\0'; value++) {
        const unsigned char c = (unsigned char)*value;
        if (c <= 0x20 || c == 0x7f || c == '"' || c == '=' || c == '\\') {
            return false;
        }
    }
    return true;
}

static void put_value(struct line *l, const char *value) {
    if (is_bare(value)) {
        put_text(l, value);
        return;
    }
    put_char(l, '"');
    for (; *value != '\0'; value++) {
        put_escaped(l, (unsigned char)*value);
    }
    put_char(l, '"');
}

/* A pair that does not fit is left out whole: half a quotation would spoil the line. */
static void put_logfmt(struct line *l, const char *key, const char *value) {
    const size_t before = l->size;
    if (before > 0) {
        put_char(l, ' ');
    }
    put_text(l, key);
    put_char(l, '=');
    put_value(l, value);
    if (l->size == sizeof(l->text) - 1) {
        l->size = before;
    }
}

/* Foreign text may not be UTF-8, which JSON must be: then its ASCII is kept. */
static json_t *json_text(const char *value) {
    json_t *text = json_string(value);
    if (text != NULL) {
        return text;
    }
    char ascii[VALUE_MAX_BYTES];
    (void)snprintf(ascii, sizeof(ascii), "%s", value);
    for (char *c = ascii; *c != '\0'; c++) {
        *c = (unsigned char)*c < 0x80 ? *c : '?';
    }
    return json_string(ascii);
}

static void put_json(struct line *l, const char *key, const char *value) {
    json_t *v = is_number(value) ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    (void)json_object_set_new(l->object, key, v != NULL ? v : json_text(value));
}

static void put(struct line *l, const char *key, const char *value) {
    char cut[VALUE_MAX_BYTES];
    if (strlen(value) >= sizeof(cut)) {
        (void)snprintf(cut, sizeof(cut), "%.*s...", (int)sizeof(cut) - 4, value);
        value = cut;
    }
    if (l->object != NULL) {
        put_json(l, key, value);
    } else {
        put_logfmt(l, key, value);
    }
}

static void put_head(struct line *l, enum tl_level level, const char *message) {
    static const char *const levels[] = {"debug", "info", "warning", "error"};
    char when[40];
    struct tm tm;
    const uint64_t ms = tl_unix_ms();
    const time_t second = (time_t)(ms / 1000);
    (void)gmtime_r(&second, &tm);
    const size_t n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(when + n, sizeof(when) - n, ".%03uZ", (unsigned)(ms % 1000));
    put(l, "time", when);
    put(l, "level", levels[level]);
    put(l, "service", log_state.service);
    put(l, "job", log_state.job);
    put(l, "run", log_state.run);
    put(l, "index", tl_text_u64(log_state.index));
    for (size_t i = 0; i < log_state.field_count; i++) {
        put(l, log_state.fields[i].key, log_state.fields[i].value);
    }
    put(l, "msg", message);
}

/* The values were cut, the keys are ours: only a very long list of pairs fails to fit,
 * and is then left out of the JSON line rather than breaking it. */
static void finish_json(struct line *l, enum tl_level level, const char *message) {
    size_t n = json_dumpb(l->object, l->text, sizeof(l->text) - 1, JSON_COMPACT);
    if (n == 0 || n >= sizeof(l->text)) {
        (void)json_object_clear(l->object);
        put_head(l, level, message);
        n = json_dumpb(l->object, l->text, sizeof(l->text) - 1, JSON_COMPACT);
    }
    l->size = n < sizeof(l->text) ? n : 0;
    json_decref(l->object);
}

static void write_line(struct line *l) {
    l->text[l->size++] = '\n';
    /* There is nowhere to report that the report was lost. */
    ssize_t n = write(STDERR_FILENO, l->text, l->size);
    (void)n;
}

void tl_log_line(enum tl_level level, const char *message, ...) {
    if (level < log_state.level) {
        return;
    }
    struct line l = {.size = 0, .object = log_state.json ? json_object() : NULL};
    (void)pthread_mutex_lock(&log_state.lock);
    put_head(&l, level, message);
    va_list pairs;
    va_start(pairs, message);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): as in error.c */
    for (const char *key = va_arg(pairs, const char *); key != NULL;
         key = va_arg(pairs, const char *)) {
        const char *value = va_arg(pairs, const char *);
        put(&l, key, value != NULL ? value : "");
    }
    va_end(pairs);
    if (l.object != NULL) {
        finish_json(&l, level, message);
    }
    write_line(&l);
    (void)pthread_mutex_unlock(&log_state.lock);
}

/* ---- setup ---------------------------------------------------------------------- */

static void copy(char to[FIELD_MAX_BYTES], const char *from) {
    (void)snprintf(to, FIELD_MAX_BYTES, "%s", from);
}

void tl_log_setup(const char *service, const char *job, const char *run, uint32_t index,
                  int format, int level) {
    (void)pthread_mutex_lock(&log_state.lock);
    copy(log_state.service, service);
    copy(log_state.job, job);
    copy(log_state.run, run);
    log_state.index = index;
    log_state.json = format == 1;
    log_state.level = (enum tl_level)level;
    (void)pthread_mutex_unlock(&log_state.lock);
}

void tl_log_field(const char *key, const char *value) {
    (void)pthread_mutex_lock(&log_state.lock);
    size_t i = 0;
    while (i < log_state.field_count && strcmp(log_state.fields[i].key, key) != 0) {
        i++;
    }
    if (i < FIELDS_MAX) {
        copy(log_state.fields[i].key, key);
        copy(log_state.fields[i].value, value);
        log_state.field_count += i == log_state.field_count;
    }
    (void)pthread_mutex_unlock(&log_state.lock);
}
