// The charts of the overview: training curve, firing rates, FVU by width, concept ablation.

function trainingChart(training) {
  const names = Object.keys(training.series);
  let shown = names[0];
  const controls = names.length < 2 ? null : h("div",
    { class: "segments", role: "radiogroup", "aria-label": "Figure to plot" },
    names.map((name) => h("label", {},
      h("input", {
        type: "radio", name: "training-series", value: name, checked: name === shown,
        on: { change: () => choose(name) },
      }), h("span", {}, training.series[name].label))));
  const chart = chartFigure({
    title: "Training", note: training.series[shown].meaning, controls, height: 250,
    draw: (width, height) => lineChart(width, height, training, training.series[shown]),
  });
  function choose(name) {
    shown = name;
    chart.note.textContent = training.series[name].meaning;
    chart.redraw();
  }
  return chart;
}

function lineChart(width, height, training, { label, values }) {
  const points = training.n_tokens.map((n, i) => ({ n, value: values[i] }))
    .filter(({ value }) => value !== null);
  const box = plotBox(width, height);
  const range = [Math.min(...points.map((p) => p.value)), Math.max(...points.map((p) => p.value))];
  const useLog = range[0] > 0 && range[1] / range[0] > 30;
  const x = linearScale([points[0].n, points.at(-1).n], [box.left, box.right]);
  x.format = format.short;
  const y = useLog ? logScale([range[0] * 0.9, range[1] * 1.1], [box.bottom, box.top])
    : linearScale([Math.min(0, range[0]), range[1] * 1.06 || 1], [box.bottom, box.top]);
  const line = points.map((p, i) => `${i ? "L" : "M"}${x(p.n).toFixed(1)} ${y(p.value).toFixed(1)}`).join("");
  const area = `${line}L${x(points.at(-1).n).toFixed(1)} ${box.bottom}L${x(points[0].n).toFixed(1)} ${box.bottom}Z`;
  const last = points.at(-1);
  const summary = `${label} against tokens, from ${format.figure(points[0].value)} to ${format.figure(last.value)}`;
  const svg = chartSvg(width, height, summary,
    axes({ x, y, box, xTitle: useLog ? "tokens (vertical axis is logarithmic)" : "tokens", xTicks: width / 110 }),
    s("path", { class: "area", d: area }), s("path", { class: "line", d: line }),
    s("circle", { class: "dot", cx: x(last.n), cy: y(last.value), r: 3.5 }));
  return withReadOut(svg, { box, points: points.map((p) => ({ ...p, px: x(p.n), py: y(p.value) })), label });
}

// A crosshair that follows the pointer, or the arrow keys once the chart has the focus.
function withReadOut(svg, { box, points, label }) {
  const rule = s("line", { class: "cross", y1: box.top, y2: box.bottom });
  const dot = s("circle", { class: "dot", r: 4 });
  const cross = s("g", { visibility: "hidden" }, rule, dot);
  svg.append(cross);
  let at = points.length - 1;
  const show = (i) => {
    at = Math.max(0, Math.min(points.length - 1, i));
    const point = points[at];
    fill(rule, { x1: point.px, x2: point.px }, []);
    fill(dot, { cx: point.px, cy: point.py }, []);
    cross.setAttribute("visibility", "visible");
    const place = svg.getBoundingClientRect();
    tooltip.show(place.left + point.px, place.top + point.py,
      [`${label} ${format.figure(point.value)}`, `after ${format.short(point.n)} tokens`], svg);
  };
  const hide = () => {
    cross.setAttribute("visibility", "hidden");
    tooltip.hide();
  };
  svg.setAttribute("tabindex", "0");
  svg.addEventListener("pointermove", (event) => show(nearestPoint(points, event.offsetX)));
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(at + step * (event.shiftKey ? 10 : 1));
  });
  return svg;
}

function nearestPoint(points, px) {
  let [lo, hi] = [0, points.length - 1];
  while (hi - lo > 1) {
    const middle = (lo + hi) >> 1;
    if (points[middle].px < px) lo = middle; else hi = middle;
  }
  return px - points[lo].px < points[hi].px - px ? lo : hi;
}

// Bars over equal steps; each bar {value, lines} tells its read-out in `lines`.
function bars(box, y, all, { className = "bar", gap = 1 } = {}) {
  const step = (box.right - box.left) / all.length;
  return all.map(({ value, lines }, i) => s("g", {
    class: className,
    on: {
      pointerenter: (event) => tooltip.over(event.currentTarget.lastChild, lines),
      pointerleave: () => tooltip.hide(),
    },
  },
    s("rect", { class: "hit", x: box.left + i * step, width: step, y: box.top, height: box.bottom - box.top }),
    s("rect", {
      class: "ink", x: box.left + i * step + gap / 2, width: Math.max(1, step - gap), rx: Math.min(2, step / 4),
      y: y(value), height: Math.max(value > 0 ? 1 : 0, box.bottom - y(value)),
    })));
}

