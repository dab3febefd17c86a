// What all charts share: scales, ticks, axes, and a figure that redraws itself at its real width.

function linearScale([lo, hi], [from, to]) {
  const scale = (value) => from + ((value - lo) / (hi - lo || 1)) * (to - from);
  scale.ticks = (n) => niceTicks(lo, hi, n);
  scale.format = format.figure;
  return scale;
}

function logScale([lo, hi], [from, to]) {
  const inner = linearScale([Math.log10(lo), Math.log10(hi)], [from, to]);
  const scale = (value) => inner(Math.log10(value));
  scale.ticks = (n) => logTicks(lo, hi, n);
  scale.format = format.figure;
  return scale;
}

function niceTicks(lo, hi, n) {
  const rough = (hi - lo) / Math.max(1, n);
  if (!(rough > 0)) return [lo];
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 2.5, 5, 10].find((factor) => size * factor >= rough * 0.999);
  const out = [];
  for (let i = Math.ceil(lo / step - 1e-9); i * step <= hi + step * 1e-9; i++) {
    out.push(Number((i * step).toPrecision(12)));
  }
  return out;
}

function logTicks(lo, hi, n) {
  const decades = Math.log10(hi / lo);
  if (decades < 1.2) return niceTicks(lo, hi, n);
  const every = Math.max(1, Math.ceil(decades / n));
  const factors = decades < 2.5 ? [1, 2, 5] : [1];
  const out = [];
  for (let e = Math.floor(Math.log10(lo)); e <= Math.ceil(Math.log10(hi)); e += every) {
    for (const factor of factors) {
      const tick = factor * 10 ** e;
      if (tick >= lo * 0.999 && tick <= hi * 1.001) out.push(tick);
    }
  }
  return out;
}

// A domain with a little air, and no wider than the data deserve.
function padded(lo, hi, air = 0.06) {
  const span = hi - lo || Math.abs(hi) || 1;
  return [lo - span * air, hi + span * air];
}

function axes({ x, y, box, xTitle, xTicks = 5, yTicks = 4 }) {
  const { left, right, top, bottom } = box;
  return s("g", { class: "axes", "aria-hidden": "true" },
    y.ticks(yTicks).map((tick) => [
      s("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }),
      s("text", { class: "tick", x: left - 8, y: y(tick), dy: "0.32em", "text-anchor": "end" },
        y.format(tick)),
    ]),
    s("line", { class: "base", x1: left, x2: right, y1: bottom, y2: bottom }),
    x.ticks(xTicks).map((tick) => s("text",
      { class: "tick", x: x(tick), y: bottom + 17, "text-anchor": "middle" }, x.format(tick))),
    xTitle ? s("text", { class: "axis-title", x: right, y: bottom + 34, "text-anchor": "end" },
      xTitle) : null);
}

function plotBox(width, height, { left = 52, right = 12, top = 10, bottom = 40 } = {}) {
  return { left, right: width - right, top, bottom: height - bottom };
}

// A figure with its heading, a sentence that says how to read it, and a plot drawn to fit. Whoever
// puts the node into the page calls `fit` once it stands there; later changes of width are seen.
function chartFigure({ title, note, controls = null, height, draw }) {
  const plot = h("div", { class: "plot", vars: { "--height": `${height}px` } });
  const node = h("figure", { class: "chart" },
    h("figcaption", {}, h("h3", {}, title), note ? h("p", { class: "note" }, note) : null),
    controls, plot);
  let width = 0;
  const redraw = () => {
    if (width > 0) plot.replaceChildren(draw(width, height));
  };
  const fit = () => {
    const now = plot.clientWidth;
    if (now === width) return;
    width = now;
    redraw();
  };
  new ResizeObserver(() => requestAnimationFrame(fit)).observe(plot);
  return { node, fit, redraw, note: node.querySelector(".note") };
}

function chartSvg(width, height, label, ...children) {
  return s("svg",
    { class: "chart-svg", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    children);
}
