#!/usr/bin/env python3
"""Kubernetes' strict schemas of the Python package, in the form that kubeconform reads:
references beside the file, not below an address that nobody answers.

    kubeconform_schemas.py VERSION OUT_DIR
"""
import json
import pathlib
import sys

import kubernetes_validate


def main(version, out):
    package = pathlib.Path(kubernetes_validate.__path__[0])
    target = pathlib.Path(out)
    target.mkdir(parents=True, exist_ok=True)
    for path in (package / "kubernetes-json-schema" / f"v{version}-local-strict").glob("*.json"):
        schema = json.loads(path.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
        schema.pop("$id", None)
        (target / path.name).write_text(json.dumps(schema))


if __name__ == "__main__":
    main(*sys.argv[1:])
