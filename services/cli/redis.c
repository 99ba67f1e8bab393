/* redis.c - a private Redis for one run.
 *
 * It listens on a Unix socket in a directory that only this user may enter, keeps what
 * it keeps there, and so needs no password, no port and no cleaning up. One that holds
 * the run's log writes every append before it answers: it may be killed like everybody
 * else. What a sync would add, surviving the machine, is of no use to a local run. */
#include "redis.h"

#include "throughline/service.h"

#include "programs.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const int64_t look_every_ms = 10;

static void socket_path(const char *directory, char *ret_path, size_t size) {
    (void)snprintf(ret_path, size, "%s/redis.sock", directory);
}

void tl_redis_url(const char *directory, char *ret_url, size_t size) {
    (void)snprintf(ret_url, size, "unix://%s/redis.sock", directory);
}

int tl_redis_plan(const char *directory, const char *data, struct tl_process *redis) {
    char program[TL_PATH_MAX];
    if (!tl_program_in_path("redis-server", program, sizeof(program)) &&
        !tl_program_in_path("valkey-server", program, sizeof(program))) {
        return tl_fail(
            TL_E_CONFIG,
            "redis-server was not found in PATH: a local run starts its own; "
            "install it (Debian, Ubuntu: apt install redis-server)");
    }
    char path[TL_PATH_MAX];
    socket_path(directory, path, sizeof(path));
    const char *const arguments[] = {
        program, "--port", "0", "--unixsocket", path, "--unixsocketperm", "700",
        "--save", "", "--appendonly", data != NULL ? "yes" : "no", "--appendfsync",
        "no",
        /* Writing its file anew takes a processor
                                        from the job: seldom, and nothing is
                                        compressed, since gradients do not get
                                        smaller by it. */
        "--auto-aof-rewrite-min-size", "1gb", "--rdbcompression", "no", "--dir",
        data != NULL ? data : directory, "--daemonize", "no"};
    int rc = 0;
    for (size_t i = 0; i < sizeof(arguments) / sizeof(arguments[0]) && rc == 0; i++) {
        rc = tl_process_arg(redis, "%s", arguments[i]);
    }
    return rc;
}

bool tl_redis_answers(const char *directory) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socket_path(directory, address.sun_path, sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    bool connected =
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
    (void)close(fd);
    return connected;
}

int tl_redis_wait(const char *directory, struct tl_process *redis, int64_t timeout_ms) {
    int64_t deadline_ms = tl_now_ms() + timeout_ms;
    while (!tl_redis_answers(directory)) {
        char end[64], words[256];
        if (tl_process_reap(redis)) {
            redis->state = TL_PROCESS_DONE;
            tl_process_end_text(redis, end, sizeof(end));
            tl_process_last_words(redis, words, sizeof(words));
            return tl_fail(TL_E_CONFIG, "redis did not start (%s): %s", end, words);
        }
        if (tl_now_ms() >= deadline_ms) {
            return tl_fail(TL_E_TIMEOUT, "redis takes no connections; see %s",
                           redis->log);
        }
        (void)usleep((useconds_t)(look_every_ms * 1000));
    }
    return 0;
}
