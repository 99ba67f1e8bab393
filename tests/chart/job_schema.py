#!/usr/bin/env python3
"""The chart's schema of `job` is what docs/configuration.md says of the job file.

    job_schema.py [--write] CONFIGURATION.md values.schema.json
"""
import json
import pathlib
import re
import sys

# Set by the chart's own values; the model is given as an object or a file of the image.
OWN = {"data", "strategy", "consistency", "shards", "workers"}
NAME = {"type": "string", "pattern": "^[a-z0-9-]{1,63}$"}
ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| ([^|]+) \| [^|]* \| ([^|]*) \|", re.M)


def group():
    return {"type": "object", "additionalProperties": False, "properties": {}}


def value_schema(kind, limits):
    if kind == "word":
        return {"enum": re.findall(r"`([^`]+)`", limits)}
    if kind == "boolean":
        return {"type": "boolean"}
    if kind in ("whole number", "number"):
        schema = {"type": "integer" if kind == "whole number" else "number"}
        bounds = re.match(r"(\S+) to (\S+)", limits)
        if bounds:
            schema.update(minimum=json.loads(bounds[1]), maximum=json.loads(bounds[2]))
        return schema
    if kind.startswith(("text", "path")):
        return {"type": "string"}
    return {"type": "object"}


def job_schema(text):
    job = group()
    job["properties"].update(name=NAME, model={"type": ["object", "string"]})
    job["required"] = ["name", "model"]
    for name, kind, limits in ROW.findall(text.split("## The job", 1)[1]):
        first, _, rest = name.partition(".")
        if first in OWN or first in ("name", "model"):
            continue
        schema = value_schema(kind.strip(), limits.strip())
        if "secret" in kind:
            rest += "_file"
        if rest:
            holder = job["properties"].setdefault(first, group())
            holder["properties"][rest] = schema
        else:
            job["properties"][first] = schema
    return job


def main(document, schema_path, write):
    path = pathlib.Path(schema_path)
    schema = json.loads(path.read_text())
    expected = job_schema(pathlib.Path(document).read_text())
    if schema["properties"]["job"] == expected:
        return 0
    if not write:
        print(f"{schema_path}: `job` is not what {document} says: scripts/chart docs", file=sys.stderr)
        return 1
    schema["properties"]["job"] = expected
    path.write_text(json.dumps(schema, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--write"]
    sys.exit(main(*arguments, write="--write" in sys.argv))
