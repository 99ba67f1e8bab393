/* charts.js - uPlot in the page's colours: sizes, failures behind the curves, keys. */
"use strict";

const charts = new Set();

/* What a CSS variable comes to in the theme of now; a canvas needs it said. */
function color(name) {
  const probe = document.getElementById("probe");
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

const number = (v, digits = 3) =>
  v == null || Number.isNaN(v) ? "–" : v.toLocaleString("en", { maximumFractionDigits: digits });

/* Failures as bands over the whole height: dark while a service was away, light until
 * the work went on; a line and a cross where it was killed, for those who see no
 * colours. */
function drawBands(u, bands) {
  const { ctx, bbox } = u;
  const at = (t) => Math.max(bbox.left, Math.min(bbox.left + bbox.width, u.valToPos(t, "x", true)));
  const fill = (from, to, name) => {
    ctx.fillStyle = color(name);
    ctx.fillRect(at(from), bbox.top, Math.max(at(to) - at(from), 0), bbox.height);
  };
  ctx.save();
  ctx.textAlign = "left";
  ctx.textBaseline = "top";
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
  let written = -Infinity; /* a label that would cover the one before it is left out */
  for (const b of bands) {
    const end = b.to ?? u.scales.x.max;
    const started = Math.min(b.started ?? end, end);
    fill(b.from, started, "down");
    fill(started, end, "slow");
    ctx.fillStyle = ctx.strokeStyle = color("bad");
    ctx.beginPath();
    ctx.moveTo(at(b.from), bbox.top);
    ctx.lineTo(at(b.from), bbox.top + bbox.height);
    ctx.stroke();
    const label = `✕ ${b.service}`, gap = 3 * devicePixelRatio, width = ctx.measureText(label).width;
    const fits = at(b.from) + gap + width <= bbox.left + bbox.width; /* else it is to the left of its line */
    const x = fits ? at(b.from) + gap : at(b.from) - gap - width;
    if (x < written) continue;
    ctx.fillText(label, x, bbox.top + 2);
    written = x + width;
  }
  ctx.restore();
}

/* Arrow keys move the cursor from point to point, as a mouse would. */
function listenToKeys(element, plot) {
  element.addEventListener("keydown", (e) => {
    const u = plot();
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[e.key];
    if (step === undefined || !u?.data[0].length) return;
    const x = u.data[0];
    const i = Math.max(0, Math.min(x.length - 1, (u.cursor.idx ?? x.length - 1) + step));
    u.setCursor({ left: u.valToPos(x[i], "x"), top: u.bbox.height / devicePixelRatio / 2 });
    e.preventDefault();
  });
}

/* A figure that draws and redraws itself.
 *   series  {label, color, scale, dash, width, format, band: [index, index]}
 *   axes    {scale: {label, range}}; the first is on the left, a second on the right
 *   bars    columns instead of lines
 *   xMost   nothing beyond it is shown
 *   bands() the failures behind it */
function chart(parent, { title, series, axes, bands = () => [], bars, xMost, xLabel = "seconds", xFormat, height = 260 }) {
  const figure = document.createElement("figure");
  figure.className = "chart";
  figure.tabIndex = 0;
  figure.setAttribute("role", "img");
  figure.setAttribute("aria-label", `${title}: chart; arrow keys move along it`);
  parent.append(figure);
  let data = [[], ...series.map(() => [])];
  let plot = null;

  const options = () => ({
    width: Math.max(figure.clientWidth, 200),
    height,
    title,
    scales: {
      x: { time: false, range: bars ? (u, a, b) => [a - 0.5, b + 0.5] : xMost ? (u, a, b) => [a, Math.min(b, xMost)] : undefined },
      ...Object.fromEntries(Object.entries(axes).map(([k, a]) => [k, { range: a.range }])),
    },
    axes: [
      { stroke: color("soft"), grid: { stroke: color("line"), width: 1 }, ticks: { stroke: color("line") }, label: xLabel, labelSize: 20, size: 34, values: xFormat },
      ...Object.entries(axes).map(([scale, a], i) => ({
        scale, label: a.label, labelSize: 18, size: 60, side: i ? 1 : 3, stroke: color("soft"),
        grid: { show: i === 0, stroke: color("line"), width: 1 }, ticks: { stroke: color("line") },
      })),
    ],
    series: [
      { label: xLabel, value: (u, v) => (xFormat && v != null ? xFormat(u, [v])[0] : number(v, 1)) },
      ...series.map((s, i) => ({
        label: s.label, class: s.hidden ? "bound" : undefined, scale: s.scale ?? Object.keys(axes)[0], stroke: s.hidden ? "transparent" : color(s.color ?? `c${i % 8}`), width: s.width ?? 2, dash: s.dash,
        spanGaps: s.spanGaps ?? false, points: { show: false, size: 5 }, value: (u, v) => (s.format ?? number)(v),
        paths: bars && uPlot.paths.bars({ size: [0.8, 60] }), fill: bars && color(s.color ?? `c${i}`),
      })),
    ],
    bands: series.flatMap((s, i) => (s.band ? [{ series: s.band, fill: color(s.color ?? `c${i % 8}`).replace(/^rgb\((.*)\)/, "rgba($1, .15)") }] : [])),
    cursor: { y: false },
    hooks: { drawClear: [(u) => drawBands(u, bands())] },
  });
  const self = {
    set(next) {
      data = next;
      if (plot) plot.setData(data);
      else self.draw();
    },
    draw() {
      const { left = -1, top } = plot?.cursor ?? {}; /* where somebody is, he stays */
      plot?.destroy();
      plot = figure.clientWidth ? new uPlot(options(), data, figure) : null;
      if (left >= 0) plot?.setCursor({ left, top });
    },
  };
  new ResizeObserver(() => {
    if (!plot) self.draw();
    else if (figure.clientWidth) plot.setSize({ width: figure.clientWidth, height });
  }).observe(figure);
  listenToKeys(figure, () => plot);
  charts.add(self);
  return self;
}

const redrawCharts = () => charts.forEach((c) => c.draw());
