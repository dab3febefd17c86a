// What the address says. `#latent=123&q=birthday&sort=rate` is a deep link.

const DEFAULT_VIEW = { q: "", latent: null, label: "", sort: "rate", order: "down", dead: false };

function readHash() {
  const asked = new URLSearchParams(location.hash.replace(/^#/, ""));
  const latent = Number.parseInt(asked.get("latent") ?? "", 10);
  return {
    q: asked.get("q") ?? "",
    latent: Number.isNaN(latent) ? null : latent,
    label: asked.get("label") ?? "",
    sort: SORT_KEYS[asked.get("sort")] ? asked.get("sort") : DEFAULT_VIEW.sort,
    order: asked.get("order") === "up" ? "up" : "down",
    dead: asked.get("dead") === "1",
  };
}

function hashOf(view) {
  const parts = new URLSearchParams();
  if (view.latent !== null) parts.set("latent", view.latent);
  if (view.q) parts.set("q", view.q);
  if (view.label) parts.set("label", view.label);
  if (view.sort !== DEFAULT_VIEW.sort) parts.set("sort", view.sort);
  if (view.order !== DEFAULT_VIEW.order) parts.set("order", view.order);
  if (view.dead) parts.set("dead", "1");
  return `#${parts}`;
}

// In a notebook's sandboxed frame the address is not ours to change: the page works without it.
function writeHash(view, { push = false } = {}) {
  try {
    history[push ? "pushState" : "replaceState"](null, "", hashOf(view));
  } catch { /* sandboxed */ }
}
