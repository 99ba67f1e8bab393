#!/usr/bin/env python3
"""Rendered manifests against Kubernetes' schemas, unknown fields refused, and every pod
against the restricted Pod Security Standard.

    check_manifests.py KUBERNETES FILE
"""
import re
import sys

import kubernetes_validate
import yaml

OPERATORS = ("monitoring.coreos.com/",)


def pods(document):
    if document["kind"] == "Pod":
        yield document["spec"]
    spec = document.get("spec", {})
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template = spec.get("template")
    if isinstance(template, dict) and "spec" in template:
        yield template["spec"]


def check_restricted(pod):
    outer = pod.get("securityContext", {})
    assert outer.get("runAsNonRoot") is True, "runAsNonRoot"
    assert outer.get("seccompProfile", {}).get("type") == "RuntimeDefault", "seccompProfile"
    assert not pod.get("hostNetwork") and not pod.get("hostPID") and not pod.get("hostIPC"), "host namespaces"
    if pod.get("automountServiceAccountToken") is not False:
        own = pod["serviceAccountName"].endswith("-server")
        assert own, "automountServiceAccountToken: only servers that label themselves have a token"
    assert pod.get("enableServiceLinks") is False, "enableServiceLinks"
    assert all("hostPath" not in v for v in pod.get("volumes", [])), "hostPath"
    for container in pod["containers"] + pod.get("initContainers", []):
        own = container.get("securityContext", {})
        what = container["name"]
        assert own.get("allowPrivilegeEscalation") is False, f"{what}: allowPrivilegeEscalation"
        assert own.get("readOnlyRootFilesystem") is True, f"{what}: readOnlyRootFilesystem"
        assert own.get("capabilities", {}).get("drop") == ["ALL"], f"{what}: capabilities"
        assert "limits" in container.get("resources", {}), f"{what}: limits"
        assert "requests" in container.get("resources", {}), f"{what}: requests"


def check_references(pod):
    """Kubernetes leaves $(NAME) as it is unless NAME comes before it in the list."""
    for container in pod["containers"]:
        seen = set()
        for variable in container.get("env", []):
            for name in re.findall(r"\$\(([A-Z_]+)\)", variable.get("value", "")):
                assert name in seen, f"{container['name']}: {variable['name']} uses {name}, which comes later or never"
            seen.add(variable["name"])
        for name in re.findall(r"\$\(([A-Z_]+)\)", " ".join(container.get("args", []))):
            assert name in seen, f"{container['name']}: no variable {name}"


def main(kubernetes, path):
    with open(path, encoding="utf-8") as file:
        documents = [d for d in yaml.safe_load_all(file) if d]
    bad = 0
    for document in documents:
        name = f"{document['kind']}/{document['metadata']['name']}"
        try:
            if not document["apiVersion"].startswith(OPERATORS):
                kubernetes_validate.validate(document, kubernetes, strict=True)
            for pod in pods(document):
                check_restricted(pod)
                check_references(pod)
        except (AssertionError, kubernetes_validate.ValidationError) as error:
            print(f"{path}: {name}: {getattr(error, 'message', error)}", file=sys.stderr)
            bad += 1
    return 1 if bad or not documents else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
