/* page.js - a run on a page: what its timeline says, as tiles, charts, services, events.
 *
 * The timeline (docs/timeline.md) comes line by line from /events, or is in the page:
 * element #report then holds
 *   title, note       of the page
 *   tables            [{title, note, columns: [{key, label, digits, text}], rows}];
 *                     "printed": for other formats alone
 *   comparisons       [{title, label, range, series: [{label, x, y, low, high, dashed}], bands}]
 *   costs             {rows: [{label, ...resources}], terms: [{price, resource, label, on_demand, spot}]}
 *   runs              [{name, run, lines}]
 *   reproduce         commands
 *   machine           {what: value}
 * All of it optional. Names of services, strategies and settings are shown as they come. */
"use strict";

const report = JSON.parse(document.getElementById("report").textContent || "null");
const token = new URLSearchParams(location.hash.slice(1)).get("token");
let mayControl = false;

function make(tag, properties = {}, ...children) {
  const e = Object.assign(document.createElement(tag), properties);
  e.append(...children.filter((c) => c != null));
  return e;
}
const section = (parent, title, className = "") => {
  const s = make("section", { className }, make("h2", { textContent: title }));
  parent.append(s);
  return s;
};
const seconds = (t) => `${number(t, 1)} s`;
const percent = (v) => (v == null || Number.isNaN(v) ? "–" : `${(100 * v).toFixed(1)} %`);
const bytes = (v) => (v == null ? "–" : v >= 1e9 ? `${number(v / 1e9, 2)} GB` : `${number(v / 1e6, 1)} MB`);
const setText = (id, text) => (document.getElementById(id).textContent = text);

/* ---- a run ------------------------------------------------------------------------ */

class Run {
  constructor() {
    this.clear();
  }
  clear() {
    this.info = {};
    this.samples = [];
    this.events = [];
    this.bands = []; /* {service, from, started, to}: away, back, at work again */
    this.end = null;
    this.isFinal = false;
  }
  add(line) {
    if (line.kind === "sample") {
      this.samples.push(line);
      this.isFinal ||= line.final;
    } else if (line.kind === "event") {
      this.events.push(line);
      this.note(line);
    }
  }
  /* Failures from events: `kill` or `down` until `recovered`, or `back` where nobody
   * says more. */
  note(e) {
    const open = this.bands.findLast((b) => b.service === e.service && !b.isOver);
    /* That a killed service is down may be told when it is up again. */
    const isKnown = this.bands.some((b) => b.service === e.service && e.t >= b.from && (b.started == null || e.t <= (b.to ?? Infinity)));
    if (e.event === "kill" || (e.event === "down" && !isKnown)) {
      if (open) open.isOver = true;
      this.bands.push({ service: e.service, from: e.t });
    } else if (e.event === "restart") {
      const last = this.bands.findLast((b) => b.service === e.service);
      if (last) last.started ??= e.t; /* a chain goes on before its dead replica is back */
    } else if (open && e.event === "back") {
      open.started ??= e.t;
      open.to = e.t;
    } else if (open && (e.event === "recovered" || e.event === "gone")) {
      open.to = e.t;
      open.isOver = true;
    } else if (e.event === "end") {
      this.end = e;
    }
  }
  get last() {
    return this.samples.at(-1);
  }
  get evaluated() {
    return this.samples.findLast((s) => s.accuracy != null);
  }
  /* [x, y, ...] over samples; null where a value is not known. */
  columns(...values) {
    return [this.samples.map((s) => s.t), ...values.map((f) => this.samples.map((s, i) => f(s, this.samples[i - 1]) ?? null))];
  }
}

/* Per second between two samples; nothing across a counter that went back. */
const rate = (get) => (s, before) => {
  const more = before && get(s) - get(before);
  return more >= 0 && s.t > before.t ? more / (s.t - before.t) : null;
};
const acknowledged = rate((s) => s.gradients?.acknowledged);
const processOf = (s, name) => s?.processes?.find((p) => p.service === name);

/* Mean staleness of the gradients folded between two samples, by the middle of each
 * range of the histogram. */
function meanStaleness(s, before) {
  const now = s.staleness, then = before?.staleness;
  if (!now || !then) return null;
  const middle = now.up_to.map((b, i) => (i ? (now.up_to[i - 1] + 1 + b) / 2 : b)).concat(now.up_to.at(-1));
  const more = now.count.map((n, i) => n - then.count[i]);
  const total = more.reduce((a, b) => a + b, 0);
  return total > 0 ? more.reduce((a, n, i) => a + n * middle[i], 0) / total : null;
}

