/* The S3 store on a real server: the contract, multipart uploads, listing with
 * continuation, styles, credentials, what two writers do. */
#include "s3_internal.h"
#include "s3_server.h"
#include "store_contract.h"

static struct s3_server server;

struct bucket {
    struct tl_store *store; /* first, as store_contract.h has it */
    char url[TL_PATH_MAX + 64];
    char heard[1024]; /* what the store had to say */
};

static void listen_in(void *ctx, const char *text) {
    struct bucket *b = ctx;
    (void)snprintf(b->heard, sizeof(b->heard), "%s", text);
}

static int setup(void **state) {
    struct bucket *b = calloc(1, sizeof(*b));
    assert_non_null(b);
    (void)snprintf(b->url, sizeof(b->url), "%s", s3_server_url(&server, "t"));
    assert_int_equal(tl_store_open(b->url, &server.options, &b->store), 0);
    tl_store_listen(b->store, listen_in, b);
    *state = b;
    return 0;
}

static int remove_name(void *ctx, const char *name, uint64_t size) {
    (void)size;
    return tl_s3_of(ctx)->base.ops->remove(ctx, name);
}

static int teardown(void **state) {
    struct bucket *b = *state;
    tl_store_close(b->store);
    if (server.pid == 0) { /* somebody's bucket: leave nothing there */
        struct tl_store *other = NULL;
        assert_int_equal(tl_store_open(b->url, &server.options, &b->store), 0);
        assert_int_equal(tl_store_open(b->url, &server.options, &other), 0);
        assert_int_equal(b->store->ops->list(b->store, "", remove_name, other), 0);
        tl_store_close(other);
        tl_store_close(b->store);
    }
    free(b);
    return 0;
}

/* ---- objects of every size ---------------------------------------------------- */

static void write_bytes(struct tl_store *s, const char *name, const char *bytes,
                        size_t size, size_t piece) {
    struct tl_store_writer *w = NULL;
    assert_int_equal(s->ops->create(s, name, &w), 0);
    for (size_t at = 0; at < size; at += piece) {
        assert_int_equal(
            s->ops->write(w, bytes + at, size - at < piece ? size - at : piece), 0);
    }
    assert_int_equal(s->ops->commit(w, false), 0);
}

static void expect_bytes(struct tl_store *s, const char *name, const char *bytes,
                         size_t size) {
    struct snapshots_bytes got = {.bytes = malloc(size + 1u), .capacity = size + 1u};
    assert_int_equal(s->ops->read(s, name, snapshots_collect, &got), 0);
    assert_int_equal(got.size, size);
    assert_memory_equal(got.bytes, bytes, size);
    free(got.bytes);
}

/* Around one piece, and many of them; all on their way before the first is awaited. */
static void objects_of_every_size_come_back(void **state) {
    static const size_t sizes[] = {0,
                                   1,
                                   S3_PIECE_BYTES - 1u,
                                   S3_PIECE_BYTES,
                                   S3_PIECE_BYTES + 1u,
                                   (size_t)2 * S3_PIECE_BYTES,
                                   (size_t)7 * S3_PIECE_BYTES + 4321u};
    struct tl_store *s = store_of(state);
    char name[16];
    char *bytes = snapshots_state(7, (size_t)8 * S3_PIECE_BYTES, false);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        (void)snprintf(name, sizeof(name), "size-%zu", i);
        write_bytes(s, name, bytes, sizes[i], 333333);
    }
    assert_int_equal(tl_store_settle(s, false), 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        (void)snprintf(name, sizeof(name), "size-%zu", i);
        expect_bytes(s, name, bytes, sizes[i]);
    }
    free(bytes);
}

/* ---- uploads that nobody finishes --------------------------------------------- */

