// Ways by which an edit was doubted, as a table: scores before and after, the figure that decides.

// A number of the report, its digits in full on hover.
function exact(value) {
  if (value === null) return h("span", { class: "dim" }, "\u2013");
  return h("span", { class: "exact", "data-value": value, title: String(value) }, format.figure(value));
}

function withInterval({ value, low, high }) {
  return [exact(value), low === null || high === null ? null
    : h("span", { class: "interval-text" }, " (", exact(low), " to ", exact(high), ")")];
}

function checksTable(checks, hasOracle, label) {
  const heads = ["Before", "After", ...(hasOracle ? ["Never knew"] : [])];
  return h("table", { class: "plain cards checks", "aria-label": label },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Way"), heads.map((name) => h("th", { scope: "col" }, name)),
      h("th", { scope: "col" }, "Figure and limit"), h("th", { scope: "col" }, "Outcome"))),
    h("tbody", {}, checks.map((check) => checkRow(check, heads))));
}

function checkRow(check, heads) {
  const scores = { Before: check.before, After: check.after, "Never knew": check.oracle };
  return h("tr", { class: check.figure ? "decides" : "told" },
    h("th", { scope: "row" }, check.name, h("span", { class: "meaning" }, check.asks),
      check.scored ? h("span", { class: "meaning scored" }, `Scores: ${check.scored}.`) : null),
    heads.map((name) => h("td", { class: scores[name] ? "score" : "score none", "data-label": name },
      scores[name] ? withInterval(scores[name]) : "\u2013")),
    h("td", { class: check.decides ? "bar-cell" : "bar-cell none", "data-label": "Figure and limit" },
      check.decides ? [bulletBar(check), h("div", { class: "decides-text" }, h("code", {}, check.figure), " ", withInterval(check.decides))] : "\u2013"),
    h("td", { class: "outcome", "data-label": "Outcome" }, outcome(check)));
}

function outcome({ figure, passed, clear, missing }) {
  if (!figure) return h("span", { class: "dim" }, "for information");
  if (passed === null) return [h("span", { class: "badge unknown" }, "? not measured"), h("span", { class: "meaning" }, missing)];
  return [h("span", { class: `badge ${passed ? "passed" : "failed"}` }, passed ? "\u2713 pass" : "\u2717 fail"),
    clear === false ? h("span", { class: "meaning" }, "the interval reaches across the limit") : null];
}
