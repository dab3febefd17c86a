// The page of evaluation reports: a section for each metric, with plots and a table of SAEs.

const BETTER = { lower: "lower is better", higher: "higher is better", one: "near 1 is better" };
const ARROWS = { lower: "\u2193", higher: "\u2191", one: "\u21921" };

function showEvaluation({ title, facts, notes, saes: plainSaes, sections, skipped }) {
  const saes = styleRuns(plainSaes);
  byId("title").textContent = title;
  byId("bar-title").textContent = title;
  byId("facts").append(...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  byId("notes").hidden = notes.length === 0;
  byId("notes").append(...notes.map((note) => h("li", {}, note)));
  if (saes.length > 1) byId("legend").append(hueLegend(saes));
  const charts = [];
  for (const section of sections) byId("sections").append(sectionNode(section, saes, charts));
  byId("contents").append(...sections.map(({ name, label }) => h("li", {}, h("a", { href: `#${name}` }, label))));
  byId("skipped").hidden = skipped.length === 0;
  byId("skipped-list").append(...skipped.map(({ metric, why }) => h("div", {}, h("dt", {}, metric), h("dd", {}, why))));
  document.body.classList.remove("unpacking");
  for (const chart of charts) chart.fit();
  // The browser looked for the section before there was one to find.
  if (location.hash.length > 1) byId(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" });
}

function sectionNode({ name, label, meaning, figures, by_width: byWidth, curves, tables }, saes, charts) {
  const wide = intervalsChart(figures, saes);
  const small = [...byWidth, ...curves].map((curve) => seriesChart(curve, saes)).filter((chart) => chart !== null);
  charts.push(...(wide ? [wide] : []), ...small);
  return h("section", { id: name, class: "block", "aria-label": label },
    h("h2", {}, label), meaning ? h("p", { class: "note" }, meaning) : null,
    figures.length ? h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": `Figures of ${label}` },
      figuresTable(figures, saes)) : null,
    wide || small.length ? h("div", { class: "charts" }, [wide, ...small].filter((c) => c).map(({ node }) => node)) : null,
    tables.map((table) => detailsTable(table, saes.length > 1)));
}

// A table of one SAE, folded up: one row a concept, say.
function detailsTable({ label, meaning, columns, rows, sae }, several) {
  const numbers = columns.map((_, i) => rows.every((row) => typeof row[i] !== "string"));
  const side = (i) => ({ class: numbers[i] ? "number" : null });
  return h("details", { class: "all-figures" },
    h("summary", {}, `${label}, ${format.plural(rows.length, "row")}${several ? `: ${sae}` : ""}`),
    h("p", { class: "note" }, meaning),
    h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": label },
      h("table", { class: "plain" },
        h("thead", {}, h("tr", {}, columns.map((name, i) => h("th", { scope: "col", ...side(i) }, name)))),
        h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) => h("td", side(i),
          typeof cell === "string" ? cell : format.figure(cell)))))))));
}

function figuresTable(figures, saes) {
  return h("table", { class: "plain runs figures" },
    h("thead", {}, h("tr", {},
      h("th", { scope: "col" }, "Figure"),
      saes.map((sae) => h("th", { scope: "col", class: "number" },
        saes.length > 1 ? h("span", { class: `swatch ${sae.hue} on`, "aria-hidden": "true" }) : null,
        saes.length > 1 ? sae.name : "Value")),
      h("th", { scope: "col", class: "words" }, "What it says"))),
    h("tbody", {}, figures.map((figure) => figureRow(figure, saes))));
}

function figureRow({ label, meaning, direction, values, stderrs }, saes) {
  const best = bestValue(values, direction);
  return h("tr", {},
    h("th", { scope: "row" }, label, ARROWS[direction]
      ? h("span", { class: "direction", title: BETTER[direction] }, ARROWS[direction], h("span", { class: "sr" }, ` (${BETTER[direction]})`)) : null),
    values.map((value, i) => h("td", { class: value !== null && value === best ? "number best" : "number" },
      format.figure(value),
      stderrs[i] === null ? null : h("span", { class: "stderr", title: `standard error of ${saes[i].name}` }, ` \u00b1 ${format.figure(stderrs[i])}`))),
    h("td", { class: "words" }, meaning));
}

// The best value, if the SAEs differ in it and one end is better.
function bestValue(values, direction) {
  const known = values.filter((value) => value !== null);
  if (new Set(known).size < 2) return undefined;
  if (direction === "lower") return Math.min(...known);
  if (direction === "higher") return Math.max(...known);
  if (direction === "one") return known.reduce((a, b) => (Math.abs(b - 1) < Math.abs(a - 1) ? b : a));
  return undefined;
}

start(showEvaluation);
