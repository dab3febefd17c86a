// What the address says, and which theme is on. `#latent=123&q=birthday&sort=rate` is a deep link.

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

function storedTheme() {
  try {
    return localStorage.getItem("saetools-theme");
  } catch {
    return null;
  }
}

function startTheme(button) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = storedTheme();
  const show = () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.setAttribute("aria-label", dark ? "Switch to the light theme" : "Switch to the dark theme");
    button.replaceChildren(icon(dark ? "sun" : "moon"));
  };
  button.addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("saetools-theme", chosen);
    } catch { /* sandboxed: the choice lasts as long as the page */ }
    show();
  });
  system.addEventListener("change", show);
  show();
}