function firingChart({ edges, counts, n_dead: nDead, n_latents: nLatents }) {
  const dead = nDead ? ` ${format.plural(nDead, "latent")} of ${format.count(nLatents)} never fired and ${nDead === 1 ? "is" : "are"} left out.` : "";
  return chartFigure({
    title: "Firing rates", height: 250,
    note: `How many latents fire on which share of tokens, on a log scale.${dead}`,
    draw: (width, height) => {
      const box = plotBox(width, height);
      const x = linearScale([edges[0], edges.at(-1)], [box.left, box.right]);
      x.ticks = () => niceTicks(edges[0], edges.at(-1), 6).filter(Number.isInteger);
      x.format = (exponent) => (exponent === 0 ? "1" : `10${superscript(exponent)}`);
      const y = linearScale([0, Math.max(...counts) * 1.05 || 1], [box.bottom, box.top]);
      const described = counts.map((count, i) => ({
        value: count,
        lines: [format.plural(count, "latent"), `rate ${format.figure(10 ** edges[i])} to ${format.figure(10 ** edges[i + 1])}`],
      }));
      return chartSvg(width, height, `Histogram of the firing rates of ${format.count(nLatents - nDead)} latents`,
        axes({ x, y, box, xTitle: "share of tokens on which a latent fires", yTicks: 3 }),
        bars(box, y, described));
    },
  });
}

function widthsChart(widths) {
  return chartFigure({
    title: "FVU by width", height: 250,
    note: "Variance left unexplained when only the first latents of the Matryoshka dictionary are used. Lower is better.",
    draw: (width, height) => {
      const box = plotBox(width, height, { bottom: 40 });
      const y = linearScale([0, Math.max(...widths.map((w) => w.fvu)) * 1.12], [box.bottom, box.top]);
      const x = linearScale([0, widths.length], [box.left, box.right]);
      x.ticks = () => widths.map((_, i) => i + 0.5);
      x.format = (middle) => format.short(widths[Math.floor(middle)].width);
      const step = (box.right - box.left) / widths.length;
      return chartSvg(width, height, "Unexplained variance by dictionary width",
        axes({ x, y, box, xTitle: "latents used", yTicks: 3 }),
        bars(box, y, widths.map(({ width: n, fvu }) => ({
          value: fvu, lines: [`FVU ${format.figure(fvu)}`, `first ${format.count(n)} latents`],
        })), { gap: step * 0.4 }),
        widths.map(({ fvu }, i) => s("text",
          { class: "value", x: x(i + 0.5), y: y(fvu) - 6, "text-anchor": "middle" }, format.figure(fvu))));
    },
  });
}

// One row a condition: a dot for the estimate, a bar for its 95% interval; rows stand in groups.
function ablationChart({ title, note, measure, chance, rows }) {
  const places = rowPlaces(rows);
  const height = places.bottom + 44;
  return chartFigure({
    title, note, height,
    draw: (width) => {
      const named = Math.min(128, width * 0.34);
      const box = { left: named, right: width - 58, top: 4, bottom: places.bottom };
      const ends = rows.flatMap((row) => [row.value, row.low ?? row.value, row.high ?? row.value]);
      const x = linearScale(padded(Math.min(chance, ...ends), Math.max(chance, ...ends), 0.05), [box.left, box.right]);
      return chartSvg(width, height, `${measure} by condition`,
        x.ticks(4).filter((tick) => Math.abs(x(tick) - x(chance)) > 40).map((tick) => [
          s("line", { class: "grid", x1: x(tick), x2: x(tick), y1: box.top, y2: box.bottom }),
          s("text", { class: "tick", x: x(tick), y: box.bottom + 17, "text-anchor": "middle" }, x.format(tick)),
        ]),
        s("line", { class: "chance", x1: x(chance), x2: x(chance), y1: box.top, y2: box.bottom }),
        s("text", { class: "tick", x: x(chance), y: box.bottom + 17, "text-anchor": "middle" }, `chance ${x.format(chance)}`),
        s("text", { class: "axis-title", x: box.right, y: box.bottom + 36, "text-anchor": "end" }, measure),
        places.groups.map(({ group, y }) => s("text", { class: "group", x: 0, y, dy: "0.32em" }, group)),
        rows.map((row, i) => intervalRow(row, { x, y: places.rows[i], left: named, right: width })));
    },
  });
}

function rowPlaces(rows) {
  const places = { rows: [], groups: [], bottom: 4 };
  rows.forEach((row, i) => {
    if (row.group !== rows[i - 1]?.group) {
      places.groups.push({ group: row.group, y: places.bottom + 14 });
      places.bottom += 24;
    }
    places.rows.push(places.bottom + 15);
    places.bottom += 30;
  });
  return places;
}

function intervalRow(row, { x, y, left, right }) {
  const hasInterval = row.low !== null && row.high !== null;
  const lines = [`${row.label} ${format.figure(row.value)}`];
  if (hasInterval) lines.push(`95% interval ${format.figure(row.low)} to ${format.figure(row.high)}`);
  return s("g", {
    class: `interval ${row.kind}`,
    on: {
      pointerenter: (event) => tooltip.over(event.currentTarget.querySelector("circle"), lines),
      pointerleave: () => tooltip.hide(),
    },
  },
    s("rect", { class: "hit", x: 0, width: right, y: y - 15, height: 30 }),
    s("text", { class: "row-name", x: left - 14, y, dy: "0.32em", "text-anchor": "end" }, row.label),
    hasInterval ? s("line", { class: "whisker", x1: x(row.low), x2: x(row.high), y1: y, y2: y }) : null,
    s("circle", { cx: x(row.value), cy: y, r: 5.5 }),
    s("text", { class: "value", x: right - 4, y, dy: "0.32em", "text-anchor": "end" }, format.figure(row.value)));
}
