// Which latents are listed, besides the search: what the reader sets in the box of filters.

const FILTERS = {
  named: { label: "Name", options: [["", "Any"], ["yes", "Named"], ["no", "Not named"], ["edited", "Edited by you"]] },
  label: { label: "Best label" },
  level: { label: "Width level" },
  cluster: { label: "Cluster" },
};
const BOUNDS = { rate: "Firing rate", score: "Score" };
const NO_FILTER = { named: "", label: "", level: "", cluster: "", rateMin: "", rateMax: "", scoreMin: "", scoreMax: "", dead: false };

function filtersFrame() {
  const choice = (key) => [
    h("span", { id: `${key}-field`, class: "filter-name" }, FILTERS[key].label),
    h("select", { id: `${key}-filter`, "aria-labelledby": `${key}-field` }),
  ];
  const bound = (key) => [
    h("span", { id: `${key}-bounds` }, BOUNDS[key]),
    h("div", { class: "pair" }, ["Min", "Max"].map((end, i) => [
      i ? h("span", { "aria-hidden": "true" }, "to") : null,
      h("input", { type: "number", step: "any", min: "0", id: `${key}${end}`, "aria-label": `${BOUNDS[key]}, ${end === "Min" ? "at least" : "at most"}`, placeholder: end === "Min" ? "any" : "any" }),
    ])),
  ];
  return h("details", { class: "filters", id: "filters" },
    h("summary", {}, "Filter", h("span", { class: "badge", id: "n-filters", hidden: true })),
    h("div", { class: "filter-box" },
      h("span", { id: "score-field", class: "filter-name" }, "Score shown"), h("select", { id: "score-by", "aria-labelledby": "score-field" }),
      Object.keys(FILTERS).map(choice), Object.keys(BOUNDS).map(bound),
      h("label", { class: "check", id: "dead-field" }, h("input", { type: "checkbox", id: "dead" }), " ", h("span", { id: "dead-count" })),
      h("div", { class: "filter-foot" }, h("button", { type: "button", class: "button", id: "clear-filters" }, "Clear filters"))));
}

// A test of one latent, or null where no filter is set.
function filterTest(bundle, view) {
  const tests = [];
  // Columns are float32: 0.1 there is not quite 0.1, and "at least 0.1" means it, too.
  const number = (text) => (text === "" || Number.isNaN(Number(text)) ? null : Math.fround(Number(text)));
  const bounds = (values, low, high) => {
    if (low !== null) tests.push((latent) => values(latent) >= low);
    if (high !== null) tests.push((latent) => values(latent) <= high);
  };
  if (!view.dead) tests.push((latent) => bundle.rate[latent] > 0);
  if (view.label) tests.push((latent) => bundle.label(latent) === view.label);
  if (view.level !== "") tests.push((latent) => bundle.level[latent] === Number(view.level));
  if (view.cluster !== "") tests.push((latent) => bundle.cluster[latent] === Number(view.cluster));
  if (view.named === "edited") tests.push((latent) => bundle.edited.has(latent));
  else if (view.named) tests.push((latent) => (bundle.name(latent) !== null) === (view.named === "yes"));
  bounds((latent) => bundle.rate[latent], number(view.rateMin), number(view.rateMax));
  bounds((latent) => bundle.score(latent, view.score), number(view.scoreMin), number(view.scoreMax));
  return (latent) => tests.every((test) => test(latent));
}

class Filters {
  constructor(bundle, ui, change) {
    this.bundle = bundle;
    this.ui = ui;
    this.change = change;
    this.fill();
    this.listen();
  }

  fill() {
    const { bundle, ui } = this;
    const labelled = new Set();
    for (let latent = 0; latent < bundle.n_latents; latent++) labelled.add(bundle.label(latent));
    labelled.delete(null);
    const options = {
      named: FILTERS.named.options,
      label: [["", "Any"], ...[...labelled].sort().map((label) => [label, label])],
      level: [["", "Any"], ...bundle.widths.map((width, level) => [String(level), `${level} (first ${format.count(width)})`])],
      cluster: [["", "Any"], ...bundle.clusters.map((cluster, i) => [String(i), `${i + 1}: ${bundle.clusterName(i)} (${cluster.n})`])],
    };
    for (const [key, found] of Object.entries(options)) {
      ui.byId(`${key}-filter`).append(...found.map(([value, label]) => h("option", { value }, label)));
      for (const part of [`${key}-filter`, `${key}-field`]) ui.byId(part).hidden = found.length < 3;
    }
    ui.byId("score-by").append(...bundle.scoreNames.map((name) => h("option", { value: name }, name)));
    for (const part of ["score-by", "score-field"]) ui.byId(part).hidden = bundle.scoreNames.length < 2;
    if (bundle.scoreNames.length === 0) {
      ui.byId("score-bounds").hidden = true;
      ui.byId("scoreMin").parentElement.hidden = true;
    }
    ui.byId("dead-field").hidden = bundle.n_dead === 0;
    ui.byId("dead-count").textContent = `Show ${format.count(bundle.n_dead)} dead`;
    this.hasLabels = labelled.size > 0;
  }

  listen() {
    const { ui } = this;
    for (const key of Object.keys(FILTERS)) {
      ui.byId(`${key}-filter`).addEventListener("change", (event) => this.change({ [key]: event.target.value }));
    }
    for (const key of ["rateMin", "rateMax", "scoreMin", "scoreMax"]) {
      ui.byId(key).addEventListener("input", (event) => this.change({ [key]: event.target.value }));
    }
    ui.byId("score-by").addEventListener("change", (event) => this.change({ score: event.target.value }));
    ui.byId("dead").addEventListener("change", (event) => this.change({ dead: event.target.checked }));
    ui.byId("clear-filters").addEventListener("click", () => this.change({ ...NO_FILTER }));
    const box = ui.byId("filters");
    ui.root.addEventListener("pointerdown", (event) => {
      if (!box.contains(event.target)) box.open = false;
    });
  }

  // Closes the box and says whether it was open.
  close() {
    const box = this.ui.byId("filters");
    const wasOpen = box.open;
    box.open = false;
    if (wasOpen) box.firstElementChild.focus();
    return wasOpen;
  }

  show(view) {
    const { ui } = this;
    for (const key of Object.keys(FILTERS)) ui.byId(`${key}-filter`).value = view[key];
    for (const key of ["rateMin", "rateMax", "scoreMin", "scoreMax"]) {
      if (ui.byId(key).value !== view[key]) ui.byId(key).value = view[key];
    }
    ui.byId("score-by").value = view.score ?? "";
    ui.byId("dead").checked = view.dead;
    const set = Object.keys(NO_FILTER).filter((key) => view[key] !== NO_FILTER[key]).length;
    ui.byId("n-filters").hidden = set === 0;
    ui.byId("n-filters").textContent = set;
  }
}
