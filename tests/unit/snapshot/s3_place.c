/* Where a bucket is, and who we are: URLs, settings, variables, the credentials file.
 */
#include "s3_internal.h"
#include "scratch.h"

#include <stdlib.h>

static struct tl_s3_options options;

static int setup(void **state) {
    static const char *const variables[] = {"AWS_REGION",
                                            "AWS_DEFAULT_REGION",
                                            "AWS_ENDPOINT_URL",
                                            "AWS_ENDPOINT_URL_S3",
                                            "AWS_CA_BUNDLE",
                                            "AWS_ACCESS_KEY_ID",
                                            "AWS_SECRET_ACCESS_KEY",
                                            "AWS_SESSION_TOKEN",
                                            "AWS_SECRET_ACCESS_KEY_FILE",
                                            "AWS_PROFILE",
                                            "AWS_SHARED_CREDENTIALS_FILE"};
    (void)state;
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        (void)unsetenv(variables[i]);
    }
    (void)setenv("HOME", scratch, 1);
    return tl_config_defaults(&tl_s3_table, &options);
}

/* ---- places ------------------------------------------------------------------- */

static void expect_place(const char *url, const char *base, const char *prefix) {
    struct s3_place p;
    if (tl_s3_place(url, &options, &p) != 0) {
        fail_msg("%s: %s", url, tl_error_text());
    }
    assert_string_equal(p.base, base);
    assert_string_equal(p.prefix, prefix);
}

static void expect_wrong(const char *url, const char *why) {
    struct s3_place p;
    assert_int_equal(tl_s3_place(url, &options, &p), TL_E_CONFIG);
    if (strstr(tl_error_text(), why) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", tl_error_text(), why);
    }
}

static void amazon_is_the_default(void **state) {
    (void)state;
    expect_place("s3://bucket", "https://bucket.s3.us-east-1.amazonaws.com", "");
    (void)setenv("AWS_REGION", "eu-central-1", 1);
    expect_place("s3://bucket/", "https://bucket.s3.eu-central-1.amazonaws.com", "");
    (void)snprintf(options.region, sizeof(options.region), "eu-west-3");
    options.style = TL_S3_PATH;
    expect_place("s3://bucket/a//", "https://s3.eu-west-3.amazonaws.com/bucket", "a/");
}

static void an_endpoint_has_the_bucket_in_its_path(void **state) {
    (void)state;
    (void)setenv("AWS_ENDPOINT_URL", "http://minio:9000/", 1);
    expect_place("s3://my.bucket-1/a/b", "http://minio:9000/my.bucket-1", "a/b/");
    options.style = TL_S3_VIRTUAL;
    expect_place("s3://bucket/a", "http://bucket.minio:9000", "a/");
    (void)snprintf(options.endpoint, sizeof(options.endpoint), "https://store.example");
    expect_place("s3://bucket/a", "https://bucket.store.example", "a/");
}

static void what_is_no_place_is_refused(void **state) {
    (void)state;
    expect_wrong("s3://", "a bucket's name");
    expect_wrong("s3://ab", "a bucket's name");
    expect_wrong("s3://Upper/x", "a bucket's name");
    expect_wrong("s3://under_score/x", "a bucket's name");
    expect_wrong("s3://user:pass@host/x", "a bucket's name");
    expect_wrong("s3://bucket/a b", "the prefix");
    expect_wrong("s3://bucket/a/../b", "the prefix");
    expect_wrong("s3://bucket/a?x=y", "the prefix");
    (void)snprintf(options.endpoint, sizeof(options.endpoint), "minio:9000");
    expect_wrong("s3://bucket/a", "http://HOST[:PORT]");
    (void)snprintf(options.endpoint, sizeof(options.endpoint), "http://host/path");
    expect_wrong("s3://bucket/a", "http://HOST[:PORT]");
    (void)snprintf(options.endpoint, sizeof(options.endpoint), "http://user@host");
    expect_wrong("s3://bucket/a", "http://HOST[:PORT]");
    options.endpoint[0] = '\0';
    (void)snprintf(options.region, sizeof(options.region), "x/y");
    expect_wrong("s3://bucket/a", "s3.region");
}

