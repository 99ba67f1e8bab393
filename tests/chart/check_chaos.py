#!/usr/bin/env python3
"""Check chaos/*.yaml: every field is known to Chaos Mesh, every selector picks a component
that the chart has, and each file says what it expects.

    check_chaos.py CRDS_DIR FILE...
"""
import pathlib
import sys

import jsonschema
import yaml

COMPONENTS = {"server", "worker", "checkpointer", "monitor", "redis", "s3", "kafka"}
SAYS = ("# Hypothesis: ", "# Watch: ", "# Must hold: ", "# judged: ")
EMBEDDED = {
    "podChaos": "PodChaos",
    "networkChaos": "NetworkChaos",
    "stressChaos": "StressChaos",
    "ioChaos": "IOChaos",
    "timeChaos": "TimeChaos",
    "statusCheck": "StatusCheck",
}
SCHEDULE = {"schedule", "type", "concurrencyPolicy", "historyLimit", "startingDeadlineSeconds"}
TEMPLATE = {"name", "templateType", "deadline", "children"}


def closed(schema):
    """The same schema, in which an unknown field is an error."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    out = {k: closed(v) for k, v in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        out.setdefault("additionalProperties", False)
    return out


def load_schemas(folder):
    schemas = {}
    for path in sorted(pathlib.Path(folder).glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())
        spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        schemas[crd["spec"]["names"]["kind"]] = closed(spec)
    return schemas


def parts_of(document):
    """(kind, spec) of everything in the document that has a schema; unknown fields raise."""
    kind, spec = document["kind"], document["spec"]
    if kind == "Schedule":
        holders, allowed = [spec], SCHEDULE
    elif kind == "Workflow":
        holders, allowed = spec["templates"], TEMPLATE
        names = {t["name"] for t in holders}
        called = {c for t in holders for c in t.get("children", [])} | {spec["entry"]}
        if names != called:
            raise ValueError(f"templates and children differ: {sorted(names ^ called)}")
    else:
        return [(kind, spec)]
    parts = []
    for holder in holders:
        for key, value in holder.items():
            if key in EMBEDDED:
                parts.append((EMBEDDED[key], value))
            elif key not in allowed:
                raise ValueError(f"unknown field {key}")
    return parts


def check_selectors(value):
    if isinstance(value, list):
        for item in value:
            check_selectors(item)
    elif isinstance(value, dict):
        labels = value.get("labelSelectors")
        if labels is not None and labels.get("app.kubernetes.io/component") not in COMPONENTS:
            raise ValueError(f"selects no component of the chart: {labels}")
        for item in value.values():
            check_selectors(item)


def check(path, schemas):
    text = pathlib.Path(path).read_text()
    for line in SAYS:
        if line not in text:
            raise ValueError(f"the line \"{line}...\" is missing")
    document = yaml.safe_load(text)
    if document["metadata"]["name"] != pathlib.Path(path).stem:
        raise ValueError("its name is not the file's")
    check_selectors(document["spec"])
    for kind, spec in parts_of(document):
        jsonschema.validate(spec, schemas[kind])
        if spec.get("action") == "pod-failure" and "duration" not in spec:
            raise ValueError("pod-failure needs a duration")
        if spec.get("action") == "container-kill" and "containerNames" not in spec:
            raise ValueError("container-kill needs containerNames")


def main(folder, *paths):
    schemas, bad = load_schemas(folder), 0
    for path in paths:
        try:
            check(path, schemas)
        except (ValueError, KeyError, jsonschema.ValidationError) as error:
            print(f"{path}: {getattr(error, 'message', error)}", file=sys.stderr)
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