/* ---- panels: each draws itself from a run ----------------------------------------- */

function tiles(parent, run) {
  const box = make("div", { className: "tiles wide" });
  parent.append(box);
  const values = {
    accuracy: () => percent(run.evaluated?.accuracy),
    loss: () => number(run.evaluated?.loss),
    updates: () => number(run.last?.announced_version ?? run.last?.version, 0),
    "gradients/s": () => number(run.samples.length > 1 ? acknowledged(run.last, run.samples.at(-2)) : null, 0),
    "gradients lost": () => number(run.last?.gradients?.lost, 0),
    "evaluation, of one core": () => percent(run.last?.evaluate_cpu_seconds / run.last?.t),
  };
  const shown = Object.keys(values).map((name) => {
    const b = make("b", { textContent: "–" });
    box.append(make("div", { className: "tile" }, b, make("span", { textContent: name })));
    return b;
  });
  return () => Object.values(values).forEach((f, i) => (shown[i].textContent = f()));
}

function curve(title, className, series, axes, ...values) {
  return (parent, run) => {
    const box = section(parent, title, className);
    const c = chart(box, { title, series, axes, bands: () => run.bands });
    return () => {
      const columns = run.columns(...values);
      box.hidden = run.samples.length > 2 && columns.slice(1).every((ys) => ys.every((y) => y == null)); /* nobody has it */
      c.set(columns);
    };
  };
}
const upwards = { range: (u, a, b) => [0, Math.max(b * 1.05, 1e-9)] };
const counts = { range: (u, a, b) => [0, Math.max(b * 1.05, 1)] };
const quality = curve("Test accuracy and loss", "wide two",
  [{ label: "accuracy", format: percent, spanGaps: true }, { label: "loss", scale: "loss", dash: [6, 4], spanGaps: true }],
  { accuracy: { label: "accuracy", range: [0, 1] }, loss: { label: "loss (dashed)", ...upwards } },
  (s) => s.accuracy, (s) => s.loss);
const throughput = curve("Throughput", "",
  [{ label: "gradients acknowledged/s", color: "c2" }], { rate: { label: "gradients/s", ...upwards } }, acknowledged);
const staleness = curve("Mean staleness", "",
  [{ label: "updates behind", color: "c3", spanGaps: true }], { s: { label: "updates", ...upwards } }, meanStaleness);
/* Of a durable log: records that the slowest server has not folded. */
const lag = curve("Lag of the log", "",
  [{ label: "records", color: "c4" }], { n: { label: "records", ...counts } },
  (s) => s.processes?.reduce((most, p) => (p.lag == null ? most : Math.max(most ?? 0, p.lag)), null));
const losses = curve("Gradients that did not count", "",
  [{ label: "lost", color: "bad" }, { label: "refused", color: "c1", dash: [6, 4] }], { n: { label: "gradients", ...counts } },
  (s) => s.gradients?.lost, (s) => s.gradients?.refused);

function histogram(parent, run) {
  const box = section(parent, "Staleness of all gradients folded");
  let labels = [];
  const c = chart(box, {
    title: "Staleness", bars: true, xLabel: "updates behind, at most",
    series: [{ label: "gradients", color: "c3" }], axes: { n: { label: "gradients", ...upwards } },
    xFormat: (u, ticks) => ticks.map((t) => labels[t] ?? ""),
  });
  return () => {
    const s = run.samples.findLast((x) => x.staleness)?.staleness;
    labels = s ? [...s.up_to.map(String), "more"] : [];
    c.set([labels.map((_, i) => i), s?.count ?? []]);
  };
}

/* ---- services ---- */

/* Which lane: a shard's servers and replicas belong together, workers, all others. */
function laneOf(p) {
  const [role, index] = p.service.split("/");
  const shard = p.shard ?? (role === "server" ? Number(index) : null);
  return shard != null ? `shard ${shard}` : role === "worker" ? "workers" : "helpers";
}
/* Shards first, each from its head to its tail, who has no place last; then workers, then the rest. */
const lanes = ["shard", "worker", "helper"];
const placeOf = (p) => (p.position ? p.place : 99);
const inOrder = (a, b) =>
  lanes.findIndex((l) => laneOf(a).startsWith(l)) - lanes.findIndex((l) => laneOf(b).startsWith(l)) ||
  laneOf(a).localeCompare(laneOf(b), "en", { numeric: true }) ||
  placeOf(a) - placeOf(b) ||
  a.service.localeCompare(b.service, "en", { numeric: true });

