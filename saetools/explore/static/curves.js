// Training curves: one figure at a time, a line for each run.

function curvesChart(runs) {
  const trained = runs.filter((run) => run.curve);
  const names = [...new Set(trained.flatMap((run) => Object.keys(run.curve.series)))];
  if (names.length === 0) return null;
  let shown = names[0];
  const about = (name) => trained.find((run) => run.curve.series[name]).curve.series[name];
  const controls = [
    h("div", { class: "segments", role: "radiogroup", "aria-label": "Figure to plot" },
      names.map((name) => h("label", {},
        h("input", {
          type: "radio", name: "curve", value: name, checked: name === shown, on: { change: () => choose(name) },
        }), h("span", {}, about(name).label)))),
    hueLegend(trained),
  ];
  const chart = chartFigure({
    title: "Training", note: about(shown).meaning, controls, height: 320,
    draw: (width, height) => drawCurves(trained, shown, about(shown).label, width, height),
  });
  function choose(name) {
    shown = name;
    chart.note.textContent = about(name).meaning;
    chart.redraw();
  }
  return chart;
}

function drawCurves(runs, name, label, width, height) {
  const lines = runs.map((run) => ({ run, points: curvePoints(run, name) })).filter(({ points }) => points.length > 0);
  const all = lines.flatMap(({ points }) => points);
  const box = plotBox(width, height, { right: 16 });
  const [lo, hi] = [Math.min(...all.map((p) => p.value)), Math.max(...all.map((p) => p.value))];
  const useLog = lo > 0 && hi / lo > 30;
  const x = linearScale([Math.min(...all.map((p) => p.n)), Math.max(...all.map((p) => p.n))], [box.left, box.right]);
  x.format = format.short;
  const y = useLog ? logScale([lo * 0.9, hi * 1.1], [box.bottom, box.top])
    : linearScale([Math.min(0, lo), hi * 1.06 || 1], [box.bottom, box.top]);
  for (const point of all) Object.assign(point, { px: x(point.n), py: y(point.value) });
  const svg = chartSvg(width, height, `${label} against tokens of ${format.plural(lines.length, "run")}`,
    axes({ x, y, box, xTitle: useLog ? "tokens (vertical axis is logarithmic)" : "tokens", xTicks: width / 110 }),
    lines.map(({ run, points }) => emphasis.add(s("g", { class: `run ${run.hue}` },
      s("path", { class: "curve", d: points.map((p, i) => `${i ? "L" : "M"}${p.px.toFixed(1)} ${p.py.toFixed(1)}`).join("") }),
      s("circle", { class: "end", cx: points.at(-1).px, cy: points.at(-1).py, r: 3 })), run)));
  return withReading(svg, lines, (point) => [
    `${label} ${format.figure(point.value)}`, point.run.name, `after ${format.short(point.n)} tokens`]);
}

function curvePoints(run, name) {
  const values = run.curve.series[name]?.values ?? [];
  return values.map((value, i) => ({ n: run.curve.n_tokens[i], value, run })).filter(({ value }) => value !== null);
}
