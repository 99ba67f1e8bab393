/* secret.c - `throughline secret`: a job's secret, or the key of one role, into a file.
 *
 * Never onto the terminal or the command line, where others can read them. */
#include "secret.h"

#include "throughline/service.h"

#include "cli.h"
#include "flags.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const role_names[] = {"none",    "replica", "worker", "checkpointer",
                                         "monitor", "cli",     NULL};
static const enum tl_role roles[] = {
    0,          TL_ROLE_REPLICA, TL_ROLE_WORKER, TL_ROLE_CHECKPOINTER, TL_ROLE_MONITOR,
    TL_ROLE_CLI};

struct options {
    int role;
    char from[TL_PATH_MAX];
};

static const struct tl_option rows[] = {
    {.name = "role",
     .type = TL_OPT_CHOICE,
     .offset = offsetof(struct options, role),
     .fallback = "none",
     .choices = role_names,
     .doc = "Make the key of this role, from the job's secret: whoever has it alone "
            "cannot claim another role. Servers need the job's secret."},
    {.name = "from",
     .type = TL_OPT_STRING,
     .offset = offsetof(struct options, from),
     .size = sizeof(((struct options *)0)->from),
     .fallback = "",
     .doc = "With --role: the file with the job's secret."},
};
static const struct tl_option_table table = {rows, sizeof(rows) / sizeof(rows[0])};

void tl_secret_flags(FILE *out) {
    tl_config_flags(&table, out);
}

/* A file that is not there yet, and that only this user may read. */
static int write_private(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return tl_fail(TL_E_CONFIG, "%s cannot be made: %s", path, strerror(errno));
    }
    const size_t size = strlen(text);
    bool written = write(fd, text, size) == (ssize_t)size && fsync(fd) == 0;
    int error = errno;
    if (close(fd) != 0 || !written) {
        (void)unlink(path);
        return tl_fail(TL_E_IO, "%s cannot be written: %s", path, strerror(error));
    }
    return 0;
}

int tl_secret_make(const char *path) {
    uint8_t bytes[TL_NONCE_BYTES];
    char text[2 * sizeof(bytes) + 2];
    tl_nonce(bytes);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
    text[sizeof(text) - 2] = '\n';
    text[sizeof(text) - 1] = '\0';
    int rc = write_private(path, text);
    explicit_bzero(bytes, sizeof(bytes));
    explicit_bzero(text, sizeof(text));
    return rc;
}

static int make_role_key(const struct options *options, const char *path) {
    struct tl_secret job;
    struct tl_secret key;
    char text[TL_ROLE_KEY_MAX];
    if (options->from[0] == '\0') {
        return tl_fail(TL_E_CONFIG, "--role needs --from, the job's secret");
    }
    int rc = tl_secret_read(options->from, &job);
    rc = rc == 0 ? tl_secret_for(&job, roles[options->role], &key) : rc;
    if (rc != 0) {
        return rc;
    }
    tl_secret_print(&key, text);
    rc = write_private(path, text);
    explicit_bzero(text, sizeof(text));
    tl_secret_clear(&key);
    tl_secret_clear(&job);
    return rc;
}

static int read_arguments(int argc, char **argv, struct options *options,
                          const char **ret_path) {
    const struct tl_flag_target target = {&table, options};
    int rc = tl_config_defaults(&table, options);
    *ret_path = NULL;
    for (int i = 1; i < argc && rc == 0;) {
        int taken = tl_flags_take(&target, 1, NULL, argc - i, argv + i);
        rc = taken < 0 ? taken : 0;
        if (taken == 0 && *ret_path) {
            rc = tl_fail(TL_E_CONFIG, "two files: %s and %s", *ret_path, argv[i]);
        } else if (taken == 0) {
            *ret_path = argv[i];
            taken = 1;
        }
        i += taken;
    }
    return rc == 0 && !*ret_path
               ? tl_fail(TL_E_CONFIG, "which file? throughline secret FILE; see --help")
               : rc;
}

int tl_cli_secret(int argc, char **argv) {
    struct options options;
    const char *path;
    if (tl_flags_want_help(argc, argv)) {
        (void)puts(
            "usage: throughline secret FILE [--role ROLE --from SECRET]\n\n"
            "Writes a new secret of a job to FILE, which only you may read. Give "
            "it to the\nservers, and to everybody else or a role's key instead, "
            "as --secret-file.\n");
        tl_config_help(&table, stdout);
        return TL_EXIT_OK;
    }
    int rc = read_arguments(argc, argv, &options, &path);
    if (rc == 0 && path) {
        rc = options.role == 0 ? tl_secret_make(path) : make_role_key(&options, path);
    }
    return rc == 0 ? TL_EXIT_OK : tl_flags_fail("secret", rc);
}