function ask(what, service) {
  return fetch(`/control/${what}/${service}`, { method: "POST", headers: { "X-Throughline-Token": token } })
    .then((r) => setText("status", r.ok ? `${what} ${service}: asked for` : `${what} ${service}: refused (${r.status})`))
    .catch(() => setText("status", `${what} ${service}: the monitor does not answer`));
}
const button = (what, service) =>
  make("button", { type: "button", textContent: what, onclick: () => ask(what, service), ariaLabel: `${what} ${service}` });

function card(p, share) {
  const isDown = p.state === "down", isGone = p.state === "gone";
  const sign = isDown ? "✕" : isGone ? "○" : "●";
  return make("div", { className: `service ${isDown ? "down" : isGone ? "gone" : "up"} ${p.position && p.position !== "standby" ? "linked" : ""}` },
    make("p", {}, make("b", { textContent: p.service }), " ", p.position && make("span", { className: "badge", textContent: p.position })),
    make("p", { className: "state", textContent: `${sign} ${p.state}` }),
    make("p", { textContent: [p.epoch ? `epoch ${p.epoch}` : null, p.version ? `version ${number(p.version, 0)}` : null].filter(Boolean).join(", ") }),
    p.lag != null ? make("p", { textContent: `${number(p.lag, 0)} records behind` }) : null,
    make("p", { textContent: `${share == null ? "–" : `${number(100 * share, 0)} %`} CPU, ${bytes(p.resident_bytes)}` }),
    mayControl && !isGone ? button(isDown ? "revive" : "kill", p.service) : null);
}

/* Down as soon as an event says so, without waiting for the next sample. */
function withEvents(run, p) {
  const e = run.events.findLast((x) => x.service === p.service && ["kill", "down", "restart", "back", "started"].includes(x.event));
  if (!e || e.t < run.last.t) return p;
  return { ...p, state: e.event === "kill" || e.event === "down" ? "down" : e.event === "restart" ? "starting" : p.state === "down" ? "serving" : p.state };
}

function services(parent, run) {
  const box = section(parent, "Services", "wide two");
  const content = make("div", { className: "lanes" });
  box.append(content);
  let shown = "";
  return () => {
    const before = run.samples.at(-2);
    const lanes = new Map();
    for (const known of (run.last?.processes ?? []).toSorted(inOrder)) {
      const p = withEvents(run, known);
      const then = processOf(before, p.service);
      const share = then && p.cpu_seconds >= then.cpu_seconds ? (p.cpu_seconds - then.cpu_seconds) / (run.last.t - before.t) : null;
      const lane = laneOf(p);
      lanes.set(lane, [...(lanes.get(lane) ?? []), [p, share]]);
    }
    const key = JSON.stringify([...lanes, mayControl]);
    if (key === shown) return; /* a button that has the focus keeps it */
    shown = key;
    const focused = document.activeElement?.ariaLabel;
    content.replaceChildren(...[...lanes].map(([lane, list]) => make("div", {},
      make("h3", { textContent: lane }),
      make("div", { className: lane.startsWith("shard") ? "lane chain" : "lane" }, ...list.map((entry) => card(...entry))))));
    if (run.last?.redis === false) content.prepend(make("p", { className: "bad", textContent: "✕ Redis does not answer" }));
    if (focused) content.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
  };
}

function checkpoints(parent, run) {
  const box = section(parent, "Checkpoints");
  const text = make("p"), list = make("ol", { className: "log" });
  box.append(text, list);
  return () => {
    const all = run.events.filter((e) => e.event === "snapshot");
    box.hidden = run.samples.length > 2 && !all.length;
    text.textContent = all.length ? `${all.length} so far; the newest is of version ${number(all.at(-1).version, 0)}` : "none so far";
    list.replaceChildren(...all.slice(-30).reverse().map((e) =>
      make("li", {}, make("time", { textContent: seconds(e.t) }), make("span", { textContent: `version ${number(e.version, 0)}` }))));
  };
}

