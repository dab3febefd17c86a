// The pane beside the list: everything known about one latent.

class Detail {
  constructor(bundle, ui, { open, step, close, edits, renamed, steering, showCluster }) {
    Object.assign(this, { bundle, open, step, close, edits, renamed, steering, showCluster });
    this.pane = ui.byId("detail");
    this.latent = null;
    this.chart = null;
    watchTokens(this.pane, bundle, () => this.latent);
  }

  show(latent) {
    this.latent = latent;
    this.pane.replaceChildren(
      ...[this.head(latent), this.figures(latent), this.words(latent), this.labels(latent), this.steering.section(latent),
        ...this.contexts(latent), logitSection(this.bundle, latent), this.histogram(latent), ...this.relations(latent)].filter(Boolean));
    this.pane.scrollTop = 0;
    this.chart?.fit();
  }

  showNothing() {
    this.latent = null;
    this.pane.replaceChildren(h("div", { class: "nothing" },
      h("p", {}, "Choose a latent to see where it fires."),
      h("p", { class: "keys" },
        [["/", "search"], ["\u2191 \u2193", "move"], ["Enter", "read"]].map(([key, does]) => h("span", {},
          h("kbd", {}, key), ` ${does}`)))));
  }

  head(latent) {
    const rationale = this.bundle.edited.has(latent) ? null : this.bundle.rationales[latent];
    const button = (label, glyph, act, extra = "") => h("button",
      { type: "button", class: `tool ${extra}`, "aria-label": label, title: label, on: { click: act } }, icon(glyph));
    this.naming = new NameHead(this.bundle, latent, { edits: this.edits, renamed: this.renamed });
    return h("header", { class: "detail-head" },
      h("div", { class: "detail-tools" },
        button("Back to the list", "close", () => this.close(), "only-sheet"),
        h("span", { class: "eyebrow" }, `Latent ${latent}`),
        h("span", { class: "spacer" }),
        button("Previous latent in the list", "back", () => this.step(-1)),
        button("Next latent in the list", "next", () => this.step(1))),
      this.naming.node,
      rationale ? h("p", { class: "rationale" }, rationale) : null,
      this.cluster(latent));
  }

  cluster(latent) {
    const cluster = this.bundle.clusterOf(latent);
    if (cluster === null) return null;
    return h("button", { type: "button", class: "cluster", title: "Show this cluster on the map", on: { click: () => this.showCluster(cluster) } },
      h("i", { vars: { "--dot": clusterColour(cluster, this.pane.closest(".saetools").dataset.theme === "dark") } }),
      `Cluster ${cluster + 1} of ${this.bundle.clusters.length}, around \u201c${this.bundle.clusterName(cluster)}\u201d`);
  }

  figures(latent) {
    const { bundle } = this;
    const level = bundle.levelOf(latent);
    const namer = bundle.edited.has(latent) ? null : bundle.namers[latent];
    const entries = [
      ["Firing rate", format.figure(bundle.rate[latent]), format.odds(bundle.rate[latent])],
      ["Largest activation", format.column(bundle.max_act[latent]), `${format.column(bundle.mean_act[latent])} on average when it fires`],
      level === null ? null : ["Width level", String(level), `of ${bundle.widths.length}: among the first ${format.count(bundle.widths[level])} latents`],
      ...bundle.scores.map(({ name, note, about_name: aboutName }) => {
        const value = bundle.score(latent, name);
        // A score is of the name that was scored, and says nothing of one that a reader wrote since.
        if (Number.isNaN(value) || (aboutName && bundle.edited.has(latent))) return null;
        return [name[0].toUpperCase() + name.slice(1), format.score(value), note ?? (namer ? `named by ${namer}` : "")];
      }),
    ].filter(Boolean);
    return h("dl", { class: "detail-figures" }, entries.map(([name, value, note]) => h("div", {},
      h("dt", {}, name), h("dd", {}, h("span", { class: "mid" }, value), h("span", { class: "meaning" }, note)))));
  }

  words(latent) {
    const words = this.bundle.topWords(latent);
    if (words.length === 0) return null;
    return h("section", {}, h("h4", {}, "Words it fires on"),
      h("ul", { class: "words" }, words.map(({ word, share }) => h("li", {},
        h("span", { class: "word" }, word),
        h("span", { class: "meter", "aria-hidden": "true" }, h("i", { vars: { "--size": `${share * 100}%` } })),
        h("span", { class: "number" }, share < 0.005 ? "<1%" : `${Math.round(share * 100)}%`)))),
      h("p", { class: "note" }, "Share of its activation on training documents."));
  }

  labels(latent) {
    const best = this.bundle.bestLabels(latent);
    if (best.length === 0) return null;
    return h("section", {}, h("h4", {}, "Labels it separates"),
      h("ul", { class: "label-bars" }, best.map(({ label, train, heldOut }) => h("li",
        { title: `AUROC ${format.auroc(train)} on training documents, ${format.auroc(heldOut)} held out` },
        h("span", { class: "label-name" }, label),
        aurocScale({ train: Number.isNaN(train) ? null : train, held_out: Number.isNaN(heldOut) ? null : heldOut }),
        h("span", { class: "number" }, format.auroc(heldOut))))),
      h("p", { class: "note" }, "Document-level AUROC, held out; the ring is the AUROC on training documents."));
  }

  histogram(latent) {
    const counts = this.bundle.histogram(latent);
    this.chart = null;
    if (counts.length === 0 || Math.max(...counts) === 0) return null;
    const top = this.bundle.max_act[latent];
    this.chart = chartFigure({
      title: "Activations", note: "How often the latent reaches each strength, where it fires.", height: 130,
      draw: (width, height) => {
        const box = plotBox(width, height, { top: 6, bottom: 22, left: 44 });
        const y = linearScale([0, Math.max(...counts)], [box.bottom, box.top]);
        const x = linearScale([0, top], [box.left, box.right]);
        return chartSvg(width, height, "Histogram of activations", axes({ x, y, box, xTicks: 4, yTicks: 2 }),
          bars(box, y, counts.map((count, i) => ({
            value: count,
            lines: [format.plural(count, "token"), `${format.figure((top * i) / counts.length)} to ${format.figure((top * (i + 1)) / counts.length)}`],
          }))));
      },
    });
    return h("section", {}, this.chart.node);
  }

  contexts(latent) {
    const [first, last] = this.bundle.contextRange(latent);
    if (first === last) {
      return [h("section", {}, h("h4", {}, "Top contexts"), h("p", { class: "note" },
        this.bundle.rate[latent] > 0 ? "No contexts were kept for this latent." : "This latent never fired on the indexed tokens."))];
    }
    const [top, spread] = [[], []];
    for (let index = first; index < last; index++) {
      (this.bundle.context(index).isTop ? top : spread).push(contextBlock(this.bundle, latent, index));
    }
    const key = h("div", { class: "heat-key", "aria-hidden": "true" },
      h("span", {}, "0"), h("i", {}), h("span", {}, format.column(this.bundle.max_act[latent])));
    return [
      h("section", {}, h("h4", {}, "Top contexts"), key, h("ol", { class: "contexts" }, top)),
      spread.length === 0 ? null : h("section", {}, h("h4", {}, "Weaker contexts"),
        h("p", { class: "note" }, "Drawn evenly over the other documents it fires in: what the top contexts may hide."),
        h("ol", { class: "contexts" }, spread)),
    ];
  }

  relations(latent) {
    const open = (other) => this.open(other, { focus: true });
    return ["parents", "children", "together", "near"].map((kind) => relationSection(this.bundle, kind, latent, open));
  }
}
