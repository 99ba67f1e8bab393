/* A session token goes with the keys that it belongs to. The server here is our own: it
 * does what Amazon's does with a request, and computes its signature from what came
 * over the wire, the token among it. */
#include "s3_internal.h"
#include "snapshots.h"
#include "test.h"

#include <netinet/in.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECRET "a-secret-of-no-worth"
#define TOKEN  "a/session+token=="

static const char refusal[] =
    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

static struct {
    int fd;
    char request[8192];
} server;

static void *answer_once(void *ctx) {
    size_t got = 0;
    ssize_t n = 1;
    const int fd = accept(server.fd, NULL, NULL);
    while (n > 0 && strstr(server.request, "\r\n\r\n") == NULL) {
        n = recv(fd, server.request + got, sizeof(server.request) - 1 - got, 0);
        got += n > 0 ? (size_t)n : 0;
    }
    (void)!send(fd, refusal, strlen(refusal), MSG_NOSIGNAL);
    (void)close(fd);
    return ctx;
}

/* ---- what the server computes ---------------------------------------------------- */

/* The value of header `name`, of that length in any case of letters. */
static void header(const char *name, size_t length, char value[1024]) {
    const char *line = server.request;
    value[0] = '\0';
    while ((line = strstr(line, "\r\n")) != NULL) {
        line += 2;
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
            const char *from = line + length + 1 + strspn(line + length + 1, " ");
            (void)snprintf(value, 1024, "%.*s", (int)strcspn(from, "\r"), from);
            return;
        }
    }
}

/* What stands behind `name` in the Authorization header, up to a comma. */
static void part(const char *authorization, const char *name, char value[256]) {
    const char *from = strstr(authorization, name);
    assert_non_null(from);
    from += strlen(name);
    (void)snprintf(value, 256, "%.*s", (int)strcspn(from, ", "), from);
}

static void hex(const unsigned char *bytes, char text[65]) {
    for (size_t i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
}

/* Method, path, query, the signed headers, their names, the body's hash. */
static void canonical(const char *signed_headers, char text[4096]) {
    char value[1024];
    const char *path = strchr(server.request, ' ') + 1;
    size_t used =
        (size_t)snprintf(text, 4096, "%.*s\n%.*s\n\n", (int)(path - 1 - server.request),
                         server.request, (int)strcspn(path, " "), path);
    for (const char *name = signed_headers; *name != '\0';) {
        const size_t length = strcspn(name, ";");
        header(name, length, value);
        used += (size_t)snprintf(text + used, 4096 - used, "%.*s:%s\n", (int)length,
                                 name, value);
        name += length + (name[length] == ';');
    }
    header("x-amz-content-sha256", strlen("x-amz-content-sha256"), value);
    (void)snprintf(text + used, 4096 - used, "\n%s\n%s", signed_headers, value);
}

static void signature(const char *scope, const char *signed_headers, char text[65]) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    unsigned char key[SHA256_DIGEST_LENGTH];
    char request[4096];
    char to_sign[2048];
    char date[1024];
    unsigned size = sizeof(key);
    canonical(signed_headers, request);
    (void)SHA256((const unsigned char *)request, strlen(request), digest);
    hex(digest, text);
    header("x-amz-date", strlen("x-amz-date"), date);
    (void)snprintf(to_sign, sizeof(to_sign), "AWS4-HMAC-SHA256\n%s\n%s\n%s", date,
                   scope, text);
    (void)HMAC(EVP_sha256(), "AWS4" SECRET, (int)strlen("AWS4" SECRET),
               (const unsigned char *)scope, strcspn(scope, "/"), key, &size);
    for (const char *step = strchr(scope, '/'); step != NULL;
         step = strchr(step + 1, '/')) {
        memcpy(digest, key, sizeof(key));
        (void)HMAC(EVP_sha256(), digest, sizeof(digest),
                   (const unsigned char *)step + 1, strcspn(step + 1, "/"), key, &size);
    }
    (void)HMAC(EVP_sha256(), key, sizeof(key), (const unsigned char *)to_sign,
               strlen(to_sign), digest, &size);
    hex(digest, text);
}

/* ---- the request ----------------------------------------------------------------- */

static void listen_somewhere(struct tl_s3_options *o) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof(at);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server.fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(server.fd, 1), 0);
    assert_int_equal(getsockname(server.fd, (struct sockaddr *)&at, &size), 0);
    (void)snprintf(o->endpoint, sizeof(o->endpoint), "http://127.0.0.1:%u",
                   ntohs(at.sin_port));
}

static void a_session_token_is_sent_and_signed(void **state) {
    struct tl_s3_options o = {.request_ms = 5000, .retry_ms = 5000};
    struct tl_store *store = NULL;
    pthread_t thread;
    char authorization[1024];
    char value[1024];
    char scope[256];
    char names[256];
    char given[256];
    char expected[65];
    (void)state;
    (void)setenv("AWS_ACCESS_KEY_ID", "tester", 1);
    (void)setenv("AWS_SECRET_ACCESS_KEY", SECRET, 1);
    (void)setenv("AWS_SESSION_TOKEN", TOKEN, 1);
    listen_somewhere(&o);
    assert_int_equal(pthread_create(&thread, NULL, answer_once, NULL), 0);
    assert_int_equal(tl_store_open("s3://bucket/run", &o, &store), 0);
    assert_int_equal(store->ops->read(store, "object", tl_sink_discard, NULL),
                     TL_E_NOTFOUND);
    assert_int_equal(pthread_join(thread, NULL), 0);
    tl_store_close(store);
    (void)close(server.fd);

    header("authorization", strlen("authorization"), authorization);
    header("x-amz-security-token", strlen("x-amz-security-token"), value);
    assert_string_equal(value, TOKEN);
    part(authorization, "Credential=tester/", scope);
    part(authorization, "SignedHeaders=", names);
    part(authorization, "Signature=", given);
    assert_non_null(strstr(names, "x-amz-security-token"));
    signature(scope, names, expected);
    assert_string_equal(given, expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_token_is_sent_and_signed),
    };
    return cmocka_run_group_tests_name("snapshot/s3_token", tests, NULL, NULL);
}
