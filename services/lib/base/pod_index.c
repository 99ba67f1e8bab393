/* pod_index.c - the number of this process among its like, as Kubernetes gives it. */
#include "pod_index.h"

#include "throughline/error.h"

#include <stdlib.h>
#include <string.h>

/* The random end of a Deployment's pod name has five characters; a StatefulSet that
 * large is none of ours. */
#define DIGITS_MAX 4u

static bool to_number(const char *text, uint32_t *ret_v) {
    const size_t length = strlen(text);
    if (length == 0 || length > DIGITS_MAX || strspn(text, "0123456789") != length) {
        return false;
    }
    *ret_v = (uint32_t)strtoul(text, NULL, 10);
    return true;
}

int tl_pod_index(uint32_t *ret_index) {
    const char *completion = getenv("JOB_COMPLETION_INDEX");
    if (completion != NULL && completion[0] != '\0') {
        return to_number(completion, ret_index)
                   ? 0
                   : tl_fail(TL_E_CONFIG,
                             "JOB_COMPLETION_INDEX must be a number of at most %u "
                             "digits, not \"%.32s\"",
                             DIGITS_MAX, completion);
    }
    const char *host = getenv("HOSTNAME");
    const char *dash = host != NULL && getenv("KUBERNETES_SERVICE_HOST") != NULL
                           ? strrchr(host, '-')
                           : NULL;
    if (dash == NULL || !to_number(dash + 1, ret_index)) {
        *ret_index = 0;
    }
    return 0;
}
