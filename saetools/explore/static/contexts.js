// Tokens of a context, tinted by how strongly the latent fires on them.

function visible(token) {
  return token.replace(/\n/g, "\u21b5").replace(/\t/g, "\u21e5");
}

// The tint begins after a leading space: words are tinted, gaps are not.
function tokenNodes(bundle, at, { peak = false, hit = false } = {}) {
  const share = bundle.share(at);
  const text = visible(bundle.token(at));
  if (share === 0 && !hit) return [text];
  const word = text.trimStart();
  const gap = text.slice(0, text.length - word.length);
  const shown = hit ? h("mark", {}, word) : word;
  if (share === 0) return [gap, shown];
  return [gap, h("span", { class: peak ? "tok peak" : "tok", "data-at": at, vars: { "--heat": share.toFixed(3) } }, shown)];
}

// The few words around the strongest token, or around what was searched for: a row has no more room.
function snippetOf(bundle, index, found = null) {
  const { start, stop, peak } = bundle.context(index);
  const middle = found ? found.from : peak;
  const from = Math.max(start, middle - 4);
  const out = from > start ? ["\u2026"] : [];
  for (let at = from; at < Math.min(stop, middle + 12); at++) {
    out.push(tokenNodes(bundle, at, { hit: found !== null && at >= found.from && at <= found.to }));
  }
  return unindented(out.flat());
}

function unindented(nodes) {
  if (typeof nodes[0] === "string") nodes[0] = nodes[0].trimStart();
  return nodes;
}

function contextBlock(bundle, latent, index) {
  const { start, stop, peak, doc, title, label } = bundle.context(index);
  const tokens = [];
  for (let at = start; at < stop; at++) tokens.push(...tokenNodes(bundle, at, { peak: at === peak }));
  const strongest = bundle.share(peak) * bundle.max_act[latent];
  return h("li", { class: "context" },
    h("p", { class: "context-text", dir: "auto" }, unindented(tokens)),
    h("p", { class: "context-meta" },
      h("span", { class: "context-act", title: "activation of the strongest token" }, format.column(strongest)),
      h("span", { class: "context-title" }, title ?? `document ${format.count(doc)}`),
      label && label !== title ? h("span", { class: "chip" }, label) : null));
}

// One listener for all tokens: pointing at (or tapping) a token tells its activation.
function watchTokens(list, bundle, latent) {
  const point = (event) => {
    const token = event.target.closest?.(".tok");
    if (!token) {
      tooltip.hide();
      return;
    }
    const largest = bundle.max_act[latent()];
    const share = bundle.share(Number(token.dataset.at));
    tooltip.over(token, [format.column(share * largest), `${Math.round(share * 100)}% of ${format.column(largest)}`]);
  };
  list.addEventListener("pointerover", point);
  list.addEventListener("click", point);
  list.addEventListener("pointerleave", () => tooltip.hide());
}