static unsigned count_uploads(struct tl_store *store) {
    struct s3_request r;
    unsigned count = 0;
    assert_int_equal(tl_s3_request_init(&r, tl_s3_of(store), "GET", NULL, "uploads="),
                     0);
    assert_int_equal(tl_s3_run(&r), 0);
    for (const char *at = r.answer; (at = strstr(at, "<UploadId>")) != NULL; at++) {
        count++;
    }
    tl_s3_request_done(&r);
    return count;
}

static struct tl_store_writer *begin_large(struct tl_store *s, const char *name) {
    struct tl_store_writer *w = NULL;
    char *bytes = snapshots_state(1, (size_t)2 * S3_PIECE_BYTES, false);
    assert_int_equal(s->ops->create(s, name, &w), 0);
    assert_int_equal(s->ops->write(w, bytes, (size_t)2 * S3_PIECE_BYTES), 0);
    assert_int_equal(s->ops->write(w, bytes, 1), 0);
    free(bytes);
    return w;
}

static void an_abandoned_upload_is_aborted(void **state) {
    struct tl_store *s = store_of(state);
    const unsigned before = count_uploads(s);
    struct tl_store_writer *w = begin_large(s, "large");
    assert_int_equal(count_uploads(s), before + 1u);
    s->ops->abandon(w);
    assert_int_equal(count_uploads(s), before);
    assert_int_equal(snapshots_objects(s), 0);
}

