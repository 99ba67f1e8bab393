"""The dashboard in a real browser, beside a real run: dashboard.py BIN_DIR SOURCE_DIR

A server is killed on schedule and a worker by the page's own button; both must show on
the page within two seconds of when they happened, and so must the recoveries. A chain's
head is killed, and the page shows who has become it. The page
must fit three widths, answer to the keyboard, complain about nothing; the report must
open without a network. Exit code 77: no browser here.
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

try:
    from browser import Browser
except ImportError:
    print("SKIPPED: no selenium here; scripts/bootstrap browser installs it")
    sys.exit(77)

WITHIN = 2.0  # seconds, the median of all events: a busy machine may be late once
delays = []
CHARTS_FIT = """[...document.querySelectorAll('.chart')].every(c =>
    !c.clientWidth || Math.abs((c.querySelector('.u-wrap')?.offsetWidth ?? 0) - Math.max(c.clientWidth, 200)) < 2)"""


class Run:
    """`throughline run`, its address and its timeline."""

    def __init__(self, bin_dir, source_dir, out, *flags):
        self.out = pathlib.Path(out)
        self.said = self.out.parent / f"{self.out.name}.said"
        self.process = subprocess.Popen(
            [f"{bin_dir}/throughline", "run", f"{source_dir}/examples/fashion-mlp.json", f"--out={out}",
             "--monitor-every-seconds=1", "--membership-lease-ms=1500", *flags],
            stdout=subprocess.DEVNULL, stderr=self.said.open("w"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)

    def address(self):
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            found = re.search(r"dashboard: (\S+)", self.said.read_text())
            if found:
                return found[1]
            time.sleep(0.05)
        raise AssertionError("no address was printed:\n" + self.said.read_text())

    def event(self, name, service, seconds):
        """The event, once it is in the timeline."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in (self.out / "timeline.jsonl").read_text().splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    continue  # half written
                if entry.get("event") == name and entry.get("service") == service:
                    return entry
            time.sleep(0.02)
        raise AssertionError(f"{service}: no {name} within {seconds} s")


def shown_after(browser, event):
    """Seconds from an event until the page's list has it."""
    text = f"{event['service']}: {event['event']}"
    browser.wait(f"[...document.querySelectorAll('.log li')].some(x => x.textContent.includes('{text}'))", 60, text)
    return time.time() - event["time"]


def state_of(service):
    return f"[...document.querySelectorAll('.service')].find(x => x.querySelector('b').textContent === '{service}')"


def check_event(browser, run, name, service, seconds):
    delay = shown_after(browser, run.event(name, service, seconds))
    print(f"{service} {name}: on the page after {delay:.2f} s")
    delays.append(delay)


def check_widths(browser):
    for width in (390, 1024, 1700):
        for dark in (False, True):
            browser.view(width, dark)
            browser.wait(CHARTS_FIT, 10, f"at {width} px the charts take their size")
            over = browser.js("document.documentElement.scrollWidth - innerWidth")
            assert over <= 0, f"at {width} px the page is {over} px too wide"


def check_keyboard(browser):
    legend = "document.querySelector('.chart .u-legend').textContent"
    browser.driver.execute_script(
        "const c = document.querySelector('.chart'); c.focus();"
        "c.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', bubbles: true}))")
    assert browser.js("document.activeElement.className") == "chart"
    browser.wait(legend + ".includes('%')", 10, "an arrow key shows a value")
    browser.driver.execute_script("window.drawn = document.querySelector('.chart .uplot')")
    browser.view(1700, False)
    browser.wait("document.querySelector('.chart .uplot') !== window.drawn", 10, "other colours are drawn")
    browser.wait(legend + ".includes('%')", 10, "the value is still shown")


def check_live(browser, run):
    browser.open(run.address(), 1280)
    browser.wait("document.querySelectorAll('.service').length >= 5", 30, "all services are shown")
    check_event(browser, run, "kill", "server/0", 20)
    browser.wait(state_of("server/0") + ".classList.contains('down')", 10, "the server is shown as down")
    check_event(browser, run, "recovered", "server/0", 20)
    browser.wait(state_of("server/0") + ".classList.contains('up')", 10, "the server is shown as up")
    browser.driver.execute_script(state_of("worker/1") + ".querySelector('button').click()")
    check_event(browser, run, "kill", "worker/1", 20)
    browser.wait("document.querySelector('[aria-label=\"revive worker/1\"]') !== null", 10, "it can be revived")
    browser.driver.execute_script("document.querySelector('[aria-label=\"revive worker/1\"]').click()")
    check_event(browser, run, "recovered", "worker/1", 20)
    check_widths(browser)
    check_keyboard(browser)
    browser.wait("document.getElementById('status').textContent.includes('ended')", 40, "the end is shown")
    assert browser.complaints() == [], "the console has complaints"


def check_report(browser, run):
    assert run.process.wait(60) == 0, run.said.read_text()
    browser.go(offline=True)
    browser.open((run.out / "report.html").as_uri())
    browser.wait("document.querySelectorAll('.chart canvas').length >= 4", 20, "the report's charts")
    assert "server/0" in browser.js("document.querySelector('table.figures').parentNode.parentNode.parentNode.textContent")
    check_widths(browser)
    assert browser.complaints() == [], "the report's console has complaints"
    browser.go(offline=False)


def badge_of(service):
    return state_of(service) + "?.querySelector('.badge')?.textContent"


def check_chain(browser, run):
    """Who is head is shown, and who has become it."""
    browser.open(run.address(), 1280)
    heads = "[...document.querySelectorAll('.service')].filter(x => x.querySelector('.badge')?.textContent === 'head')"
    browser.wait(f"{heads}.length === 1 && document.querySelectorAll('.chain .linked').length === 3", 60, "a chain of three")
    head = browser.js(f"{heads}[0].querySelector('b').textContent")
    browser.wait(state_of(head) + "?.querySelector('button') !== null", 10, "it can be killed")
    browser.driver.execute_script(state_of(head) + ".querySelector('button').click()")
    check_event(browser, run, "kill", head, 60)
    browser.wait(f"{heads}.length === 1 && {badge_of(head)} !== 'head'", 30, "another head is shown")
    browser.wait(state_of(head) + ".classList.contains('down')", 30, "the dead one is shown as down")
    assert browser.complaints() == [], "the console has complaints"


def main(bin_dir, source_dir):
    with tempfile.TemporaryDirectory(prefix="throughline-browser-") as scratch, Browser() as browser:
        with Run(bin_dir, source_dir, f"{scratch}/run", "--allow-kill", "--until=seconds=30",
                 "--kill=server@seconds=8,down=2s") as run:
            check_live(browser, run)
            check_report(browser, run)
        with Run(bin_dir, source_dir, f"{scratch}/chain", "--allow-kill", "--until=seconds=300",
                 "--strategy=chain", "--chain-length=3") as run:
            check_chain(browser, run)
    assert statistics.median(delays) < WITHIN, f"events are shown late: {delays}"
    print("the dashboard and the report are as they should be")


main(*sys.argv[1:])
