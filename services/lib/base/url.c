/* url.c - a URL's password, found and left out. */
#include "throughline/config.h"

#include <string.h>

/* "scheme://user:password@host": from the user to before the '@', or false. */
static bool find_credentials(const char *url, size_t *ret_from, size_t *ret_to) {
    const char *scheme = strstr(url, "://");
    if (scheme == NULL) {
        return false;
    }
    const char *start = scheme + 3;
    const char *at = strrchr(start, '@'); /* a password may hold a '/' or an '@' */
    if (at == NULL || memchr(start, ':', (size_t)(at - start)) == NULL) {
        return false;
    }
    *ret_from = (size_t)(start - url);
    *ret_to = (size_t)(at - url);
    return true;
}

bool tl_url_has_password(const char *url) {
    size_t from;
    size_t to;
    return find_credentials(url, &from, &to);
}

void tl_url_show(const char *url, char *ret_text, size_t size) {
    size_t from = 0;
    size_t to = 0;
    if (find_credentials(url, &from, &to)) {
        (void)snprintf(ret_text, size, "%.*s***%s", (int)from, url, url + to);
    } else {
        (void)snprintf(ret_text, size, "%s", url);
    }
}
