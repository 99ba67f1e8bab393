/* fault_proxy.h - a bad network between two programs of a test.
 *
 * Listens on loopback (or on a Unix socket), and relays every connection to one server,
 * in threads of its own. What happens to the bytes is the test's to say, at any time;
 * it holds for the connections that are open and for those that come.
 *
 *   struct fault_proxy *proxy = fault_proxy_start(NULL, "tcp://127.0.0.1:6379");
 *   ... let the client talk to fault_proxy_address(proxy) ...
 *   fault_proxy_set(proxy, &(struct fault){.kind = FAULT_STALL});   (a partition)
 *   assert_soon(...);
 *   fault_proxy_set(proxy, NULL);                                   (it has healed)
 *   assert_true(fault_proxy_fired(proxy) > 0);                      (it did happen)
 *   fault_proxy_stop(proxy);
 *
 * A failure of the proxy itself fails the test that called it. */
#ifndef TEST_FAULT_PROXY_H
#define TEST_FAULT_PROXY_H

#include <stdint.h>

enum fault_kind {
    FAULT_NONE,      /* pass everything on */
    FAULT_DELAY,     /* each piece is `amount` ms late */
    FAULT_THROTTLE,  /* `amount` bytes per second */
    FAULT_STALL,     /* nothing moves, not even an end; nothing is lost. In both
                        directions: a partition, until it heals */
    FAULT_HALF_OPEN, /* the server's end is closed, the client's stays open and silent
                      */
    FAULT_RESET,     /* both ends are reset, as when a host has rebooted */
    FAULT_TRUNCATE, /* both ends are closed in order, in the middle of what they said */
    FAULT_FLIP,     /* one bit is another one */
    FAULT_ANSWER,   /* the client gets `answer` instead of the server's reply */
    FAULT_REFUSE,   /* new connections are closed as soon as they are made */
};

enum fault_direction {
    FAULT_BOTH = 0,
    FAULT_REQUESTS = 1, /* only bytes from client to server */
    FAULT_REPLIES = 2,  /* only bytes from server to client */
};

struct fault {
    enum fault_kind kind;
    enum fault_direction
        direction;      /* DELAY, THROTTLE, STALL, and where `after` counts */
    uint64_t amount;    /* DELAY: ms; THROTTLE: bytes per second */
    uint64_t after;     /* HALF_OPEN, RESET, TRUNCATE, FLIP: once so many bytes of a
                           connection have passed since the fault was set; 0: at once */
    uint64_t times;     /* those, ANSWER and REFUSE: so often, then pass; 0: always */
    const char *answer; /* ANSWER: borrowed until the next fault is set */
};

struct fault_proxy;

/* `listen`: "unix:///path", or NULL for a free TCP port of 127.0.0.1. `server`:
 * "tcp://127.0.0.1:port" or "unix:///path"; it need not be up yet. */
struct fault_proxy *fault_proxy_start(const char *listen, const char *server);
void fault_proxy_stop(struct fault_proxy *p); /* NULL is legal */

/* As `listen` is written, with the port; and the port alone, 0 on a Unix socket. */
const char *fault_proxy_address(const struct fault_proxy *p);
unsigned fault_proxy_port(const struct fault_proxy *p);

/* NULL: none. In force when this returns. */
void fault_proxy_set(struct fault_proxy *p, const struct fault *fault);
/* Another server behind it, for connections that come. */
void fault_proxy_redirect(struct fault_proxy *p, const char *server);

/* How often the present fault (or the last one, when it was taken away) has struck a
 * connection. */
uint64_t fault_proxy_fired(struct fault_proxy *p);
/* Connections accepted since the start, and open now. */
uint64_t fault_proxy_connections(struct fault_proxy *p);
uint64_t fault_proxy_open(struct fault_proxy *p);

#endif
