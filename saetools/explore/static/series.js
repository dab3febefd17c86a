// Curves of SAEs over each other: histograms as steps, everything else as lines.

function seriesChart({ label, meaning, x_title: xTitle, steps, series }, saes) {
  const lines = series.map((own) => ({ run: saes[own.sae], points: steps ? stepPoints(own, saes) : linePoints(own, saes) }))
    .filter(({ points }) => points.length > 1);
  if (lines.length === 0) return null;
  return chartFigure({
    title: label, note: meaning, height: 250,
    draw: (width, height) => drawSeries(lines, { label, xTitle, steps }, width, height),
  });
}

function linePoints({ sae, x, y }, saes) {
  return x.map((at, i) => ({ n: at, value: y[i], run: saes[sae] })).filter(({ value }) => value !== null);
}

// Bar i goes from x[i] to x[i + 1]; its point stands in its middle.
function stepPoints({ sae, x, y }, saes) {
  return y.map((value, i) => ({ n: (x[i] + x[i + 1]) / 2, from: x[i], to: x[i + 1], value: value ?? 0, run: saes[sae] }));
}

function drawSeries(lines, { label, xTitle, steps }, width, height) {
  const all = lines.flatMap(({ points }) => points);
  const box = plotBox(width, height, { right: 16 });
  const ends = all.flatMap((p) => (steps ? [p.from, p.to] : [p.n]));
  const [first, last] = [Math.min(...ends), Math.max(...ends)];
  const useLog = !steps && first > 0 && last / first > 8;
  const x = (useLog ? logScale : linearScale)([first, last], [box.left, box.right]);
  if (first >= 1) x.format = format.short;
  if (!steps && ends.every(Number.isInteger)) x.ticks = wholeTicks(x.ticks);
  const y = linearScale([Math.min(0, ...all.map((p) => p.value)), Math.max(...all.map((p) => p.value)) * 1.06 || 1], [box.bottom, box.top]);
  for (const point of all) Object.assign(point, { px: x(point.n), py: y(point.value) });
  const svg = chartSvg(width, height, `${label} of ${format.plural(lines.length, "SAE")}`,
    axes({ x, y, box, xTitle: useLog ? `${xTitle} (logarithmic)` : xTitle, xTicks: width / 110 }),
    lines.map(({ run, points }) => emphasis.add(s("g", { class: `run ${run.hue}` },
      s("path", { class: "curve", d: steps ? stepPath(points, x, y, box) : linePath(points) }),
      steps ? null : points.map((p) => s("circle", { class: "end", cx: p.px, cy: p.py, r: 3 }))), run)));
  return withReading(svg, lines, (point) => [
    `${label} ${format.figure(point.value)}`, point.run.name,
    steps ? `${format.figure(point.from)} to ${format.figure(point.to)}` : `at ${format.figure(point.n)}`]);
}

// Between two layers or two steps there is none.
function wholeTicks(ticks) {
  return (n) => ticks(n).filter(Number.isInteger);
}

function linePath(points) {
  return points.map((p, i) => `${i ? "L" : "M"}${p.px.toFixed(1)} ${p.py.toFixed(1)}`).join("");
}

function stepPath(points, x, y, box) {
  const tops = points.map((p) => `V${y(p.value).toFixed(1)}H${x(p.to).toFixed(1)}`).join("");
  return `M${x(points[0].from).toFixed(1)} ${box.bottom}${tops}V${box.bottom}`;
}
