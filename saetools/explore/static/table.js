// The table of runs: each heading sorts; runs without a value stand last in either order.

const text = (value) => value ?? "\u2013";
const COLUMNS = [
  { key: "name", label: "Run", kind: "text" },
  { key: "architecture", label: "Architecture", kind: "text" },
  { key: "n_latents", label: "Latents", show: format.count },
  { key: "k", label: "k", show: format.figure },
  { key: "seed", label: "Seed", show: String },
  { key: "n_tokens", label: "Tokens", show: format.short },
  { key: "fvu", label: "FVU", show: digits, best: Math.min },
  { key: "l0", label: "L0", show: format.column },
  { key: "dead_fraction", label: "Dead", show: digits, best: Math.min },
  { key: "loss_recovered", label: "Loss recovered", show: digits, best: Math.max },
  { key: "tokens_per_second", label: "Tokens/s", show: format.short, best: Math.max },
  { key: "measured_on", label: "Measured by", kind: "text" },
];

function digits(value) {
  return value !== 0 && Math.abs(value) < 0.0005 ? format.figure(value) : value.toFixed(3);
}

function runsTable(runs) {
  const columns = COLUMNS.filter(({ key }) => key === "name" || worthShowing(key, runs));
  const best = Object.fromEntries(columns.filter((column) => column.best).map((column) => [column.key, bestOf(column, runs)]));
  let order = orderOf(location.hash, columns);
  const body = h("tbody", {});
  const headers = columns.map((column) => h("th", { scope: "col", class: column.kind === "text" ? null : "number" },
    h("button", { type: "button", on: { click: () => sort(column) } }, h("span", {}, column.label), icon("down"))));
  function sort({ key, kind }) {
    // Text and costs begin with the smallest, everything else with the largest.
    const first = kind === "text" || ["fvu", "l0", "dead_fraction", "seed"].includes(key);
    order = order.key === key ? { key, up: !order.up } : { key, up: first };
    try {
      history.replaceState(null, "", `#sort=${key}&order=${order.up ? "up" : "down"}`);
    } catch { /* in a notebook's sandboxed frame the address is not ours to change */ }
    draw();
  }
  function draw() {
    columns.forEach(({ key }, i) => headers[i].setAttribute("aria-sort",
      key !== order.key ? "none" : order.up ? "ascending" : "descending"));
    body.replaceChildren(...sorted(runs, order).map((run) => runRow(run, columns, best)));
  }
  draw();
  return h("table", { class: "plain runs" }, h("thead", {}, h("tr", {}, headers)), body);
}

// The order that the address asks for: `#sort=l0&order=down`; the lowest FVU first otherwise.
function orderOf(hash, columns) {
  const asked = new URLSearchParams(hash.slice(1));
  const known = columns.some(({ key }) => key === asked.get("sort"));
  return known ? { key: asked.get("sort"), up: asked.get("order") !== "down" } : { key: "fvu", up: true };
}

function sorted(runs, { key, up }) {
  return [...runs].sort((a, b) => {
    const [one, other] = [a[key], b[key]];
    if (one === null || other === null) return (one === null) - (other === null) || a.id - b.id;
    const less = typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other;
    return (up ? less : -less) || a.id - b.id;
  });
}

function runRow(run, columns, best) {
  return h("tr", {
    "data-run": run.id,
    on: { pointerenter: () => emphasis.show(run.id), pointerleave: () => emphasis.show(null) },
  }, columns.map(({ key, kind, show }) => {
    if (key === "name") {
      return h("th", { scope: "row", title: run.folder },
        h("span", { class: `swatch ${run.hue}${run.frontier ? " on" : ""}`, "aria-hidden": "true" }),
        h("span", { class: "name" }, run.name), run.frontier ? h("span", { class: "sr" }, " (on the frontier)") : null);
    }
    if (kind === "text") return h("td", { class: key === "measured_on" ? "where" : null }, text(run[key]));
    const isBest = best[key] !== undefined && run[key] === best[key];
    return h("td", { class: isBest ? "number best" : "number" }, run[key] === null ? "\u2013" : show(run[key]));
  }));
}

// The best value, if the runs differ in it.
function bestOf({ key, best }, runs) {
  const values = runs.map((run) => run[key]).filter((value) => value !== null);
  return new Set(values).size > 1 ? best(...values) : undefined;
}

// A column that no run has is no column; where figures come from matters if runs differ in it.
function worthShowing(key, runs) {
  const values = new Set(runs.map((run) => run[key]));
  if (key === "measured_on") return values.size > 1;
  return values.size > 1 || !values.has(null);
}
