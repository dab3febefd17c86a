// The elements that an explorer stands in, made in a shadow root: styles and ids of one explorer
// reach no other, and none of the notebook's.

function makeFrame(mount, { page, height, signal }) {
  const root = mount.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
  root.adoptedStyleSheets = [sheet];
  const wrap = h("div", { class: `saetools ${page ? "page" : "widget"} unpacking`, vars: { "--height": `${height}px` } },
    page ? pageHead() : null,
    h("div", { id: "failure", class: "failure", role: "alert", hidden: true },
      h("strong", {}, "This page could not be shown."), " ", h("span", { id: "failure-reason" })),
    page ? h("main", {}, pageIntro(), explorerFrame({ page })) : explorerFrame({ page }));
  root.append(wrap);
  return {
    root, wrap, page, signal,
    byId: (id) => root.getElementById(id),
    isNarrow: () => wrap.classList.contains("w-980"),
  };
}

function pageHead() {
  const link = (to, label, attributes = {}) => h("a", { href: `#${to}`, "data-goto": to, ...attributes }, label);
  return [
    link("latents", "Skip to the latents", { class: "skip" }),
    h("header", { class: "bar", id: "bar" }, h("div", { class: "bar-inner" },
      h("span", { class: "brand" }, "saetools"), h("span", { class: "bar-title", id: "bar-title" }),
      h("nav", { "aria-label": "Sections" },
        link("intro", "Overview", { class: "not-phone" }), link("charts-section", "Plots"),
        link("concepts", "Concepts"), link("latents", "Latents", { "data-tab": "table" }),
        link("latents", "Map", { "data-tab": "map", class: "not-phone" }),
        link("latents", "Prompts", { "data-tab": "prompts", class: "not-phone" })),
      themeButton())),
  ];
}

function themeButton(extra = "") {
  return h("button", { type: "button", class: `tool ${extra}`, id: "theme" });
}

function pageIntro() {
  return h("div", { id: "intro" },
    h("section", { class: "intro", "aria-labelledby": "title" },
      h("h1", { id: "title" }), h("p", { class: "lede", id: "summary", hidden: true }),
      h("dl", { class: "facts", id: "facts" }), h("dl", { class: "headline", id: "headline", hidden: true }),
      h("details", { class: "all-figures", id: "all-figures", hidden: true }, h("summary", {}, "All figures and what they mean"))),
    h("section", { id: "charts-section", class: "block", "aria-labelledby": "charts-heading", hidden: true },
      h("h2", { id: "charts-heading" }, "Training and evaluation"), h("div", { class: "charts", id: "charts" })),
    h("section", { id: "concepts", class: "block", "aria-labelledby": "concepts-heading", hidden: true },
      h("h2", { id: "concepts-heading" }, "Concepts"),
      h("p", { class: "note" }, "For each label, the latent that best tells its documents from all others. It was chosen on training documents; the held-out figure is from documents that neither the choice nor the training saw."),
      h("p", { class: "legend" }, h("span", { class: "auroc-dot train" }), " training documents ", h("span", { class: "auroc-dot held-out" }), " held out"),
      h("div", { class: "scroll-x", id: "concepts-table" })));
}

const TABS = { table: "Latents", map: "Map", prompts: "Prompts" };

function explorerFrame({ page }) {
  const tab = ([key, label]) => h("button", {
    type: "button", role: "tab", id: `tab-${key}`, "data-tab": key, "aria-controls": `panel-${key}`,
    "aria-selected": key === "table", tabindex: key === "table" ? "0" : "-1",
  }, label);
  const panel = (key, attributes, ...children) => h("div", {
    id: `panel-${key}`, class: "panel", role: "tabpanel", "aria-labelledby": `tab-${key}`, hidden: key !== "table", ...attributes,
  }, children);
  return h("section", { id: "latents", class: "explorer", "aria-label": "Latents" },
    h("div", { class: "list-pane", id: "list-pane" },
      h("div", { class: "toolbar", id: "toolbar" },
        h("div", { class: "tabs", role: "tablist", "aria-label": "Ways to look" }, Object.entries(TABS).map(tab)),
        h("span", { class: "count", id: "count", role: "status" }),
        h("label", { class: "search" }, h("span", { class: "sr" }, "Search names, labels and contexts"),
          h("input", { id: "q", type: "search", placeholder: "Name, label or text", autocomplete: "off", spellcheck: "false" }),
          h("kbd", { "aria-hidden": "true" }, "/")),
        h("label", { class: "field only-narrow" }, h("span", { class: "sr" }, "Order by"), h("select", { id: "sort-by" })),
        filtersFrame(),
        h("button", { type: "button", class: "button", id: "export", hidden: true }),
        page ? null : themeButton()),
      panel("table", {},
        h("div", { class: "grid", id: "grid", role: "grid", tabindex: "0", "aria-label": "Latents" },
          h("div", { class: "columns", id: "columns", role: "row", "aria-rowindex": "1" }),
          h("div", { class: "rows", id: "rows", role: "rowgroup" }),
          h("div", { class: "empty", id: "empty", hidden: true }, h("p", {}, "No latent fits."),
            h("button", { type: "button", id: "reset" }, "Clear search and filters")))),
      panel("map", {}),
      panel("prompts", { class: "panel prompt-panel" })),
    h("aside", { class: "detail", id: "detail", "aria-label": "The chosen latent" }));
}