/* ---- credentials -------------------------------------------------------------- */

static void expect_keys(const char *access, const char *secret, const char *token) {
    struct s3_credentials c;
    if (tl_s3_credentials(&options, &c) != 0) {
        fail_msg("%s", tl_error_text());
    }
    assert_string_equal(c.access_key, access);
    assert_string_equal(c.secret_key, secret);
    assert_string_equal(c.session_token, token);
}

static void expect_no_keys(const char *why) {
    struct s3_credentials c;
    assert_int_equal(tl_s3_credentials(&options, &c), TL_E_CONFIG);
    if (strstr(tl_error_text(), why) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", tl_error_text(), why);
    }
    assert_null(strstr(tl_error_text(), "hush"));
}

static void settings_go_before_variables(void **state) {
    (void)state;
    expect_no_keys("set AWS_ACCESS_KEY_ID");
    (void)setenv("AWS_ACCESS_KEY_ID", "from-variable", 1);
    (void)setenv("AWS_SECRET_ACCESS_KEY", "hush-1", 1);
    (void)setenv("AWS_SESSION_TOKEN", "hush-2", 1);
    expect_keys("from-variable", "hush-1", "hush-2");
    (void)snprintf(options.access_key, sizeof(options.access_key), "from-setting");
    expect_no_keys("without its secret key");
    (void)snprintf(options.secret_key, sizeof(options.secret_key), "hush-3");
    expect_keys("from-setting", "hush-3", "");
}

static void a_variable_can_name_a_file(void **state) {
    (void)state;
    (void)setenv("AWS_ACCESS_KEY_ID", "key", 1);
    (void)setenv("AWS_SECRET_ACCESS_KEY_FILE", scratch_write("secret", "hush\r\n"), 1);
    expect_keys("key", "hush", "");
    (void)setenv("AWS_SECRET_ACCESS_KEY_FILE", scratch_path("nothing"), 1);
    expect_no_keys("No such file");
    (void)setenv("AWS_SECRET_ACCESS_KEY_FILE", scratch_write("empty", "\n"), 1);
    expect_no_keys("is empty");
}

/* Tokens are longer than the lines that libraries for INI files take. */
static void the_shared_file_has_profiles(void **state) {
    static char text[8192];
    static char token[3001];
    (void)state;
    memset(token, 't', sizeof(token) - 1);
    (void)snprintf(text, sizeof(text),
                   "# a comment\n[default]\naws_access_key_id = first\n"
                   "aws_secret_access_key=hush/+=1\r\nregion = nowhere\n\n"
                   "[ other ]\n  aws_access_key_id=second\n"
                   "aws_secret_access_key = hush-2 \naws_session_token = %s\n"
                   "[broken]\naws_access_key_id=third\n",
                   token);
    (void)setenv("AWS_SHARED_CREDENTIALS_FILE", scratch_write("credentials", text), 1);
    expect_keys("first", "hush/+=1", "");
    (void)setenv("AWS_PROFILE", "other", 1);
    expect_keys("second", "hush-2", token);
    (void)snprintf(options.profile, sizeof(options.profile), "broken");
    expect_no_keys("without its secret key");
    (void)snprintf(options.profile, sizeof(options.profile), "absent");
    expect_no_keys("no profile [absent]");
    (void)setenv("AWS_SHARED_CREDENTIALS_FILE", scratch_path("gone"), 1);
    expect_no_keys("cannot read");
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(amazon_is_the_default),       TEST(an_endpoint_has_the_bucket_in_its_path),
        TEST(what_is_no_place_is_refused), TEST(settings_go_before_variables),
        TEST(a_variable_can_name_a_file),  TEST(the_shared_file_has_profiles),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
