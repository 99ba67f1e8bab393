/* kafka.c - `throughline kafka up|down`: a Kafka of one node on this machine.
 *
 * KRaft, without ZooKeeper; it listens on 127.0.0.1 only and keeps its data in a
 * directory, so that it can be stopped, or killed, and come back. For trying out and
 * for tests: one node keeps one copy. */
#include "kafka.h"

#include "throughline/job.h"
#include "throughline/service.h"

#include "cli.h"
#include "flags.h"
#include "programs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define UP_WITHIN_MS   60000
#define DOWN_WITHIN_MS 30000
#define LOOK_MS        50
#define PATH_ROOM      (TL_PATH_MAX + 64)

struct kafka_options {
    char dir[TL_PATH_MAX];
    char jars[TL_PATH_MAX];
    uint32_t port;
    bool foreground;
};

#define FIELD(field)                                                                   \
    .offset = offsetof(struct kafka_options, field),                                   \
    .size = sizeof(((struct kafka_options *)0)->field)

static const struct tl_option rows[] = {
    {.name = "dir",
     .type = TL_OPT_STRING,
     FIELD(dir),
     .fallback = "",
     .doc = "Directory of its data, settings and log; by default kafka below the cache "
            "directory."},
    {.name = "port",
     .type = TL_OPT_U32,
     FIELD(port),
     .fallback = "9092",
     .min = 1,
     .max = 65534,
     .doc = "up: port on 127.0.0.1; the controller takes the next one."},
    {.name = "foreground",
     .type = TL_OPT_BOOL,
     FIELD(foreground),
     .fallback = "false",
     .doc = "up: become Kafka, instead of starting it and coming back."},
    {.name = "jars",
     .type = TL_OPT_STRING,
     FIELD(jars),
     .fallback = "",
     .doc = "Directory of Kafka's jars, where \"scripts/bootstrap kafka\" puts them by "
            "default."},
};
const struct tl_option_table tl_kafka_table = {rows, sizeof(rows) / sizeof(rows[0])};

/* ---- where things are ----------------------------------------------------------- */

static int cache_path(const char *below, char ret_path[TL_PATH_MAX]) {
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int n = cache != NULL && cache[0] != '\0'
                ? snprintf(ret_path, TL_PATH_MAX, "%s/throughline/%s", cache, below)
                : snprintf(ret_path, TL_PATH_MAX, "%s/.cache/throughline/%s",
                           home != NULL ? home : "", below);
    return n < (int)TL_PATH_MAX - 64
               ? 0
               : tl_fail(TL_E_CONFIG, "the cache directory's path is too long");
}