/* A child dies in the middle of an upload. */
static void what_a_dead_writer_left_is_swept(void **state) {
    struct bucket *b = *state;
    struct tl_store *s = b->store;
    const unsigned before = count_uploads(s);
    const pid_t child = fork();
    if (child == 0) {
        struct tl_store *own = NULL;
        if (tl_store_open(b->url, &server.options, &own) == 0) {
            (void)begin_large(own, "dead");
            (void)kill(getpid(), SIGKILL);
        }
        _exit(1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(count_uploads(s), before + 1u);
    /* Young ones may be somebody's. */
    assert_int_equal(s->ops->sweep(s), 0);
    assert_int_equal(count_uploads(s), before + 1u);
    tl_s3_of(s)->abandoned_s = -60;
    assert_int_equal(s->ops->sweep(s), 0);
    assert_int_equal(count_uploads(s), before);
}

/* ---- listings ----------------------------------------------------------------- */

struct counted {
    unsigned count;
    char last[TL_OBJECT_NAME_MAX];
};

static int count_in_order(void *ctx, const char *name, uint64_t size) {
    struct counted *c = ctx;
    assert_int_equal(size, 1);
    assert_true(strcmp(c->last, name) < 0);
    (void)snprintf(c->last, sizeof(c->last), "%s", name);
    c->count++;
    return 0;
}

/* More names than a page holds. */
static void a_listing_goes_on_page_after_page(void **state) {
    struct tl_store *s = store_of(state);
    struct counted c = {.count = 0};
    char name[32];
    for (unsigned i = 0; i < 1203; i++) {
        (void)snprintf(name, sizeof(name), "n/%04u", i);
        write_bytes(s, name, "x", 1, 1);
    }
    assert_int_equal(tl_store_settle(s, false), 0);
    assert_int_equal(s->ops->list(s, "n/", count_in_order, &c), 0);
    assert_int_equal(c.count, 1203);
}

/* Another prefix that begins with ours is not ours. */
static void prefixes_are_kept_apart(void **state) {
    struct bucket *b = *state;
    struct tl_store *other = NULL;
    char url[TL_PATH_MAX + 80];
    (void)snprintf(url, sizeof(url), "%s-2/", b->url);
    assert_int_equal(tl_store_open(url, &server.options, &other), 0);
    assert_int_equal(put(other, "x", "theirs", true), 0);
    assert_int_equal(snapshots_objects(b->store), 0);
    assert_int_equal(other->ops->remove(other, "x"), 0);
    tl_store_close(other);
}

/* ---- writers of one snapshot -------------------------------------------------- */

/* Two handles, as of two processes: one manifest wins, and what it names is there. */
static void one_of_two_checkpointers_wins(void **state) {
    struct bucket *b = *state;
    struct tl_store *other = NULL;
    struct tl_manifest meta = snapshots_meta(1, 10);
    const struct tl_snapshot_options options = {.part_bytes = 4096};
    struct tl_snapshot_writer *w[2] = {NULL, NULL};
    char *bytes = snapshots_state(10, SNAPSHOTS_STATE_BYTES, false);
    assert_int_equal(tl_store_open(b->url, &server.options, &other), 0);
    assert_int_equal(tl_snapshot_begin(b->store, &meta, &options, &w[0]), 0);
    assert_int_equal(tl_snapshot_begin(other, &meta, &options, &w[1]), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(tl_snapshot_write(w[i], bytes, SNAPSHOTS_STATE_BYTES), 0);
    }
    assert_int_equal(tl_snapshot_finish(w[0], NULL), 0);
    assert_int_equal(tl_snapshot_finish(w[1], NULL), TL_E_EXISTS);
    assert_int_equal(snapshots_objects(b->store), 4);
    assert_string_equal(snapshots_newest_valid(b->store), "1/10");
    assert_string_equal(b->heard, "");
    free(bytes);
    tl_store_close(other);
}

/* This server compares bodies with their hashes, and nothing is read back; one of which
 * that is not known is read. */
static void a_server_that_proves_nothing_is_read_back(void **state) {
    struct tl_store *s = store_of(state);
    assert_true(s->ops->proves(s));
    assert_int_equal(snapshots_objects(s), 0);
    tl_s3_of(s)->proves = -1;
    assert_int_equal(snapshots_put_small(s, 1, 10), 0);
    assert_string_equal(snapshots_newest_valid(s), "1/10");
}

/* The server is told what its writer has computed, not what the buffer holds by then.
 */
static void the_writers_hash_is_what_is_sent(void **state) {
    struct tl_store *s = store_of(state);
    struct tl_store_writer *w = NULL;
    tl_s3_of(s)->options.retry_ms = 500;
    assert_int_equal(s->ops->create(s, "object", &w), 0);
    assert_int_equal(s->ops->write(w, "bytes", 5), 0);
    memset(w->sha256, '0', 64);
    assert_int_equal(s->ops->commit(w, false), 0);
    assert_int_equal(s->ops->settle(s, false), TL_E_CHECKSUM);
    assert_int_equal(snapshots_objects(s), 0);
}

/* As on a server that does not know If-None-Match: said once, and no manifest is
 * overwritten that was there before. */
static void without_if_none_match_it_is_looked_first(void **state) {
    struct bucket *b = *state;
    tl_s3_of(b->store)->knows_absent = -1;
    contract_if_absent_keeps_the_first(state);
    assert_int_equal(snapshots_put_small(b->store, 1, 10), 0);
    assert_int_equal(snapshots_put_small(b->store, 1, 10), TL_E_EXISTS);
    assert_string_equal(snapshots_newest_valid(b->store), "1/10");
}

/* ---- who, where, how ---------------------------------------------------------- */

/* Nothing of a secret is in an error's text. */
static void expect_refused(const char *url, const struct tl_s3_options *options,
                           int error, const char *why) {
    struct tl_store *s = NULL;
    unsigned count = 0;
    int r = tl_store_open(url, options, &s);
    if (r == 0) {
        r = s->ops->list(s, "", snapshots_count_name, &count);
    }
    if (r != error || strstr(tl_error_text(), why) == NULL) {
        fail_msg("%d \"%s\" instead of %d \"%s\"", r, tl_error_text(), error, why);
    }
    assert_null(strstr(tl_error_text(), options->secret_key));
    tl_store_close(s);
}

static void wrong_keys_are_named(void **state) {
    struct bucket *b = *state;
    struct tl_s3_options o = server.options;
    (void)snprintf(o.secret_key, sizeof(o.secret_key), "not-the-secret");
    expect_refused(b->url, &o, TL_E_CONFIG, "check the secret key");
    o = server.options;
    (void)snprintf(o.access_key, sizeof(o.access_key), "nobody");
    expect_refused(b->url, &o, TL_E_CONFIG, "check the access key");
}

static void a_bucket_that_is_not_there_is_named(void **state) {
    (void)state;
    expect_refused("s3://no-such-bucket-here/x", &server.options, TL_E_CONFIG,
                   "make the bucket");
}

/* The endpoint's name is localhost, below which every name is loopback too. */
static void a_bucket_can_be_in_the_hosts_name(void **state) {
    struct s3_server virtual_server;
    struct tl_store *s = NULL;
    (void)state;
    s3_server_start_with(&virtual_server, "s3proxy.virtual-host=localhost\n");
    virtual_server.options.style = TL_S3_VIRTUAL;
    (void)snprintf(virtual_server.options.endpoint,
                   sizeof(virtual_server.options.endpoint), "http://localhost:%s",
                   virtual_server.port);
    assert_int_equal(tl_store_open("s3://" S3_TEST_BUCKET, &virtual_server.options, &s),
                     0);
    assert_string_equal(tl_s3_of(s)->place.prefix, "");
    assert_int_equal(put(s, "x", "there", true), 0);
    expect(s, "x", "there");
    tl_store_close(s);
    s3_server_stop(&virtual_server);
}

/* With a certificate of our own making: taken with it as the authority, and not
 * without.
 */
static void https_is_believed_by_the_certificate_alone(void **state) {
    struct s3_server https;
    struct tl_store *s = NULL;
    char command[1024];
    char more[512];
    (void)state;
    s3_server_prepare(&https);
    (void)snprintf(
        command, sizeof(command),
        "cd '%s' && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem "
        "-out cert.pem -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 "
        "2>/dev/null && openssl pkcs12 -export -inkey key.pem -in cert.pem -out "
        "store.p12 "
        "-passout pass:password",
        https.directory);
    assert_int_equal(system(command), 0); /* NOLINT: our own directory's name */
    (void)snprintf(more, sizeof(more),
                   "s3proxy.secure-endpoint=https://127.0.0.1:%s\n"
                   "s3proxy.keystore-path=%s/store.p12\n"
                   "s3proxy.keystore-password=password\n",
                   https.port, https.directory);
    s3_server_run(&https, more);
    (void)snprintf(https.options.endpoint, sizeof(https.options.endpoint),
                   "https://127.0.0.1:%s", https.port);
    expect_refused("s3://" S3_TEST_BUCKET, &https.options, TL_E_CONFIG, "s3.ca_file");
    (void)snprintf(https.options.ca_file, sizeof(https.options.ca_file), "%s/cert.pem",
                   https.directory);
    assert_int_equal(tl_store_open("s3://" S3_TEST_BUCKET, &https.options, &s), 0);
    assert_int_equal(put(s, "x", "sealed", true), 0);
    expect(s, "x", "sealed");
    tl_store_close(s);
    s3_server_stop(&https);
}

static int start(void **state) {
    (void)state;
    s3_server_start(&server);
    return 0;
}

static int stop(void **state) {
    (void)state;
    s3_server_stop(&server);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_CONTRACT(setup, teardown),
        TEST(objects_of_every_size_come_back),
        TEST(an_abandoned_upload_is_aborted),
        TEST(what_a_dead_writer_left_is_swept),
        TEST(a_listing_goes_on_page_after_page),
        TEST(prefixes_are_kept_apart),
        TEST(one_of_two_checkpointers_wins),
        TEST(a_server_that_proves_nothing_is_read_back),
        TEST(the_writers_hash_is_what_is_sent),
        TEST(without_if_none_match_it_is_looked_first),
        TEST(wrong_keys_are_named),
        TEST(a_bucket_that_is_not_there_is_named),
        TEST(a_bucket_can_be_in_the_hosts_name),
        TEST(https_is_believed_by_the_certificate_alone),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
