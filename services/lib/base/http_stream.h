/* http_stream.h - server-sent events to viewers; inside base/ only. */
#ifndef TL_BASE_HTTP_STREAM_H
#define TL_BASE_HTTP_STREAM_H

#include "throughline/service.h"

#include <microhttpd.h>
#include <pthread.h>

#define TL_VIEWERS_MAX 32u

struct tl_viewer;

/* Everybody who looks on. */
struct tl_viewers {
    const struct tl_http_site *site;
    pthread_mutex_t lock;
    struct tl_viewer *slots[TL_VIEWERS_MAX];
    bool stopping;
};

void tl_viewers_init(struct tl_viewers *v, const struct tl_http_site *site);
/* A response that goes on for as long as the viewer stays; NULL: too many viewers, or
 * no memory. */
struct MHD_Response *tl_viewers_add(struct tl_viewers *v,
                                    struct MHD_Connection *connection);
/* Let all viewers look for something new. */
void tl_viewers_wake(struct tl_viewers *v);
/* Let them read what is there, and go: until all have, or for `timeout_ms`. None comes
 * afterwards. */
void tl_viewers_see_off(struct tl_viewers *v, int64_t timeout_ms);
void tl_viewers_done(struct tl_viewers *v); /* when libmicrohttpd has stopped */

#endif
