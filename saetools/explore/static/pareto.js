// The trade-off: a point for each run, L0 to the right, FVU upwards, and the frontier through the best.

const MOST_LABELS = 12; // of more points only those on the frontier have one
const LABEL_HEIGHT = 15;
const LETTER_WIDTH = 6.4;

function paretoChart(runs) {
  const points = runs.filter((run) => run.fvu !== null && run.l0 !== null);
  if (points.length === 0) return null;
  const missing = runs.length - points.length;
  const left = missing ? ` ${format.plural(missing, "run")} without figures ${missing === 1 ? "is" : "are"} left out.` : "";
  return chartFigure({
    title: "FVU against L0", height: 380, controls: points[0].grouped ? hueLegend(points) : null,
    note: "Variance left unexplained against active latents a token. Lower left is better: fewer latents, less error. "
      + `Filled points are on the frontier: no other run is at least as good in both.${left}`,
    draw: (width, height) => drawPareto(points, width, height),
  });
}

function drawPareto(points, width, height) {
  const box = plotBox(width, height, { left: 56, right: 20, top: 16, bottom: 44 });
  const x = axisScale(points.map((run) => run.l0), [box.left, box.right]);
  const y = axisScale(points.map((run) => run.fvu), [box.bottom, box.top]);
  const best = points.filter((run) => run.frontier).sort((a, b) => a.l0 - b.l0 || a.fvu - b.fvu);
  const path = best.map((run, i) => `${i ? "L" : "M"}${x(run.l0).toFixed(1)} ${y(run.fvu).toFixed(1)}`).join("");
  const places = labelPlaces(points.map((run) => ({
    x: x(run.l0), y: y(run.fvu), text: shortName(run.name), first: run.frontier, wanted: run.frontier || points.length <= MOST_LABELS,
  })), box);
  const summary = `FVU against L0 of ${format.plural(points.length, "run")}; on the frontier: ${best.map((run) => run.name).join(", ")}`;
  const marks = points.map((run, i) => paretoPoint(run, { x: x(run.l0), y: y(run.fvu), label: places[i] }));
  return chartSvg(width, height, summary,
    axes({ x, y, box, xTitle: axisTitle("L0, active latents a token", x), xTicks: width / 110, yTicks: 5 }),
    s("text", { class: "axis-title", x: 0, y: 4 }, axisTitle("FVU", y)),
    s("path", { class: "frontier", d: path }),
    marks);
}

function paretoPoint(run, { x, y, label }) {
  const lines = runLines(run);
  const node = s("g", {
    class: `run ${run.hue}${run.frontier ? " on" : ""}`, tabindex: "0", role: "img", "aria-label": lines.join(", "),
    on: {
      pointerenter: (event) => enter(event.currentTarget),
      focus: (event) => enter(event.currentTarget),
      pointerleave: leave,
      blur: leave,
    },
  },
    s("circle", { class: "hit", cx: x, cy: y, r: 16 }),
    s("circle", { class: "halo", cx: x, cy: y, r: 10 }),
    s("circle", { class: "mark", cx: x, cy: y, r: 5.5 }),
    label ? s("text", { class: "run-label", x: label.x, y: label.y, dy: "0.32em", "text-anchor": label.anchor }, label.text) : null);
  function enter(target) {
    emphasis.show(run.id);
    tooltip.over(target.querySelector(".mark"), lines);
  }
  function leave() {
    emphasis.show(null);
    tooltip.hide();
  }
  return emphasis.add(node, run);
}

// Logarithmic where the values span more than a factor of six.
function axisScale(values, range) {
  const [lo, hi] = [Math.min(...values), Math.max(...values)];
  if (lo > 0 && hi / lo > 6) {
    const scale = logScale([lo / 1.15, hi * 1.15], range);
    scale.isLog = true;
    return scale;
  }
  // Values that are all but equal are not spread over the whole axis.
  const short = Math.max(0, 0.1 * Math.abs(hi) - (hi - lo)) / 2;
  const [from, to] = padded(lo - short, hi + short, 0.12);
  return linearScale([lo >= 0 ? Math.max(0, from) : from, to], range);
}

function axisTitle(name, scale) {
  return scale.isLog ? `${name} (logarithmic)` : name;
}

function shortName(name) {
  return name.length > 30 ? `${name.slice(0, 29)}\u2026` : name;
}

// A label beside, above or below its point, where it meets no other, those on the frontier first;
// else none: the tooltip and the table have the name.
function labelPlaces(points, box) {
  const taken = points.map(({ x, y }) => ({ left: x - 8, right: x + 8, top: y - 8, bottom: y + 8 }));
  const places = points.map(() => null);
  const order = points.map((_, i) => i).sort((a, b) => points[b].first - points[a].first);
  for (const i of order.filter((index) => points[index].wanted)) {
    const found = labelTries(points[i]).find(({ area }) => inside(area, box)
      && !taken.some((other, j) => j !== i && overlaps(area, other)));
    if (!found) continue;
    taken.push(found.area);
    places[i] = { ...found.place, text: points[i].text };
  }
  return places;
}

function labelTries({ x, y, text }) {
  const width = text.length * LETTER_WIDTH;
  const tries = [
    [{ x: x + 10, y: y - 11, anchor: "start" }, x + 8],
    [{ x: x + 12, y, anchor: "start" }, x + 10],
    [{ x: x - 12, y, anchor: "end" }, x - 12 - width],
    [{ x, y: y - 17, anchor: "middle" }, x - width / 2],
    [{ x, y: y + 18, anchor: "middle" }, x - width / 2],
  ];
  return tries.map(([place, left]) => ({
    place,
    area: { left, right: left + width, top: place.y - LABEL_HEIGHT / 2, bottom: place.y + LABEL_HEIGHT / 2 },
  }));
}

function inside(area, box) {
  return area.left > box.left && area.right < box.right + 18 && area.top > box.top - 6 && area.bottom < box.bottom;
}

function overlaps(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
