/* Jobs whose gradients are encoded, or corrected when they are stale, through the death
 * of a server and of a worker: real processes, real SIGKILLs. */
#include "job_run.h"

/* Bytes that the workers sent for each gradient, from the timeline's last sample. */
static double bytes_of_a_gradient(const json_t *result) {
    char path[PATH_MAX + 32];
    static char line[1 << 16], last[1 << 16];
    (void)snprintf(path, sizeof(path), "%s/timeline.jsonl",
                   json_string_value(json_object_get(result, "out")));
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        if (strstr(line, "\"kind\":\"sample\"") != NULL) {
            memcpy(last, line, sizeof(last));
        }
    }
    (void)fclose(f);
    json_t *sample = json_loads(last, 0, NULL);
    assert_non_null(sample);
    double bytes = 0.0;
    size_t i = 0;
    const json_t *process = NULL;
    json_array_foreach(json_object_get(sample, "processes"), i, process) {
        const char *name = json_string_value(json_object_get(process, "service"));
        if (name != NULL && strncmp(name, "worker/", 7) == 0) {
            bytes += number(process, "sent_bytes");
        }
    }
    json_decref(sample);
    return bytes / number(result, "folded");
}

/* Without a failure, and through the socket, where bytes can be counted. */
static double size_with(const char *encoding) {
    char name[64], flag[64];
    (void)snprintf(name, sizeof(name), "size-%s", encoding);
    (void)snprintf(flag, sizeof(flag), "--encoding=%s", encoding);
    json_t *result =
        job_run(scratch_path(name), 120, "--until=updates=400", "--strategy=none",
                "--wire-shared-memory=false", flag, NULL);
    assert_true(number(result, "accuracy") > 0.65);
    double bytes = bytes_of_a_gradient(result);
    print_message("%s: %.0f bytes sent for each gradient\n", encoding, bytes);
    json_decref(result);
    return bytes;
}

static void encoded_gradients_are_smaller(void **state) {
    (void)state;
    double f32 = size_with("f32");
    assert_true(size_with("bf16") < 0.51 * f32);
    assert_true(size_with("int8") < 0.26 * f32);
    assert_true(size_with("topk") < 0.03 * f32);
}

/* The worker's residual dies with it, and nothing else does. Staleness above 1 is
 * common with two workers: the policy is at work all the time, and its state comes back
 * from the snapshot. */
static void survive(const char *policy, const char *encoding) {
    char stale[64], encoded[64];
    (void)snprintf(stale, sizeof(stale), "--stale-policy=%s", policy);
    (void)snprintf(encoded, sizeof(encoded), "--encoding=%s", encoding);
    json_t *result = job_run(scratch_path(policy), 180, "--until=updates=12000",
                             "--shards=2", stale, "--stale-after=1", encoded,
                             "--topk-fraction=0.05", "--checkpoint-every-updates=50",
                             "--kill=server/1@updates=1500,down=500ms",
                             "--kill=worker/0@updates=2500,down=200ms", NULL);
    const json_t *kill = job_assert_recovered(result, 0);
    assert_true(number(kill, "resumed_from") > 0);
    (void)job_assert_recovered(result, 1);
    assert_true(number(result, "accuracy") > 0.7);
    job_assert_snapshots_valid(result);
    json_decref(result);
    job_assert_nothing_runs();
}

static void policies_and_encodings_survive(void **state) {
    (void)state;
    survive("gap", "topk");
    survive("elastic", "int8");
    survive("backlog", "bf16");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoded_gradients_are_smaller),
        cmocka_unit_test(policies_and_encodings_survive),
    };
    return cmocka_run_group_tests_name("gradients", tests, scratch_setup,
                                       scratch_teardown);
}