/* Where scripts/jars put them: in a directory whose name depends on their list. */
static int find_jars(char ret_path[TL_PATH_MAX]) {
    char pattern[TL_PATH_MAX];
    glob_t found;
    int rc = cache_path("jars/kafka-*/kafka_2.13-*.jar", pattern);
    if (rc != 0) {
        return rc;
    }
    if (glob(pattern, 0, NULL, &found) != 0) {
        return tl_fail(TL_E_CONFIG,
                       "Kafka's jars are not there (%s): \"scripts/"
                       "bootstrap kafka\" fetches them",
                       pattern);
    }
    (void)snprintf(ret_path, TL_PATH_MAX, "%s", found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
    *strrchr(ret_path, '/') = '\0';
    return 0;
}

static int complete(struct kafka_options *o) {
    int rc = o->dir[0] == '\0' ? cache_path("kafka", o->dir) : 0;
    if (rc == 0 && o->jars[0] == '\0') {
        rc = find_jars(o->jars);
    }
    if (rc == 0 && o->dir[0] != '/') {
        return tl_fail(TL_E_CONFIG, "--dir %s: right is an absolute path", o->dir);
    }
    return rc;
}

static void file_in(const struct kafka_options *o, const char *name,
                    char ret_path[PATH_ROOM]) {
    (void)snprintf(ret_path, PATH_ROOM, "%s/%s", o->dir, name);
}

static int make_directory(const char *path) {
    char part[TL_PATH_MAX];
    (void)snprintf(part, sizeof(part), "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(part, 0777);
        *slash = '/';
    }
    return mkdir(part, 0700) == 0 || errno == EEXIST
               ? 0
               : tl_fail(TL_E_CONFIG, "--dir %s cannot be made: %s", path,
                         strerror(errno));
}

/* ---- settings -------------------------------------------------------------------- */

static int write_settings(const struct kafka_options *o) {
    char path[PATH_ROOM];
    file_in(o, "server.properties", path);
    FILE *f = fopen(path, "we");
    if (f == NULL) {
        return tl_fail(TL_E_CONFIG, "%s: %s", path, strerror(errno));
    }
    uint32_t controller = o->port + 1;
    (void)fprintf(f,
                  "process.roles=broker,controller\n"
                  "node.id=1\n"
                  "controller.quorum.voters=1@127.0.0.1:%" PRIu32 "\n"
                  "listeners=PLAINTEXT://127.0.0.1:%" PRIu32
                  ",CONTROLLER://127.0.0.1:%" PRIu32 "\n"
                  "advertised.listeners=PLAINTEXT://127.0.0.1:%" PRIu32 "\n"
                  "controller.listener.names=CONTROLLER\n"
                  "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,"
                  "CONTROLLER:PLAINTEXT\n"
                  "log.dirs=%s/data\n"
                  "auto.create.topics.enable=false\n"
                  "offsets.topic.replication.factor=1\n"
                  "transaction.state.log.replication.factor=1\n"
                  "transaction.state.log.min.isr=1\n"
                  "default.replication.factor=1\n"
                  "log.cleaner.enable=false\n"
                  "socket.request.max.bytes=209715200\n"
                  "broker.heartbeat.interval.ms=500\n"
                  "initial.broker.registration.timeout.ms=30000\n",
                  controller, o->port, controller, o->port, o->dir);
    char extra[PATH_ROOM];
    file_in(o, "extra.properties", extra); /* of its user's, stronger */
    FILE *more = fopen(extra, "re");
    char line[1024];
    while (more != NULL && fgets(line, sizeof(line), more) != NULL) {
        (void)fputs(line, f);
    }
    if (more != NULL) {
        (void)fclose(more);
    }
    return fclose(f) == 0 ? 0 : tl_fail(TL_E_IO, "%s: %s", path, strerror(errno));
}

/* ---- Java -------------------------------------------------------------------------
 */

static int find_java(const struct kafka_options *o, char ret_java[TL_PATH_MAX]) {
    if (!tl_program_in_path("java", ret_java, TL_PATH_MAX)) {
        return tl_fail(TL_E_CONFIG, "java was not found in PATH: \"scripts/bootstrap "
                                    "kafka\" installs it");
    }
    return access(o->jars, R_OK | X_OK) == 0
               ? 0
               : tl_fail(TL_E_CONFIG,
                         "Kafka's jars are not in %s: \"scripts/bootstrap kafka\" "
                         "fetches them",
                         o->jars);
}

/* Become Java running `main`; arguments end with NULL. */
static _Noreturn void become_java(const struct kafka_options *o, const char *java,
                                  const char *heap, const char *main_class,
                                  char *const *arguments) {
    char classes[PATH_ROOM];
    (void)snprintf(classes, sizeof(classes), "%s/*", o->jars);
    char *argv[24] = {(char *)java, (char *)heap, "-XX:+UseSerialGC",
                      "-cp",        classes,      (char *)main_class};
    size_t n = 6;
    while (*arguments != NULL && n < 23) {
        argv[n++] = *arguments++;
    }
    argv[n] = NULL;
    (void)execv(java, argv);
    _exit(127);
}

/* stdout and stderr of this process go to the log from here on. */
static void speak_to_log(const struct kafka_options *o) {
    char path[PATH_ROOM];
    file_in(o, "kafka.log", path);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)dup2(fd, STDOUT_FILENO);
        (void)dup2(fd, STDERR_FILENO);
    }
}

/* Make the data directory a Kafka's own; one that is so already stays. */
static int format(const struct kafka_options *o, const char *java) {
    char meta[PATH_ROOM];
    char settings[PATH_ROOM];
    file_in(o, "data/meta.properties", meta);
    if (access(meta, F_OK) == 0) {
        return 0;
    }
    file_in(o, "server.properties", settings);
    pid_t pid = fork();
    if (pid == 0) {
        char *const arguments[] = {"format", "-t",     "dGhyb3VnaGxpbmUtbG9nLQ",
                                   "-c",     settings, NULL};
        speak_to_log(o);
        become_java(o, java, "-Xmx128m", "kafka.tools.StorageTool", arguments);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
        return tl_fail(TL_E_IO,
                       "Kafka's data directory cannot be formatted: see %s/"
                       "kafka.log",
                       o->dir);
    }
    return 0;
}

static _Noreturn void become_kafka(const struct kafka_options *o, const char *java) {
    char settings[PATH_ROOM];
    file_in(o, "server.properties", settings);
    char *const arguments[] = {settings, NULL};
    speak_to_log(o);
    become_java(o, java, "-Xmx512m", "kafka.Kafka", arguments);
}

/* ---- up ----------------------------------------------------------------------------
 */

static bool answers(uint32_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected =
        fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return connected;
}

static int write_pid(const struct kafka_options *o, pid_t pid) {
    char path[PATH_ROOM];
    file_in(o, "kafka.pid", path);
    FILE *f = fopen(path, "we");
    if (f == NULL || fprintf(f, "%d\n", (int)pid) < 0 || fclose(f) != 0) {
        return tl_fail(TL_E_IO, "%s: %s", path, strerror(errno));
    }
    return 0;
}