function describe(e) {
  const details = Object.entries(e).filter(([k]) => !["kind", "event", "service", "t", "time", "pid"].includes(k));
  return `${e.service ?? "job"}: ${e.event}${details.length ? ` (${details.map(([k, v]) => `${k.replaceAll("_", " ")} ${typeof v === "number" ? number(v) : v}`).join(", ")})` : ""}`;
}

function events(parent, run) {
  const box = section(parent, "Events");
  const list = make("ol", { className: "log", tabIndex: 0, ariaLabel: "events, newest first" });
  box.append(list);
  return () => list.replaceChildren(...run.events.filter((e) => e.event !== "snapshot").slice(-200).reverse().map((e) =>
    make("li", {}, make("time", { textContent: seconds(e.t) }),
      make("span", { className: e.event === "kill" || e.event === "down" ? "bad" : "", textContent: describe(e) }))));
}

/* What a report of many runs holds has no services. */
function panels(parent, run) {
  const grid = make("div", { className: "grid" });
  parent.append(grid);
  const whole = [tiles, quality, services, throughput, lag, staleness, losses, histogram, checkpoints, events];
  const slim = [tiles, quality, throughput, losses, checkpoints, events];
  const all = (report && !run.last?.processes ? slim : whole).map((p) => p(grid, run));
  return () => all.forEach((show) => show());
}

/* ---- report ----------------------------------------------------------------------- */

function table(parent, t) {
  const box = section(parent, t.title, "wide");
  const cell = (c, r, v = r[c.key]) => (c.text || typeof v === "string" ? v ?? "–" : number(v, r.digits ?? c.digits ?? 3));
  if (t.note) box.append(make("p", { className: "note", textContent: t.note }));
  box.append(make("div", { className: "scroll", tabIndex: 0 }, make("table", { className: "figures" },
    make("thead", {}, make("tr", {}, ...t.columns.map((c) => make("th", { scope: "col", className: c.text ? "text" : "", textContent: c.label })))),
    make("tbody", {}, ...t.rows.map((r) => make("tr", {}, ...t.columns.map((c) => make("td", { className: c.text ? "text" : "", textContent: cell(c, r) }))))))));
}

/* Curves of several runs on one axis: uPlot wants one x for all. */
function comparison(parent, c) {
  const box = section(parent, c.title, "wide");
  let arm = -1; /* what is dashed belongs to the arm before it */
  const expanded = c.series.flatMap((s) => {
    arm += !s.dashed;
    const look = { color: `c${arm % 8}`, width: s.dashed ? 1.2 : 2.5, dash: s.dashed ? [6, 4] : undefined, spanGaps: true, format: c.percent ? percent : number };
    const line = { ...look, label: s.label, x: s.x, y: s.y };
    return s.low ? [line, { ...look, hidden: true, label: `${s.label}: upper`, x: s.x, y: s.high }, { ...look, hidden: true, label: `${s.label}: lower`, x: s.x, y: s.low }] : [line];
  });
  expanded.forEach((s, i) => { if (s.label.endsWith(": lower")) s.band = [i, i + 1]; });
  const last = (list) => Math.max(0, ...list.map((s) => s.x.at(-1) ?? 0));
  const own = last(c.series.filter((s) => !s.dashed)), all = last(c.series);
  const isCut = own < all / 2; /* a short schedule beside the whole ones of others */
  if (isCut) box.append(make("p", { className: "note", textContent: `The dashed curves go on until ${seconds(all)}.` }));
  const plot = chart(box, { title: c.title, series: expanded, axes: { y: { label: c.label, range: c.range } }, bands: () => c.bands ?? [], height: 380, xMost: isCut ? own : undefined });
  plot.set(uPlot.join(expanded.map((s) => [s.x, s.y])));
}

