// The pane beside the list: everything known about one latent.

class Detail {
  constructor(bundle, { open, step, close }) {
    this.bundle = bundle;
    this.open = open;
    this.step = step;
    this.close = close;
    this.pane = byId("detail");
    this.latent = null;
    this.chart = null;
    watchTokens(this.pane, bundle, () => this.latent);
  }

  show(latent) {
    this.latent = latent;
    this.pane.replaceChildren(
      ...[this.head(latent), this.figures(latent), this.words(latent), this.labels(latent),
        ...this.contexts(latent), this.histogram(latent), this.neighbours(latent)].filter(Boolean));
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
    const name = this.bundle.name(latent);
    const rationale = this.bundle.rationales[latent];
    const button = (label, glyph, act, extra = "") => h("button",
      { type: "button", class: `tool ${extra}`, "aria-label": label, title: label, on: { click: act } }, icon(glyph));
    return h("header", { class: "detail-head" },
      h("div", { class: "detail-tools" },
        button("Back to the list", "close", () => this.close(), "only-sheet"),
        h("span", { class: "eyebrow" }, `Latent ${latent}`),
        h("span", { class: "spacer" }),
        button("Previous latent in the list", "back", () => this.step(-1)),
        button("Next latent in the list", "next", () => this.step(1))),
      h("h3", { class: name ? null : "unnamed", tabindex: "-1", id: "detail-title" }, name ?? "Not named yet"),
      rationale ? h("p", { class: "rationale" }, rationale) : null);
  }

  figures(latent) {
    const { bundle } = this;
    const named = bundle.confidence[latent];
    const entries = [
      ["Firing rate", format.figure(bundle.rate[latent]), format.odds(bundle.rate[latent])],
      ["Largest activation", format.column(bundle.max_act[latent]), `${format.column(bundle.mean_act[latent])} on average when it fires`],
      Number.isNaN(named) ? null
        : ["Confidence of the name", named.toFixed(2), bundle.namers[latent] ? `named by ${bundle.namers[latent]}` : "0 to 1"],
      Number.isNaN(bundle.precision[latent]) ? null
        : ["Held-out precision", bundle.precision[latent].toFixed(2), "share of its held-out activation on the words of the name"],
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

  neighbours(latent) {
    const near = this.bundle.neighbours(latent);
    if (near.length === 0) return null;
    return h("section", {}, h("h4", {}, "Nearest latents"),
      h("ul", { class: "neighbours" }, near.map(({ latent: other, cosine }) => h("li", {},
        h("button", { type: "button", on: { click: () => this.open(other, { focus: true }) } },
          h("span", { class: "latent-id" }, other),
          h("span", { class: "neighbour-name" }, this.bundle.name(other) ?? "not named"),
          h("span", { class: "meter", "aria-hidden": "true" }, h("i", { vars: { "--size": `${Math.max(0, cosine) * 100}%` } })),
          h("span", { class: "number" }, cosine.toFixed(2).replace("-", MINUS)))))),
      h("p", { class: "note" }, "By cosine of decoder rows: what they write into the model is alike."));
  }
}
