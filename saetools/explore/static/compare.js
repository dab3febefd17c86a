// The page that compares runs, as a whole.

function showComparison({ title, facts, notes, runs: plainRuns }) {
  byId("title").textContent = title;
  byId("bar-title").textContent = title;
  byId("facts").append(...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  byId("notes").hidden = notes.length === 0;
  byId("notes").append(...notes.map((note) => h("li", {}, note)));
  const runs = styleRuns(plainRuns);
  const charts = { "trade-off": paretoChart(runs), training: curvesChart(runs) };
  for (const [section, place] of [["trade-off", "pareto"], ["training", "curves"]]) {
    byId(section).hidden = charts[section] === null;
    for (const link of document.querySelectorAll(`nav [href="#${section}"]`)) link.hidden = charts[section] === null;
    if (charts[section]) byId(place).append(charts[section].node);
  }
  byId("runs-table").append(runsTable(runs));
  document.body.classList.remove("unpacking");
  for (const chart of Object.values(charts)) chart?.fit();
  // The browser looked for the section before there was one to find.
  if (location.hash.length > 1) byId(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" });
}

start(showComparison);
