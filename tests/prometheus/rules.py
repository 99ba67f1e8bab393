"""promtool on the configuration and the rules that we ship: rules.py BIN_DIR SOURCE_DIR.
Exit code 77: no promtool here."""

import shutil
import subprocess
import sys


def main(_, source_dir):
    if shutil.which("promtool") is None:
        print("SKIPPED: no promtool here; scripts/bootstrap browser installs it")
        sys.exit(77)
    directory = f"{source_dir}/deploy/prometheus"
    subprocess.run(["promtool", "check", "config", "prometheus.yml"], cwd=directory, check=True)
    subprocess.run(["promtool", "test", "rules", "rules-test.yml"], cwd=directory, check=True)


main(*sys.argv[1:])
