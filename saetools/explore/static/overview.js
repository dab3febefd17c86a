// The top of the page: what was trained on what, the headline figures, the charts, the concepts.

function showHeader(data, ui) {
  ui.byId("title").textContent = data.title;
  ui.byId("bar-title").textContent = data.title;
  ui.byId("summary").textContent = data.summary ?? "";
  ui.byId("summary").hidden = !data.summary;
  ui.byId("facts").append(...data.facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function showHeadline(data, ui) {
  ui.byId("headline").hidden = data.headline.length === 0;
  ui.byId("headline").append(...data.headline.map(({ label, value, meaning, direction }) => h("div",
    { class: "figure" },
    h("dt", {}, label, ["lower", "higher"].includes(direction) ? h("span", { class: "direction", title: `${direction} is better` },
      direction === "higher" ? "\u2191" : "\u2193", h("span", { class: "sr" }, `${direction} is better`)) : null),
    h("dd", {}, h("span", { class: "big" }, format.figure(value)),
      meaning ? h("span", { class: "meaning" }, meaning) : null))));
  if (data.figures.length > 0) ui.byId("all-figures").append(figuresTable(data.figures));
  ui.byId("all-figures").hidden = data.figures.length === 0;
}

function figuresTable(figures) {
  return h("div", { class: "scroll-x" }, h("table", { class: "plain" },
    h("thead", {}, h("tr", {}, ["Figure", "Value", "Better", "Meaning"].map((name, i) => h("th",
      { scope: "col", class: i === 1 ? "number" : null }, name)))),
    h("tbody", {}, figures.map((row) => h("tr", {},
      h("th", { scope: "row" }, row.label), h("td", { class: "number" }, format.figure(row.value)),
      h("td", {}, row.direction === "one" ? "near 1" : row.direction ?? "\u2013"), h("td", { class: "words" }, row.meaning ?? ""))))));
}

function showCharts(data, ui) {
  const charts = [
    data.training && trainingChart(data.training),
    data.firing && firingChart(data.firing),
    data.widths_chart.length > 1 && widthsChart(data.widths_chart),
    ...data.ablation.map((measured) => ablationChart(measured)),
  ].filter(Boolean);
  ui.byId("charts-section").hidden = charts.length === 0;
  ui.byId("charts").append(...charts.map(({ node }) => node));
  if (charts.length % 2) charts[0].node.classList.add("wide");
  for (const chart of charts) chart.fit();
}

// One line a concept: which latent stands for it, and how well it separates documents.
function showConcepts(bundle, ui, open) {
  const { concepts } = bundle;
  ui.byId("concepts").hidden = concepts.length === 0;
  if (concepts.length === 0) return;
  const columns = ["Concept", "Latent", "AUROC train", "AUROC held out", "Documents"];
  ui.byId("concepts-table").append(h("table", { class: "plain concepts" },
    h("thead", {}, h("tr", {}, columns.map((name, i) => h("th",
      { scope: "col", class: i === 2 || i === 3 ? "number" : null }, name)),
    h("th", { scope: "col", class: "scale-head" }, h("span", {}, "0.5"), h("span", {}, "1")))),
    h("tbody", {}, concepts.map((hit) => conceptRow(bundle, hit, open)))));
}

function conceptRow(bundle, hit, open) {
  const name = bundle.name(hit.latent);
  return h("tr", {},
    h("th", { scope: "row" }, hit.label),
    h("td", { class: "concept-latent" }, h("a", { href: `#latent=${hit.latent}`, class: "latent-link", on: { click: (event) => {
      event.preventDefault();
      open(hit.latent);
    } } }, h("span", { class: "latent-id" }, hit.latent), name ? ` ${name}` : "")),
    h("td", { class: "number train dim" }, format.auroc(hit.train)),
    h("td", { class: "number strong" }, format.auroc(hit.held_out)),
    h("td", { class: "documents dim" }, `${format.count(hit.n_train)} + ${format.count(hit.n_held_out)}`),
    h("td", { class: "scale" }, aurocScale(hit)));
}

function aurocScale({ train, held_out: heldOut }) {
  const place = (auroc) => `${Math.max(0, Math.min(1, (auroc - 0.5) * 2)) * 100}%`;
  const dots = [["train", train], ["held-out", heldOut]].filter(([, value]) => value !== null);
  return h("div", { class: "auroc-scale", "aria-hidden": "true" },
    dots.map(([kind, value]) => h("span", { class: `auroc-dot ${kind}`, vars: { "--at": place(value) } })));
}
