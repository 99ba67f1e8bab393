/* pod_label.h - on Kubernetes: what this process is, as a label of its own pod.
 *
 * So that `kubectl get pods -L throughline/role`, a Service or a chaos experiment can
 * tell who serves. The label follows what happened, some milliseconds later; nothing in
 * Throughline reads it, and training goes on whether the API server answers or not.
 *
 * Thread: setting is any thread's and never waits; one thread per label talks to the
 * API server, with the pod's service account, which needs `get, patch` on that pod. */
#ifndef THROUGHLINE_POD_LABEL_H
#define THROUGHLINE_POD_LABEL_H

#include "throughline/error.h"

struct tl_pod_label;

/* Keep the label `key` of this pod, which has no value yet.
 * Errors: TL_E_CONFIG when this is no pod, or one without a service-account token. */
TL_MUST_USE int tl_pod_label_new(const char *key, struct tl_pod_label **ret_label);

/* From now on its value is `value`: letters, at most 15. Tried until it is so, or until
 * there is a newer one. NULL label: nothing. */
void tl_pod_label_set(struct tl_pod_label *l, const char *value);

/* What was set last may not have been told yet. Waits for a request under way, 5 s. */
void tl_pod_label_free(struct tl_pod_label *l);

#endif
