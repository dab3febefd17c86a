// Figures as points on one scale, a row for each, with their 95 % intervals.

const INTERVAL_ROW = 26; // height of a figure's row, and what each further model adds to it
const INTERVAL_MORE = 11;
const Z_95 = 1.96;

// A chart of the figures that lie in [0, 1] or [-1, 1] and have a better end; null if there is none.
function intervalsChart(figures, saes) {
  const rows = figures.filter(({ range: [lo, hi], direction, values }) => hi === 1 && (lo === 0 || lo === -1)
    && (direction === "higher" || direction === "lower") && values.some((value) => value !== null));
  if (rows.length < 2) return null;
  const withEnds = rows.map((row) => ({ ...row, ends: row.values.map((value, i) => (value === null || row.stderrs[i] === null
    ? null : [value - Z_95 * row.stderrs[i], value + Z_95 * row.stderrs[i]])) }));
  return intervalsFigure(withEnds, saes, {
    title: "At a glance", domain: intervalDomain(withEnds, [Math.min(...rows.map(({ range }) => range[0])), 1]),
    note: "Points are values, lines their 95 % intervals over documents. The arrow says which end is better.",
  });
}

// Rows {label, direction, values, ends, chance}, a value and the ends of its interval for each model;
// `joined` ties the second model's point to the first one's.
function intervalsFigure(rows, saes, { title, note, domain, joined = false }) {
  const step = INTERVAL_ROW + INTERVAL_MORE * (saes.length - 1);
  return chartFigure({
    title, note, height: rows.length * step + 52,
    draw: (width, height) => drawIntervals(rows, saes, { step, domain, joined }, width, height),
  });
}

function drawIntervals(rows, saes, { step, domain, joined }, width, height) {
  const box = plotBox(width, height, { left: Math.min(230, width * 0.42), right: 18, top: 6, bottom: 40 });
  const x = linearScale(domain, [box.left, box.right]);
  return chartSvg(width, height, `${rows.map(({ label }) => label).join(", ")}: values with 95 % intervals`,
    x.ticks(width / 120).map((tick) => [
      s("line", { class: "grid", x1: x(tick), x2: x(tick), y1: box.top, y2: box.bottom }),
      s("text", { class: "tick", x: x(tick), y: box.bottom + 17, "text-anchor": "middle" }, format.figure(tick)),
    ]),
    rows.map((row, i) => intervalRow(row, saes, { middle: box.top + (i + 0.5) * step, step, joined }, x, box)));
}

// What the intervals span, with a little air, within bounds.
function intervalDomain(rows, [least, most]) {
  const all = rows.flatMap(({ values, ends }) => [...values, ...ends.flat()]).filter((value) => value !== null);
  const [lo, hi] = padded(Math.min(...all), Math.max(...all));
  return [Math.max(least, lo), Math.min(most, hi)];
}

function intervalText(value, ends) {
  return ends ? `${format.figure(value)} (${format.figure(ends[0])} to ${format.figure(ends[1])})` : format.figure(value);
}

function intervalRow({ label, direction, values, ends, chance = null }, saes, { middle, step, joined }, x, box) {
  const arrow = direction === "higher" ? "\u2192" : "\u2190";
  const at = (i) => middle + (i - (values.length - 1) / 2) * INTERVAL_MORE;
  const clip = (value) => Math.max(box.left, Math.min(box.right, x(value)));
  const marks = values.map((value, i) => {
    if (value === null) return null;
    const lines = [`${label} ${intervalText(value, ends[i])}`, saes[i].name];
    return emphasis.add(s("g", {
      class: `run ${saes[i].hue}`, tabindex: "0", role: "img", "aria-label": lines.join(", "),
      on: {
        pointerenter: (event) => { emphasis.show(saes[i].id); tooltip.over(event.currentTarget.querySelector("circle"), lines); },
        focus: (event) => tooltip.over(event.currentTarget.querySelector("circle"), lines),
        pointerleave: () => { emphasis.show(null); tooltip.hide(); },
        blur: () => tooltip.hide(),
      },
    },
      ends[i] ? s("line", { class: "whisker", x1: clip(ends[i][0]), x2: clip(ends[i][1]), y1: at(i), y2: at(i) }) : null,
      s("circle", { class: "end", cx: clip(value), cy: at(i), r: 4.5 })), saes[i]);
  });
  return s("g", {},
    s("text", { class: "row-name", x: box.left - 14, y: middle, dy: "0.32em", "text-anchor": "end" },
      shortened(label, box.left - 40), s("tspan", { class: "arrow", dx: 6 }, arrow)),
    chance === null ? null : s("line", { class: "chance", x1: clip(chance), x2: clip(chance), y1: middle - step / 2 + 4, y2: middle + step / 2 - 4 }),
    joined && values.length > 1 && values[0] !== null && values[1] !== null
      ? s("line", { class: "joint", x1: clip(values[0]), x2: clip(values[1]), y1: at(0), y2: at(1) }) : null,
    marks);
}

function shortened(label, room) {
  const most = Math.floor(room / 6.6);
  return label.length > most ? `${label.slice(0, most - 1)}\u2026` : label;
}
