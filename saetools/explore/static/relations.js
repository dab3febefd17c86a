// Parts of a latent's page: which latents it is related to, and which tokens it makes likelier.

const RELATIONS = {
  near: { title: "Nearest by decoder", note: "Cosine of decoder rows: what they write into the model is alike." },
  together: { title: "Fire together", note: null }, // the note comes with the data: how it was measured
  parents: { title: "Parents", note: "Latents of a narrower level that fire on most of the tokens on which this one fires; the figure is that share." },
  children: { title: "Children", note: "Latents of a wider level that fire, mostly, where this one fires; the figure is the share of their tokens." },
};

function relationSection(bundle, kind, latent, open) {
  const near = bundle.related(kind, latent);
  if (near.length === 0) return null;
  const { title, note } = RELATIONS[kind];
  return h("section", { class: `relation-${kind}` }, h("h4", {}, title), latentButtons(bundle, near, open),
    h("p", { class: "note" }, note ?? bundle.together_note));
}

// Latents as buttons with a bar: [{latent, score, text}].
function latentButtons(bundle, found, open) {
  return h("ul", { class: "neighbours" }, found.map(({ latent, score, text }) => h("li", {},
    h("button", { type: "button", "data-open": latent, on: { click: () => open(latent) } },
      h("span", { class: "latent-id" }, latent),
      h("span", { class: bundle.name(latent) ? "neighbour-name" : "neighbour-name unnamed" }, bundle.name(latent) ?? "not named"),
      h("span", { class: "meter", "aria-hidden": "true" }, h("i", { vars: { "--size": `${Math.max(0, Math.min(1, score)) * 100}%` } })),
      h("span", { class: "number" }, text ?? format.score(score))))));
}

function logitSection(bundle, latent) {
  if (bundle.n_logits === 0) return null;
  const column = (end, title) => {
    const tokens = bundle.logits(end, latent);
    return h("div", {}, h("h5", {}, title), h("ul", {}, tokens.map(({ token, z }) => h("li", {},
      h("span", { class: "piece" }, visible(token).replace(/^ /, "\u00b7")), h("span", { class: "number" }, z.toFixed(1).replace("-", MINUS))))));
  };
  if (bundle.logits("promoted", latent).length === 0) return null;
  return h("section", {}, h("h4", {}, "Tokens it makes likelier, and less likely"),
    h("div", { class: "logits" }, column("promoted", "promoted"), column("suppressed", "suppressed")),
    h("p", { class: "note" }, "Logit lens: its decoder row through the unembedding, as z over the vocabulary. What it pushes the next token to if nothing in between undoes it."));
}
