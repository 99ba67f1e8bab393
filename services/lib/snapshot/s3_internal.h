/* s3_internal.h - what the files of the S3 store share.
 *
 *   s3.c              the store: opening, small operations
 *   s3_place.c        where the bucket is: URL and settings          PURE
 *   s3_credentials.c  who we are
 *   s3_xml.c          what a server says                             PURE
 *   s3_verdict.c      what an answer means: done, again, failed      PURE
 *   s3_request.c      one signed attempt at a request
 *   s3_engine.c       requests in flight, and those that wait to be tried again
 *   s3_read.c         an object's bytes
 *   s3_write.c        an object from pieces, several on their way at once
 *   s3_absent.c       created only if absent, and servers that know no such thing
 *   s3_list.c         names; abandoned uploads
 *
 * Everything runs on the thread that holds the store. Requests make progress whenever
 * it waits for one of them, and with each piece that is written. */
#ifndef S3_INTERNAL_H
#define S3_INTERNAL_H

#include "snapshot_internal.h"

#include <curl/curl.h>

/* Memory for uploads: the pieces on their way and the one that is being filled. S3
 * wants no smaller pieces but the last; a block's hash is known already. */
#define S3_PIECE_BYTES  TL_BLOCK_BYTES
#define S3_BUFFERS      5u
#define S3_PIECES_MAX   10000u /* of one object: S3's limit */
#define S3_REQUESTS_MAX 16u
#define S3_ANSWER_MAX   (4u << 20)
#define S3_PREFIX_MAX   512u
#define S3_TARGET_MAX   4096u
#define S3_UPLOAD_MAX   1024u /* an upload's identity */
#define S3_ETAG_MAX     128u
#define S3_WORD_MAX     64u /* "NoSuchKey" */
#define S3_TEXT_MAX     2048u

/* ---- s3_place.c --------------------------------------------------------------- */

struct s3_place {
    char bucket[64];
    char prefix[S3_PREFIX_MAX]; /* "", or it ends in a slash */
    char region[64];
    char base[512]; /* scheme, host and, in path style, bucket; no slash at its end */
    char ca_file[TL_PATH_MAX]; /* "": the system's */
};
/* From s3://bucket/prefix and the settings, those of AWS_* variables included.
 * TL_E_CONFIG. */
TL_MUST_USE int tl_s3_place(const char *url, const struct tl_s3_options *o,
                            struct s3_place *ret_place);

/* ---- s3_credentials.c --------------------------------------------------------- */

struct s3_credentials {
    char access_key[TL_S3_NAME_MAX];
    char secret_key[TL_S3_NAME_MAX];
    char session_token[TL_S3_TOKEN_MAX]; /* "": none */
};
/* Settings, then AWS_* variables, then the shared credentials file. TL_E_CONFIG names
 * the ways to give them. */
TL_MUST_USE int tl_s3_credentials(const struct tl_s3_options *o,
                                  struct s3_credentials *ret_credentials);
/* The three keys of `profile` in the text of a credentials file; TL_E_NOTFOUND. */
TL_MUST_USE int tl_s3_profile(const char *text, const char *profile,
                              struct s3_credentials *ret_credentials);

/* ---- s3_xml.c ----------------------------------------------------------------- */

/* For each element that ends: its path ("ListBucketResult/Contents/Key") and its text.
 * Nonzero stops, and is returned. */
typedef int (*s3_xml_fn)(void *ctx, const char *path, const char *text);
/* TL_E_PROTOCOL: no XML, or XML of a kind that no S3 server sends. */
TL_MUST_USE int tl_s3_xml(const char *bytes, size_t size, s3_xml_fn each, void *ctx);
/* The text of one element. TL_E_NOTFOUND: there is none, or it is too long. */
TL_MUST_USE int tl_s3_xml_find(const char *bytes, size_t size, const char *path,
                               char *ret_text, size_t text_size);

/* One page of a listing, into `each` as tl_store_ops.list has it. ret_next: where the
 * next page starts; "" on the last. */
TL_MUST_USE int tl_s3_page(const char *bytes, size_t size, const char *prefix,
                           int (*each)(void *ctx, const char *name, uint64_t size),
                           void *ctx, char ret_next[S3_TEXT_MAX]);

/* ---- s3_verdict.c ------------------------------------------------------------- */

/* How an attempt ended. */
struct s3_outcome {
    CURLcode transfer; /* CURLE_OK: there was an answer */
    long status;
    char word[S3_WORD_MAX]; /* S3's own word for an error, or "" */
};
struct s3_verdict {
    int error;          /* 0, or what the request fails with if it is not tried again */
    bool again;         /* it may succeed without anybody changing it */
    bool wrong_clock;   /* ... with the server's time in the signature */
    bool stale_keys;    /* ... with credentials that have been renewed */
    const char *advice; /* what somebody can do about it, or "" */
};
struct s3_verdict tl_s3_judge(const struct s3_outcome *o);
/* How long to wait before attempt number `attempt` + 1, the first being 1. `chance` is
 * a random number: clients that failed together come back one by one. */
int64_t tl_s3_backoff_ms(unsigned int attempt, uint64_t chance);

/* ---- s3_request.c ------------------------------------------------------------- */

struct s3_store;

