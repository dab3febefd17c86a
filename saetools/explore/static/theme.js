// Light or dark: what the reader chose, or what the system says.

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
