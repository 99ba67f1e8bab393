"""A real Prometheus scrapes a real run with the configuration that we ship, and its
rules come to what they should: scrape.py BIN_DIR SOURCE_DIR. Exit code 77: no
Prometheus here."""

import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(check, seconds, what):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = check()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


def query(port, expression):
    """Values of an instant query; none while Prometheus is not there yet."""
    url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return [float(r["value"][1]) for r in json.load(answer)["data"]["result"]]
    except OSError:
        return []


def metadata(port, family):
    """What Prometheus knows of a family: its types and units."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/targets/metadata", timeout=5) as answer:
        return {(m["type"], m["unit"]) for m in json.load(answer)["data"] if m["metric"] == family}


def families_are_unique(address):
    """Of an OpenMetrics text: a counter's family must not be a gauge's name too."""
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": "application/openmetrics-text"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        families = re.findall(r"^# TYPE (\S+)", answer.read().decode(), re.M)
    assert families and len(families) == len(set(families)), f"{address}: {sorted(families)}"


def addresses(bin_dir, said):
    """Where the run's services show their metrics, as `throughline status` tells."""
    command = re.search(r"throughline (status .*)", said.read_text())
    if not command:
        return []
    out = subprocess.run([f"{bin_dir}/throughline", *command[1].split(), "--json"], capture_output=True, text=True)
    services = json.loads(out.stdout) if out.returncode == 0 else []
    return [s["http"] for s in services if s["http"]] if len(services) >= 5 else []


def check(port):
    wait(lambda: len(query(port, 'up{job="throughline"} == 1')) == 5, 30, "five services are up")
    wait(lambda: query(port, "throughline:gradients_acknowledged:rate > 0"), 60, "the rule of gradients/s")
    wait(lambda: query(port, "throughline:staleness:p95 >= 0"), 30, "the rule of staleness")
    wait(lambda: query(port, "throughline_test_accuracy > 0.5"), 30, "the monitor's accuracy")
    # Units are told by OpenMetrics alone: so that is what was read, and understood.
    assert metadata(port, "process_cpu_seconds") == {("counter", "seconds")}
    assert metadata(port, "throughline_backend_bytes") == {("counter", "bytes")}
    wait(lambda: query(port, 'sum(throughline_backend_requests_total{backend="redis"}) > 0'), 30, "requests to Redis")
    assert query(port, 'ALERTS{alertname="ThroughlineServiceDown"}') == []
    # Nothing was dropped or misread: Prometheus counts what it took.
    assert min(query(port, "scrape_samples_scraped")) > 5


def main(bin_dir, source_dir):
    program = shutil.which("prometheus")
    if program is None:
        print("SKIPPED: no prometheus here; scripts/bootstrap browser installs it")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="throughline-prometheus-") as scratch:
        scratch = pathlib.Path(scratch)
        for name in ("prometheus.yml", "rules.yml", "alerts.yml"):
            shutil.copy(f"{source_dir}/deploy/prometheus/{name}", scratch)
        (scratch / "targets").mkdir()
        said = scratch / "said"
        port = free_port()
        run = subprocess.Popen(
            [f"{bin_dir}/throughline", "run", f"{source_dir}/examples/fashion-mlp.json", f"--out={scratch}/run",
             "--until=seconds=90"], stdout=subprocess.DEVNULL, stderr=said.open("w"))
        prometheus = subprocess.Popen(
            [program, f"--config.file={scratch}/prometheus.yml", f"--storage.tsdb.path={scratch}/data",
             f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"])
        try:
            targets = wait(lambda: addresses(bin_dir, said), 20, "all services have addresses")
            (scratch / "targets/run.json").write_text(json.dumps([{"targets": targets}]))
            check(port)
            for target in targets:
                families_are_unique(target)
        finally:
            for process in (run, prometheus):
                process.terminate()
            for process in (run, prometheus):
                process.wait(40)
    print("Prometheus reads every service, and its rules hold")


main(*sys.argv[1:])