function costs(parent, c) {
  const box = section(parent, "What it would cost", "wide");
  const form = make("form", { className: "prices", onsubmit: () => false });
  const result = make("div");
  box.append(make("p", { className: "note", textContent: c.note ?? "" }), form, result);
  const terms = c.terms.map((t) => ({ ...t }));
  const total = (r, kind) => terms.reduce((sum, t) => sum + (r[t.resource] ?? 0) * t[kind], 0);
  const show = () => {
    const columns = [{ key: "label", label: "run", text: true }, ...terms.map((t) => ({ key: t.resource, label: t.label, digits: 6 })),
      { key: "on_demand", label: "US$ on demand", digits: 6 }, { key: "spot", label: "US$ spot", digits: 6 }];
    const rows = c.rows.map((r) => ({ ...r, on_demand: total(r, "on_demand"), spot: total(r, "spot") }));
    result.replaceChildren();
    table(result, { title: "", columns, rows });
  };
  const price = (t, kind, label) => {
    const input = make("input", { type: "number", min: 0, step: "any", value: t[kind], ariaLabel: `${t.price}, ${label}` });
    input.oninput = () => { t[kind] = Number(input.value); show(); };
    return make("label", {}, label, input);
  };
  for (const t of terms)
    form.append(make("fieldset", {}, make("legend", { textContent: `US$ a ${t.price}` }), price(t, "on_demand", "on demand"), price(t, "spot", "spot")));
  show();
}

function facts(parent, title, values) {
  table(parent, { title, columns: [{ key: "k", label: "", text: true }, { key: "v", label: "", text: true }], rows: Object.entries(values).map(([k, v]) => ({ k, v: String(v) })) });
}

/* One of many is drawn when it is opened. */
function showRun(main, r, isAlone) {
  const run = new Run();
  r.lines.forEach((l) => run.add(l));
  const box = isAlone ? main : make("details", {}, make("summary", { textContent: r.name }));
  const draw = () => panels(box, run)();
  if (isAlone) return draw();
  main.append(box);
  box.addEventListener("toggle", draw, { once: true });
}

function showReport(main) {
  setText("title", report.title);
  setText("subtitle", report.note ?? "");
  document.title = report.title;
  const isAlone = report.runs?.length === 1 && !report.comparisons;
  const showRuns = () => report.runs?.forEach((r) => showRun(main, r, isAlone));
  if (isAlone) showRuns();
  report.comparisons?.forEach((c) => comparison(main, c));
  report.tables?.filter((t) => !t.printed).forEach((t) => table(main, t));
  if (report.costs) costs(main, report.costs);
  if (!isAlone) showRuns();
  if (report.reproduce) section(main, "How to reproduce it", "wide").append(make("pre", { tabIndex: 0, textContent: report.reproduce }));
  if (report.machine) facts(main, "Where it ran", report.machine);
}

/* ---- live ------------------------------------------------------------------------- */

function follow(main) {
  const run = new Run();
  const show = panels(main, run);
  let isDue = false;
  const showSoon = () => {
    if (isDue) return;
    isDue = true;
    setTimeout(() => { isDue = false; show(); status(); }, 100); /* a burst is drawn once */
  };
  const status = () => {
    const down = run.last?.processes?.map((p) => withEvents(run, p)).filter((p) => p.state === "down").map((p) => p.service) ?? [];
    setText("status", run.isFinal ? `■ ended: ${run.end?.reason ?? ""}` : down.length ? `✕ down: ${down.join(", ")}` : `● ${seconds(run.last?.t)}`);
  };
  const stream = new EventSource("/events");
  stream.onmessage = (m) => {
    const line = JSON.parse(m.data);
    if (line.kind === "hello") {
      run.clear(); /* the whole run follows, also after a break */
      mayControl = line.control && !!token;
      const r = line.run;
      setText("title", `${r.name} ${r.run}`);
      setText("subtitle", `strategy ${r.strategy}, ${r.consistency}, ${r.workers} workers, ${r.shards} shard${r.shards === 1 ? "" : "s"}, seed ${r.seed}`);
      document.title = `${r.name} ${r.run} - Throughline`;
    } else {
      run.add(line);
      if (run.isFinal) setTimeout(() => stream.close(), 3000); /* what is left comes at once */
    }
    showSoon();
  };
  stream.onerror = () => {
    if (run.isFinal) stream.close();
    else setText("status", "◌ no answer from the monitor; trying again");
  };
}

document.getElementById("theme").onclick = () => {
  const root = document.documentElement;
  const isDark = getComputedStyle(root).colorScheme === "dark" || (root.style.colorScheme === "" && matchMedia("(prefers-color-scheme: dark)").matches);
  root.style.colorScheme = isDark ? "light" : "dark";
  redrawCharts();
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawCharts);
matchMedia("print").addEventListener("change", redrawCharts);

const main = document.getElementById("main");
main.replaceChildren();
if (report) showReport(main);
else follow(main);
