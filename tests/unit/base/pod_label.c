/* Without a pod there is no label; on Kubernetes tests/e2e looks at it. */
#include "throughline/pod_label.h"

#include "test.h"

#include <stdlib.h>

static void elsewhere_it_is_refused(void **state) {
    struct tl_pod_label *l = NULL;
    (void)state;
    (void)unsetenv("KUBERNETES_SERVICE_HOST");
    assert_int_equal(tl_pod_label_new("throughline/role", &l), TL_E_CONFIG);
    assert_string_equal(tl_error_text(), "this is no pod: it has no label");
    assert_null(l);
}

static void nobody_asked_for_it(void **state) {
    (void)state;
    tl_pod_label_set(NULL, "serving");
    tl_pod_label_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elsewhere_it_is_refused),
        cmocka_unit_test(nobody_asked_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
