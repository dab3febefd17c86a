// Light or dark: what the reader chose, or what the notebook says, or what the system says.

function storedTheme() {
  try {
    return localStorage.getItem("saetools-theme");
  } catch {
    return null;
  }
}

// JupyterLab, VS Code and Colab mark their theme on the document, each in its own way.
function notebookTheme() {
  const { body, documentElement: html } = document;
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false" ? "dark" : "light";
  const kind = body.dataset.vscodeThemeKind;
  if (kind) return /dark|high-contrast$/.test(kind) ? "dark" : "light";
  return ["dark", "light"].find((theme) => html.getAttribute("theme") === theme) ?? null;
}

function startTheme(root, button, { ownPage = true, signal, changed = () => {} } = {}) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = ownPage ? storedTheme() : null;
  const show = () => {
    const dark = (chosen ?? (ownPage ? null : notebookTheme()) ?? (system.matches ? "dark" : "light")) === "dark";
    if (root.dataset.theme === (dark ? "dark" : "light")) return;
    root.dataset.theme = dark ? "dark" : "light";
    button.setAttribute("aria-label", dark ? "Switch to the light theme" : "Switch to the dark theme");
    button.replaceChildren(icon(dark ? "sun" : "moon"));
    changed();
  };
  button.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    try {
      if (ownPage) localStorage.setItem("saetools-theme", chosen);
    } catch { /* sandboxed: the choice lasts as long as the page */ }
    show();
  });
  system.addEventListener("change", show, { signal });
  if (!ownPage) {
    const observer = new MutationObserver(show);
    const attributeFilter = ["data-jp-theme-light", "data-vscode-theme-kind", "theme"];
    for (const node of [document.body, document.documentElement]) observer.observe(node, { attributes: true, attributeFilter });
    signal?.addEventListener("abort", () => observer.disconnect());
  }
  show();
}
