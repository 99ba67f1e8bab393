/* service_life.c - what a service's options say of its life: what it announces, and
 * when it may go. */
#include "throughline/service.h"

#include "http_listen.h"

#include <stdio.h>

#define BEAT_MS 1000

int tl_service_http(const struct tl_service_options *options,
                    const struct tl_http_site *site, struct tl_http **ret_http,
                    char ret_address[TL_NAME_MAX * 4]) {
    const char *advertise = options->http_advertise;
    int rc = advertise[0] != '\0' ? tl_http_check(advertise) : 0;
    if (rc == 0) {
        rc = tl_http_start(options->http, site, ret_http, ret_address);
    }
    if (rc == 0 && *ret_http != NULL && advertise[0] != '\0') {
        (void)snprintf(ret_address, (size_t)TL_NAME_MAX * 4, "%s", advertise);
    }
    return rc;
}

void tl_service_stay(const struct tl_service_options *options) {
    if (options->stay && !tl_stop_requested()) {
        tl_log_line(TL_INFO, "staying until SIGTERM", NULL);
    }
    while (options->stay && !tl_stop_requested()) {
        tl_health_beat();
        (void)tl_stop_wait(BEAT_MS);
    }
}
