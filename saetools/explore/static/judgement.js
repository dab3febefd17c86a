// The page of a judgement: the verdict first, then what it rests on, what it cost, what it leaves open.

function showJudgement(data) {
  const models = styleRuns(data.models);
  byId("title").textContent = data.title;
  byId("bar-title").textContent = data.title;
  byId("verdict").classList.add(data.word.replace(" ", "-"));
  const colon = data.sentence.indexOf(":");
  byId("verdict").append(h("p", {}, h("strong", {}, data.sentence.slice(0, colon)), data.sentence.slice(colon)),
    h("p", { class: "meaning" }, "In brackets: 95 % intervals over entities or texts. What was not tested is listed below."));
  byId("notes").hidden = data.cautions.length === 0;
  byId("notes").append(...data.cautions.map((note) => h("li", {}, note)));
  byId("facts").append(...data.facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  byId("headline").append(...data.headline.map(headlineFigure));
  byId("downloads").append("Figures: ", fileButton("all as JSON", "judgement.json", "application/json", data.json),
    fileButton("table as CSV", "figures.csv", "text/csv", data.csv));
  byId("request").hidden = data.request.length === 0;
  byId("sides").append(...data.request.map(requestSide));
  byId("attacks-table").append(checksTable(data.checks.filter(({ role }) => role === "gone"), data.has_oracle, "Attacks"));
  byId("cost-table").append(checksTable(data.checks.filter(({ role }) => role === "cost"), data.has_oracle, "Costs"));
  byId("answers").hidden = data.examples.length === 0;
  byId("examples").append(...data.examples.map(answerCard));
  showEdit(data);
  byId("untested-list").append(...data.untested.map(({ what, why }) => h("div", {}, h("dt", {}, what), h("dd", {}, why))));
  byId("settings").append(...data.settings.map(([name, text]) => h("details", { class: "all-figures" }, h("summary", {}, name), h("pre", {}, text))), allFigures(data.rows));
  const charts = allCharts(data, models);
  preparePrinting(document.documentElement);
  document.body.classList.remove("unpacking");
  for (const chart of charts) chart.fit();
  // The browser looked for the section before there was one to find.
  if (location.hash.length > 1) byId(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" });
}

function headlineFigure({ label, meaning, value, low, high, passed, missing, direction, limit }) {
  const state = passed === null ? "unknown" : passed ? "passed" : "failed";
  return h("div", { class: "figure" }, h("dt", {}, label),
    h("dd", {}, h("span", { class: "big" }, value === null ? "not measured" : exact(value)),
      h("span", { class: "range" }, low === null || high === null ? (value === null ? missing : null) : [exact(low), " to ", exact(high)]),
      h("span", { class: `badge ${state}` }, passed === null ? "?" : passed ? "\u2713" : "\u2717",
        ` ${direction === "higher" ? "\u2265" : "\u2264"} `, exact(limit)),
      h("span", { class: "meaning" }, meaning)));
}

function fileButton(label, name, type, text) {
  return h("button", { type: "button", class: "file", on: { click: () => download(name, type, text) } }, label);
}

function requestSide({ title, n_questions: nQuestions, n_texts: nTexts, n_entities: nEntities, entities, forms, samples, fingerprint }) {
  const counts = [nQuestions ? format.plural(nQuestions, "question") : null, nTexts ? format.plural(nTexts, "text") : null];
  const more = nEntities - entities.length;
  return h("div", { class: "side" }, h("h3", {}, title),
    h("p", {}, counts.filter((text) => text).join(" and "), nEntities ? ` about ${nEntities === 1 ? "1 entity" : `${format.count(nEntities)} entities`}` : ""),
    entities.length ? h("p", { class: "names" }, entities.map((name) => h("span", { class: "chip" }, name)), more > 0 ? h("span", { class: "dim" }, `and ${format.count(more)} more`) : null) : null,
    Object.keys(forms).length ? h("p", { class: "meaning" }, "Forms: ", Object.entries(forms).map(([form, n]) => `${form} (${format.count(n)})`).join(", ")) : null,
    h("ul", { class: "samples" }, samples.map((text) => h("li", {}, text))),
    h("p", { class: "meaning" }, "Hash of the set: ", h("code", {}, fingerprint)));
}

function showEdit({ touched, grid, changes, latents }) {
  byId("touched").append(...touched.map((fact) => h("li", {}, fact)));
  byId("weights").append(...[
    grid ? h("h3", {}, "Change by layer and matrix") : null,
    grid ? h("p", { class: "note" }, "Norm of the change by the norm before; the stronger the colour, the more.") : null,
    grid ? weightGrid(grid) : null, changesTable(changes)].filter((node) => node));
  if (latents.length) byId("latents").append(...latentsTable(latents).filter((node) => node));
}

function allFigures(rows) {
  return foldedTable(`All ${format.plural(rows.length, "figure")}`, ["Figure", "Model", "Of", "Value", "From", "To", "Meaning"],
    rows.map((row) => [row.name, row.model, row.detail, row.value, row.low, row.high, row.meaning]));
}

function allCharts({ chart, utility, curves, losses }, models) {
  byId("compared").hidden = chart.length + utility.length === 0;
  byId("compared-note").textContent = "Points are values, lines their 95 % intervals over entities or texts. The arrow says which end is better for this request.";
  byId("legend").append(hueLegend(models));
  const bars = [
    chart.length ? intervalsFigure(chart, models, { title: "Questions answered right", domain: [0, 1], joined: true, note: "Share of questions. A dotted line is the share that a guess gets." }) : null,
    utility.length ? intervalsFigure(utility, models, { title: "Other texts", domain: intervalDomain(utility, [0, Infinity]), joined: true, note: "Nats a token; an increase of 0.05 makes a text 5 % more perplexing." }) : null,
  ].filter((one) => one);
  const lines = curves.map((curve) => seriesChart(curve, models)).filter((one) => one);
  const fit = losses ? [seriesChart(losses.curve, styleRuns(losses.names))].filter((one) => one) : [];
  byId("charts").append(...bars.map(({ node }) => node));
  const drawn = new Set(curves.flatMap(({ series }) => series.map(({ sae }) => sae)));
  if (lines.length) byId("curves-legend").append(hueLegend(models.filter(({ id }) => drawn.has(id))));
  byId("curves").append(...lines.map(({ node }) => node));
  byId("losses").append(...(fit.length ? [h("div", {}, hueLegend(styleRuns(losses.names)), fit[0].node)] : []));
  return [...bars, ...lines, ...fit];
}

start(showJudgement);
