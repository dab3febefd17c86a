// The page as a whole: one view (query, filter, order, latent), read from the address and shown.

class App {
  constructor(bundle) {
    this.bundle = bundle;
    this.search = new Search(bundle);
    this.view = { ...DEFAULT_VIEW };
    this.list = new LatentList(bundle, {
      open: (latent, how) => this.open(latent, how),
      sort: (key) => this.sort(key),
    });
    this.detail = new Detail(bundle, {
      open: (latent, how) => this.open(latent, how),
      step: (n) => this.list.step(n),
      close: () => this.closeSheet(),
    });
    this.fillControls();
    this.listen();
  }

  fillControls() {
    const { bundle } = this;
    const labelled = new Set();
    for (let latent = 0; latent < bundle.n_latents; latent++) {
      const label = bundle.label(latent);
      if (label) labelled.add(label);
    }
    byId("label-filter").append(...[...labelled].sort().map((label) => h("option", { value: label }, label)));
    byId("label-field").hidden = labelled.size === 0;
    byId("sort-by").append(...Object.entries(SORT_KEYS).map(([key, { label }]) => h("option", { value: key }, label)));
    byId("dead-field").hidden = bundle.n_dead === 0;
    byId("dead-count").textContent = `Show ${format.count(bundle.n_dead)} dead`;
    const { grid } = this.list;
    grid.classList.toggle("no-confidence", !bundle.has_confidence);
    grid.classList.toggle("no-labels", labelled.size === 0);
  }

  listen() {
    let waiting = 0;
    byId("q").addEventListener("input", (event) => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.change({ q: event.target.value }), this.bundle.n_latents > 4000 ? 120 : 40);
    });
    byId("q").addEventListener("keydown", (event) => this.searchKey(event));
    byId("label-filter").addEventListener("change", (event) => this.change({ label: event.target.value }));
    byId("sort-by").addEventListener("change", (event) => this.change({ sort: event.target.value, order: "down" }));
    byId("dead").addEventListener("change", (event) => this.change({ dead: event.target.checked }));
    byId("reset").addEventListener("click", () => this.change({ q: "", label: "" }));
    document.addEventListener("keydown", (event) => this.pageKey(event));
    addEventListener("hashchange", () => this.follow());
    addEventListener("popstate", () => this.follow());
    for (const link of document.querySelectorAll("[data-goto]")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        byId(link.dataset.goto).scrollIntoView();
      });
    }
  }

  searchKey(event) {
    if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      this.list.grid.focus({ preventScroll: true });
      if (!this.list.places.has(this.view.latent)) this.list.step(1);
    } else if (event.key === "Escape") {
      event.target.value = "";
      this.change({ q: "" });
    }
  }

  pageKey(event) {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      byId("latents").scrollIntoView();
      byId("q").focus({ preventScroll: true });
      byId("q").select();
    } else if (event.key === "Escape" && document.body.classList.contains("sheet-open")) {
      this.closeSheet();
    } else if (event.key === "Escape" && this.detail.pane.contains(document.activeElement)) {
      this.list.grid.focus({ preventScroll: true });
    }
  }

  change(part) {
    Object.assign(this.view, part);
    writeHash(this.view);
    this.refresh();
    if (this.view.latent === null && !isNarrow()) this.preview();
  }

  sort(key) {
    const turned = this.view.sort === key && this.view.order === "down" ? "up" : "down";
    this.change({ sort: key, order: turned });
  }

  refresh() {
    const { view, bundle } = this;
    const { latents, shown } = this.search.run(view);
    sortLatents(bundle, latents, view);
    this.list.show({ latents, shown, query: view.q.trim().toLowerCase(), ...view, selected: view.latent });
    if (view.latent !== null) this.list.reveal(view.latent);
    const total = bundle.n_latents;
    byId("count").textContent = latents.length === total ? format.plural(total, "latent")
      : `${format.count(latents.length)} of ${format.plural(total, "latent")}`;
    byId("q").value = view.q;
    byId("label-filter").value = view.label;
    byId("sort-by").value = view.sort;
    byId("dead").checked = view.dead;
  }

  // quiet: the list keeps the focus, and a phone does not open the sheet.
  // push: "back" leads to where the reader was before.
  open(latent, { quiet = false, focus = false, push = isNarrow() && !quiet } = {}) {
    if (!(latent >= 0 && latent < this.bundle.n_latents)) return;
    this.view.latent = latent;
    this.detail.show(latent);
    this.list.select(latent);
    writeHash(this.view, { push });
    const sheet = isNarrow() && !quiet;
    if (sheet) this.setSheet(true);
    if (focus || sheet) byId("detail-title").focus({ preventScroll: true });
  }

  // From elsewhere on the page: show the latent, and bring the reader to it.
  visit(latent) {
    this.open(latent, { focus: true, push: true });
    byId("latents").scrollIntoView();
  }

  // On a narrow page the detail covers everything else, which then takes no focus.
  setSheet(open) {
    document.body.classList.toggle("sheet-open", open);
    for (const part of ["bar", "intro", "list-pane"]) byId(part).inert = open;
  }

  closeSheet() {
    this.setSheet(false);
    this.view.latent = null;
    writeHash(this.view);
    this.list.grid.focus({ preventScroll: true });
  }

  // Take the view from the address; at the start, or when the reader goes back or edits it.
  follow() {
    this.view = readHash();
    if (this.view.latent !== null && this.bundle.rate[this.view.latent] === 0) this.view.dead = true;
    this.refresh();
    const { latent } = this.view;
    if (latent === null || !(latent < this.bundle.n_latents)) {
      this.view.latent = null;
      this.setSheet(false);
      if (!isNarrow()) this.preview();
    } else {
      this.open(latent, { push: false });
    }
  }

  // With nothing chosen, a wide page shows the first latent of the list rather than a hole.
  preview() {
    const latent = this.list.latents[0];
    if (latent === undefined) {
      this.detail.showNothing();
      return;
    }
    this.detail.show(latent);
    this.list.select(latent);
  }
}

function isNarrow() {
  return matchMedia("(max-width: 980px)").matches;
}

function showExplorer(bundle) {
  showHeader(bundle);
  showHeadline(bundle);
  showCharts(bundle);
  document.body.classList.remove("unpacking");
  const app = new App(bundle);
  showConcepts(bundle, (latent) => app.visit(latent));
  for (const link of document.querySelectorAll("nav [data-goto]")) link.hidden = byId(link.dataset.goto).hidden;
  app.follow();
  if (/(^|[#&])(latent|q|label)=/.test(location.hash)) byId("latents").scrollIntoView({ behavior: "instant" });
}

start(showExplorer, openBundle);
