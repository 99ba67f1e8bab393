#!/usr/bin/env python3
"""Every key of the job file (docs/configuration.md) is in the chart's schema, and no other.

    check_job_schema.py CONFIGURATION.md values.schema.json
"""
import json
import pathlib
import re
import sys

# Set by the chart's own values.
OWN = {"data", "strategy", "consistency", "shards", "workers"}


def documented(text):
    table = text.split("## The job", 1)[1]
    for name, kind in re.findall(r"^\| `([a-z0-9_.]+)` \| ([^|]+) \|", table, re.M):
        if name.split(".")[0] not in OWN:
            yield name + ("_file" if "secret" in kind else "")


def known(schema, prefix=""):
    for name, child in schema["properties"].items():
        if "properties" in child:
            yield from known(child, f"{prefix}{name}.")
        else:
            yield prefix + name


def main(document, schema):
    keys = set(documented(pathlib.Path(document).read_text()))
    job = json.loads(pathlib.Path(schema).read_text())["properties"]["job"]
    have = set(known(job))
    for key in sorted(keys - have):
        print(f"{schema}: job.{key} is missing", file=sys.stderr)
    for key in sorted(have - keys):
        print(f"{schema}: job.{key} is no key of the job file", file=sys.stderr)
    return 0 if keys == have else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
