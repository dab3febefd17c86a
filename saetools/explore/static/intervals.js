// Figures with bounds as points on one scale, a row for each, with 95 % intervals over documents.

const INTERVAL_ROW = 26; // height of a figure's row, and what each further SAE adds to it
const INTERVAL_MORE = 11;
const Z_95 = 1.96;

// A chart of the figures that lie in [0, 1] or [-1, 1] and have a better end; null if there is none.
function intervalsChart(figures, saes) {
  const rows = figures.filter(({ range: [lo, hi], direction, values }) => hi === 1 && (lo === 0 || lo === -1)
    && (direction === "higher" || direction === "lower") && values.some((value) => value !== null));
  if (rows.length < 2) return null;
  const step = INTERVAL_ROW + INTERVAL_MORE * (saes.length - 1);
  return chartFigure({
    title: "At a glance", height: rows.length * step + 52,
    note: "Points are values, lines their 95 % intervals over documents. The arrow says which end is better.",
    draw: (width, height) => drawIntervals(rows, saes, step, width, height),
  });
}

function drawIntervals(rows, saes, step, width, height) {
  const box = plotBox(width, height, { left: Math.min(230, width * 0.42), right: 18, top: 6, bottom: 40 });
  const x = linearScale(intervalDomain(rows), [box.left, box.right]);
  return chartSvg(width, height, `${rows.map(({ label }) => label).join(", ")}: values with 95 % intervals`,
    x.ticks(width / 120).map((tick) => [
      s("line", { class: "grid", x1: x(tick), x2: x(tick), y1: box.top, y2: box.bottom }),
      s("text", { class: "tick", x: x(tick), y: box.bottom + 17, "text-anchor": "middle" }, format.figure(tick)),
    ]),
    rows.map((row, i) => intervalRow(row, saes, box.top + (i + 0.5) * step, x, box)));
}

// What the intervals span, with a little air, within the bounds of the figures.
function intervalDomain(rows) {
  const ends = rows.flatMap(({ values, stderrs }) => values.flatMap((value, i) => (value === null ? []
    : [value - Z_95 * (stderrs[i] ?? 0), value + Z_95 * (stderrs[i] ?? 0)])));
  const [lo, hi] = padded(Math.min(...ends), Math.max(...ends));
  return [Math.max(Math.min(...rows.map(({ range }) => range[0])), lo), Math.min(1, hi)];
}

function intervalRow({ label, direction, values, stderrs }, saes, middle, x, box) {
  const arrow = direction === "higher" ? "\u2192" : "\u2190";
  const marks = values.map((value, i) => {
    if (value === null) return null;
    const y = middle + (i - (values.length - 1) / 2) * INTERVAL_MORE;
    const half = stderrs[i] === null ? 0 : Z_95 * stderrs[i];
    const clip = (at) => Math.max(box.left, Math.min(box.right, x(at)));
    const lines = [`${label} ${format.figure(value)}${half ? ` \u00b1 ${format.figure(half)}` : ""}`, saes[i].name];
    return emphasis.add(s("g", {
      class: `run ${saes[i].hue}`, tabindex: "0", role: "img", "aria-label": lines.join(", "),
      on: {
        pointerenter: (event) => { emphasis.show(saes[i].id); tooltip.over(event.currentTarget.querySelector("circle"), lines); },
        focus: (event) => tooltip.over(event.currentTarget.querySelector("circle"), lines),
        pointerleave: () => { emphasis.show(null); tooltip.hide(); },
        blur: () => tooltip.hide(),
      },
    },
      half ? s("line", { class: "whisker", x1: clip(value - half), x2: clip(value + half), y1: y, y2: y }) : null,
      s("circle", { class: "end", cx: clip(value), cy: y, r: 4.5 })), saes[i]);
  });
  return s("g", {},
    s("text", { class: "row-name", x: box.left - 14, y: middle, dy: "0.32em", "text-anchor": "end" },
      shortened(label, box.left - 40), s("tspan", { class: "arrow", dx: 6 }, arrow)),
    marks);
}

function shortened(label, room) {
  const most = Math.floor(room / 6.6);
  return label.length > most ? `${label.slice(0, most - 1)}\u2026` : label;
}
