/* s3.h - how an S3 store is reached: the settings that go with an s3:// URL.
 *
 * Part of the job (keys "s3.*"), and a table of their own for programs that have no
 * job. What is left empty is looked for where other S3 clients look: AWS_REGION,
 * AWS_ENDPOINT_URL, AWS_CA_BUNDLE, AWS_ACCESS_KEY_ID and so on, then the shared
 * credentials file (docs/snapshot.md, "Stores").
 *
 * Thread: main thread, at start. */
#ifndef THROUGHLINE_S3_H
#define THROUGHLINE_S3_H

#include "throughline/config.h"

#include <stdint.h>

enum tl_s3_style { TL_S3_AUTO = 0, TL_S3_PATH = 1, TL_S3_VIRTUAL = 2 };

#define TL_S3_NAME_MAX  256u
#define TL_S3_TOKEN_MAX 4096u

struct tl_s3_options {
    char endpoint[TL_S3_NAME_MAX];   /* "s3.endpoint": "" is Amazon's of the region */
    char region[64];                 /* "s3.region" */
    int style;                       /* "s3.style": enum tl_s3_style */
    char ca_file[TL_PATH_MAX];       /* "s3.ca_file" */
    char access_key[TL_S3_NAME_MAX]; /* "s3.access_key" */
    char secret_key[TL_S3_NAME_MAX]; /* "s3.secret_key": secret */
    char session_token[TL_S3_TOKEN_MAX]; /* "s3.session_token": secret */
    char credentials_file[TL_PATH_MAX];  /* "s3.credentials_file" */
    char profile[64];                    /* "s3.profile" */
    uint32_t request_ms;                 /* "s3.request_ms" */
    uint32_t retry_ms;                   /* "s3.retry_ms" */
};

/* The rows of struct tl_s3_options alone, under the same names as in a job. */
extern const struct tl_option_table tl_s3_table;

#endif