/* Until it takes connections; `pid` must not end before. */
static int wait_up(const struct kafka_options *o, pid_t pid) {
    int64_t deadline_ms = tl_now_ms() + UP_WITHIN_MS;
    while (!answers(o->port)) {
        if (waitpid(pid, NULL, WNOHANG) != 0) {
            return tl_fail(TL_E_IO, "Kafka did not start: see %s/kafka.log", o->dir);
        }
        if (tl_now_ms() >= deadline_ms) {
            (void)kill(pid, SIGKILL);
            return tl_fail(TL_E_TIMEOUT,
                           "Kafka takes no connections after %d s: see "
                           "%s/kafka.log",
                           UP_WITHIN_MS / 1000, o->dir);
        }
        (void)usleep(LOOK_MS * 1000);
    }
    return 0;
}

static int start(const struct kafka_options *o, const char *java) {
    pid_t pid = fork();
    if (pid == 0) {
        (void)setsid();
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        (void)dup2(null, STDIN_FILENO);
        become_kafka(o, java);
    }
    if (pid < 0) {
        return tl_fail(TL_E_IO, "fork: %s", strerror(errno));
    }
    int rc = write_pid(o, pid);
    rc = rc == 0 ? wait_up(o, pid) : rc;
    if (rc == 0) {
        (void)printf("Kafka is up: --log kafka://127.0.0.1:%" PRIu32 "\n"
                     "data and log in %s; throughline kafka down stops it\n",
                     o->port, o->dir);
    }
    return rc;
}

static int up(const struct kafka_options *o) {
    char java[TL_PATH_MAX];
    int rc = find_java(o, java);
    if (rc == 0 && answers(o->port)) {
        rc = tl_fail(TL_E_CONFIG,
                     "port %" PRIu32 " is taken: throughline kafka down, or --port",
                     o->port);
    }
    rc = rc == 0 ? make_directory(o->dir) : rc;
    rc = rc == 0 ? write_settings(o) : rc;
    rc = rc == 0 ? format(o, java) : rc;
    if (rc == 0 && o->foreground) {
        rc = write_pid(o, getpid());
        if (rc == 0) {
            become_kafka(o, java);
        }
    }
    return rc == 0 ? start(o, java) : rc;
}

/* ---- down --------------------------------------------------------------------------
 */

/* The process of the pid file, if it is still a Kafka of this directory. */
static pid_t find_kafka(const struct kafka_options *o) {
    char path[PATH_ROOM];
    char line[8192] = "";
    int pid = 0;
    file_in(o, "kafka.pid", path);
    FILE *f = fopen(path, "re");
    if (f == NULL || fscanf(f, "%d", &pid) != 1 || pid <= 1) {
        pid = 0;
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    f = pid > 0 ? fopen(path, "re") : NULL;
    size_t n = f != NULL ? fread(line, 1, sizeof(line) - 1, f) : 0;
    if (f != NULL) {
        (void)fclose(f);
    }
    for (size_t i = 0; i < n; i++) {
        line[i] = line[i] == '\0' ? ' ' : line[i];
    }
    return strstr(line, o->dir) != NULL ? pid : 0;
}

static int down(const struct kafka_options *o) {
    pid_t pid = find_kafka(o);
    if (pid == 0) {
        (void)printf("no Kafka of %s is running\n", o->dir);
        return 0;
    }
    int64_t deadline_ms = tl_now_ms() + DOWN_WITHIN_MS;
    (void)kill(pid, SIGTERM);
    while (find_kafka(o) == pid) {
        if (tl_now_ms() >= deadline_ms) {
            (void)kill(pid, SIGKILL);
        }
        (void)usleep(LOOK_MS * 1000);
    }
    (void)puts("Kafka is down");
    return 0;
}

/* ---- arguments ------------------------------------------------------------------- */

static int read_flags(int argc, char **argv, struct kafka_options *o) {
    const struct tl_flag_target target = {&tl_kafka_table, o};
    int rc = tl_config_defaults(&tl_kafka_table, o);
    for (int i = 0; i < argc && rc == 0;) {
        int taken = tl_flags_take(&target, 1, NULL, argc - i, argv + i);
        rc = taken < 0 ? taken : 0;
        if (taken == 0) {
            rc = tl_fail(TL_E_CONFIG, "what is \"%s\"? see --help", argv[i]);
        }
        i += taken;
    }
    return rc == 0 ? complete(o) : rc;
}

int tl_cli_kafka(int argc, char **argv) {
    if (tl_flags_want_help(argc, argv)) {
        (void)puts(
            "usage: throughline kafka up|down\n\n"
            "  up    start a Kafka of one node on this machine (Java is needed)\n"
            "  down  stop it; its data stay\n\n"
            "Broker settings in DIR/extra.properties are taken too.\n");
        tl_config_help(&tl_kafka_table, stdout);
        return TL_EXIT_OK;
    }
    struct kafka_options o;
    bool is_up = argc >= 2 && strcmp(argv[1], "up") == 0;
    bool is_down = argc >= 2 && strcmp(argv[1], "down") == 0;
    int rc = is_up || is_down ? read_flags(argc - 2, argv + 2, &o)
                              : tl_fail(TL_E_CONFIG, "up or down? see --help");
    if (rc == 0) {
        rc = is_up ? up(&o) : down(&o);
    }
    return rc == 0 ? TL_EXIT_OK : tl_flags_fail("kafka", rc);
}
