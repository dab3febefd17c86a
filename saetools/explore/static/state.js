// What is shown: query, filters, order, latent. `#latent=123&q=birthday&sort=rate` is a deep link.

const DEFAULT_VIEW = { q: "", latent: null, sort: "rate", order: "down", tab: "table", score: null, ...NO_FILTER };

function readHash(bundle) {
  const asked = new URLSearchParams(location.hash.replace(/^#/, ""));
  const view = { ...DEFAULT_VIEW, score: bundle.scoreNames[0] ?? null };
  for (const key of ["q", ...Object.keys(NO_FILTER)]) if (asked.has(key)) view[key] = asked.get(key);
  const latent = Number.parseInt(asked.get("latent") ?? "", 10);
  view.latent = Number.isNaN(latent) ? null : latent;
  view.dead = asked.get("dead") === "1";
  if (asked.get("order") === "up") view.order = "up";
  if (SORT_KEYS[asked.get("sort")]) view.sort = asked.get("sort");
  if (TABS[asked.get("tab")]) view.tab = asked.get("tab");
  if (bundle.scoreNames.includes(asked.get("score"))) view.score = asked.get("score");
  return view;
}

function hashOf(view, bundle) {
  const parts = new URLSearchParams();
  const usual = { ...DEFAULT_VIEW, score: bundle.scoreNames[0] ?? null };
  for (const key of ["latent", "q", "tab", "sort", "order", "score", ...Object.keys(NO_FILTER)]) {
    if (view[key] !== usual[key]) parts.set(key, view[key] === true ? "1" : view[key]);
  }
  return `#${parts}`;
}

// In a sandboxed frame the address is not ours to change: the page works without it.
function writeHash(view, bundle, { push = false } = {}) {
  try {
    history[push ? "pushState" : "replaceState"](null, "", hashOf(view, bundle));
  } catch { /* sandboxed */ }
}
