// What an edit touched: weights by layer and matrix, latents before and after.

const SHOWN_LATENTS = 20;

function weightGrid({ columns, rows }) {
  const most = Math.max(...rows.flatMap(({ values }) => values.filter((value) => value !== null)), 1e-30);
  return h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": "Changes by layer and matrix" },
    h("table", { class: "plain heat" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Layer"), columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map(({ layer, values }) => h("tr", {}, h("th", { scope: "row" }, String(layer)),
        values.map((value) => h("td", { class: "number", vars: { "--heat": value === null ? "0" : (value / most).toFixed(3) } },
          value === null ? "" : exact(value))))))));
}

function changesTable(changes) {
  return foldedTable(`All ${format.plural(changes.length, "weight tensor")} that changed`, ["Tensor", "Norm of the change", "By its norm before", "Entries"],
    changes.map(({ name, norm, relative, n_changed: n }) => [name, norm, relative, n]));
}

function latentsTable(latents) {
  const heads = ["Hook", "Latent", "Writes most", "Forget before", "Forget after", "Retain before", "Retain after"];
  const cells = latents.map((one) => [one.hook_name, String(one.latent), one.words, one.before, one.after, one.retain_before, one.retain_after]);
  return [
    h("h3", {}, format.plural(latents.length, "latent"), " acted on"),
    h("p", { class: "note" }, "Chosen because they fire on what was to be forgotten and less elsewhere, which is no proof of what they mean. Those that fired most come first. Mean activation on the tokens of forget questions and of retain questions, before and after."),
    h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": "Latents" }, plainTable(heads, cells.slice(0, SHOWN_LATENTS))),
    cells.length > SHOWN_LATENTS ? foldedTable(`The other ${format.plural(cells.length - SHOWN_LATENTS, "latent")}`, heads, cells.slice(SHOWN_LATENTS)) : null,
  ];
}

function plainTable(heads, rows) {
  const numbers = heads.map((_, i) => rows.every((row) => typeof row[i] !== "string"));
  const side = (i) => ({ class: numbers[i] ? "number" : null });
  return h("table", { class: "plain" },
    h("thead", {}, h("tr", {}, heads.map((name, i) => h("th", { scope: "col", ...side(i) }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) => h("td", side(i), typeof cell === "string" ? cell : exact(cell)))))));
}

function foldedTable(title, heads, rows) {
  return h("details", { class: "all-figures" }, h("summary", {}, title),
    h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": title }, plainTable(heads, rows)));
}
