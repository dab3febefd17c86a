// How a run is told from the others: by its hue, the same in every part of the page.

const N_HUES = 8;

// Up to eight runs have a hue each; of more, those of one architecture share one.
function styleRuns(runs) {
  const groups = [...new Set(runs.map((run) => run.architecture))];
  const grouped = runs.length > N_HUES;
  return runs.map((run, i) => ({
    ...run, id: i, grouped, hue: `hue-${(grouped ? groups.indexOf(run.architecture) : i) % N_HUES}`,
  }));
}

// Everything on the page that stands for a run: pointing at one brings out all of that run.
const emphasis = {
  nodes: [],

  add(node, run) {
    this.nodes.push({ node, id: run.id });
    return node;
  },

  show(id) {
    this.nodes = this.nodes.filter(({ node }) => node.isConnected);
    for (const entry of this.nodes) {
      entry.node.classList.toggle("strong", entry.id === id);
      entry.node.classList.toggle("faded", id !== null && entry.id !== id);
    }
  },
};

function runLines(run) {
  return [run.name, `FVU ${format.figure(run.fvu)}, L0 ${format.figure(run.l0)}`,
    `${run.architecture}, ${format.count(run.n_latents)} latents${run.frontier ? ", on the frontier" : ""}`];
}

// What each hue stands for: a run, or an architecture.
function hueLegend(runs) {
  if (!runs[0].grouped) {
    return h("ul", { class: "curve-legend" }, runs.map((run) => emphasis.add(h("li", {
      class: "run", on: { pointerenter: () => emphasis.show(run.id), pointerleave: () => emphasis.show(null) },
    }, hueStroke(run), run.name), run)));
  }
  const first = new Map(runs.map((run) => [run.architecture, run]));
  return h("ul", { class: "curve-legend" }, [...first.values()].map((run) => h("li", {}, hueStroke(run), run.architecture)));
}

function hueStroke(run) {
  return h("span", { class: `stroke ${run.hue}`, "aria-hidden": "true" });
}