struct s3_request {
    struct s3_store *store;
    /* What is asked. */
    const char *method;
    char target[S3_TARGET_MAX]; /* path below the place's base, and query */
    const void *body;           /* borrowed until it is over */
    size_t body_size;
    const char *body_sha256; /* hexadecimal; NULL: it is computed */
    bool if_absent;
    bool only_once; /* whatever comes back */
    struct tl_sink
        sink; /* of a good answer's body; feed NULL: it is kept in `answer` */
    void (*done)(struct s3_request *r); /* when it is over; NULL: somebody waits */
    void *owner;
    /* The attempt that is under way. */
    CURL *easy;
    struct curl_slist *headers;
    char curl_text[CURL_ERROR_SIZE];
    size_t body_sent;
    uint64_t skip; /* bytes of the answer that an earlier attempt has brought */
    uint64_t fed;  /* bytes that the sink has taken, over all attempts */
    int sink_error;
    /* Over all attempts. */
    char sha256[TL_SHA256_HEX];
    unsigned int attempts;
    int64_t deadline_ms, due_ms;
    bool is_over;
    int result;
    char why[512]; /* the text that goes with it */
    struct s3_outcome outcome;
    char etag[S3_ETAG_MAX];
    uint64_t length; /* as Content-Length says */
    char *answer;    /* owned; ends in a zero byte; NULL: empty */
    size_t answer_size;
};

/* A request for `key` below the prefix (NULL: for the bucket); `query` is in canonical
 * form, or "". */
TL_MUST_USE int tl_s3_request_init(struct s3_request *r, struct s3_store *s,
                                   const char *method, const char *key,
                                   const char *query);
void tl_s3_request_done(struct s3_request *r);
/* Append "name=VALUE" to a query, the value escaped. */
TL_MUST_USE int tl_s3_query_add(char query[S3_TARGET_MAX], const char *name,
                                const char *value);
/* Prepare an attempt as a handle for curl; and take it down again. */
TL_MUST_USE int tl_s3_attempt(struct s3_request *r);
void tl_s3_attempt_end(struct s3_request *r);

/* ---- s3_engine.c -------------------------------------------------------------- */

/* Start `r`, which is the caller's until it is over. It fails by its result. */
void tl_s3_start(struct s3_request *r);
/* Let requests make progress: until one is over, or for `max_ms`. */
void tl_s3_turn(struct s3_store *s, int64_t max_ms);
/* Start and wait: its result. */
TL_MUST_USE int tl_s3_run(struct s3_request *r);
/* Take back a request that has not ended. */
void tl_s3_drop(struct s3_request *r);
/* Tell whoever listens, as a line. */
void tl_s3_notice(struct s3_store *s, const char *fmt, ...) TL_PRINTF(2, 3);

/* ---- the store ---------------------------------------------------------------- */

struct s3_buffer {
    unsigned char *bytes; /* S3_PIECE_BYTES; NULL: not needed so far */
    bool is_taken;
};

struct s3_store {
    struct tl_store base;
    char name[TL_PATH_MAX]; /* its URL, for texts */
    struct tl_s3_options options;
    struct s3_place place;
    struct s3_credentials credentials;
    CURLM *multi;
    struct s3_request *requests[S3_REQUESTS_MAX]; /* under way or waiting */
    size_t request_count;
    int64_t clock_offset_s; /* the server's clock less ours, where it matters */
    bool has_complained;    /* of a server that does not answer as it should */
    int64_t abandoned_s;    /* age at which an unfinished upload is a dead one's */
    /* Writing. */
    struct s3_buffer buffers[S3_BUFFERS];
    struct s3_object *committed; /* not yet in the bucket */
    int failure;                 /* of one of them; settle() says it */
    char why[512];
    /* What the server can do: 0 not known yet, 1, or -1. */
    int knows_absent, proves;
};

static inline struct s3_store *tl_s3_of(struct tl_store *s) {
    return (struct s3_store *)s;
}

/* The operations of tl_store_ops, file by file. */
int tl_s3_read(struct tl_store *s, const char *name,
               int (*sink)(void *ctx, const void *bytes, size_t size), void *ctx);
int tl_s3_create(struct tl_store *s, const char *name,
                 struct tl_store_writer **ret_writer);
int tl_s3_write(struct tl_store_writer *w, const void *bytes, size_t size);
int tl_s3_commit(struct tl_store_writer *w, bool if_absent);
void tl_s3_abandon(struct tl_store_writer *w);
int tl_s3_settle(struct tl_store *s, bool give_up);
int tl_s3_list(struct tl_store *s, const char *prefix,
               int (*each)(void *ctx, const char *name, uint64_t size), void *ctx);
int tl_s3_sweep(struct tl_store *s);

/* A whole small object, only if there is none: TL_E_EXISTS. */
TL_MUST_USE int tl_s3_put_absent(struct s3_store *s, const char *name,
                                 const void *bytes, size_t size);
/* Is there an object, and of what size? TL_E_NOTFOUND. */
TL_MUST_USE int tl_s3_head(struct s3_store *s, const char *name, uint64_t *ret_size);
/* Abort an upload: best effort, so that no piece of it is paid for. */
void tl_s3_abort_upload(struct s3_store *s, const char *name, const char *upload);

#endif
