// The explorer as a whole: one view (query, filters, order, tab, latent), shown in all its parts.

class App {
  constructor(bundle, ui, host) {
    Object.assign(this, { bundle, ui, host });
    this.edits = new Edits(bundle, host);
    this.search = new Search(bundle);
    this.view = { ...DEFAULT_VIEW, score: bundle.scoreNames[0] ?? null };
    this.filters = new Filters(bundle, ui, (part) => this.change(part));
    const open = (latent, how) => this.open(latent, how);
    this.columns = columnsOf(bundle, this.filters);
    this.list = new LatentList(bundle, ui, { open, sort: (key) => this.sort(key), columns: this.columns });
    this.map = new LatentMap(bundle, ui, { open, filter: (part) => this.change(part) });
    this.prompts = new PromptView(bundle, ui, host, { open: (latent) => this.open(latent) });
    this.detail = new Detail(bundle, ui, {
      open, step: (n) => this.list.step(n), close: () => this.closeSheet(), edits: this.edits,
      renamed: () => this.renamed(), steering: new Steering(bundle, host),
      showCluster: (cluster) => this.change({ cluster: String(cluster), tab: "map" }),
    });
  }

  start() {
    const { ui, bundle } = this;
    startTheme(ui.wrap, ui.byId("theme"), { ownPage: ui.page, signal: ui.signal, changed: () => this.themed() });
    if (ui.page) this.startPage();
    ui.byId("sort-by").append(...this.columns.map((key) => h("option", { value: key }, SORT_KEYS[key].label)));
    ui.wrap.classList.remove("unpacking");
    this.listen();
    this.showExport();
    if (ui.page) this.follow();
    else this.followModel();
    if (ui.page && /(^|[#&])(latent|q|label|tab)=/.test(location.hash)) ui.byId("latents").scrollIntoView({ behavior: "instant" });
    return bundle;
  }

  startPage() {
    const { ui, bundle } = this;
    showHeader(bundle, ui);
    showHeadline(bundle, ui);
    showCharts(bundle, ui);
    showConcepts(bundle, ui, (latent) => this.visit(latent));
    for (const link of ui.root.querySelectorAll("[data-goto]")) {
      link.hidden = ui.byId(link.dataset.goto).hidden;
      link.addEventListener("click", (event) => {
        event.preventDefault();
        if (link.dataset.tab) this.change({ tab: link.dataset.tab });
        ui.byId(link.dataset.goto).scrollIntoView();
        if (link.classList.contains("skip")) this.list.grid.focus({ preventScroll: true });
      });
    }
    addEventListener("hashchange", () => this.follow(), { signal: ui.signal });
    addEventListener("popstate", () => this.follow(), { signal: ui.signal });
  }

  themed() {
    if (this.ui.page) {
      const { style } = document.documentElement;
      style.colorScheme = this.ui.wrap.dataset.theme;
      style.background = getComputedStyle(this.ui.wrap).backgroundColor;
    }
    this.map.show(this.shownLatents ?? [], this.view);
  }

  listen() {
    const { ui } = this;
    let waiting = 0;
    const box = ui.byId("q");
    box.addEventListener("input", () => {
      clearTimeout(waiting);
      // Once an event has left the shadow root, its target is the root's host.
      waiting = setTimeout(() => this.change({ q: box.value }), this.bundle.n_latents > 4000 ? 120 : 40);
    });
    ui.byId("q").addEventListener("keydown", (event) => this.searchKey(event));
    ui.byId("sort-by").addEventListener("change", (event) => this.change({ sort: event.target.value, order: "down" }));
    ui.byId("reset").addEventListener("click", () => this.change({ q: "", ...NO_FILTER }));
    ui.byId("export").addEventListener("click", () => this.edits.download());
    const tabs = [...ui.root.querySelectorAll("[role=tab]")];
    tabs.forEach((tab, i) => {
      tab.addEventListener("click", () => this.change({ tab: tab.dataset.tab }));
      tab.addEventListener("keydown", (event) => {
        const to = { ArrowRight: i + 1, ArrowLeft: i - 1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        const next = tabs[(to + tabs.length) % tabs.length];
        this.change({ tab: next.dataset.tab });
        next.focus();
      });
    });
    // A page listens to all keys; a widget to those that are pressed inside it.
    (ui.page ? document : ui.wrap).addEventListener("keydown", (event) => this.key(event), { signal: ui.signal });
  }

  searchKey(event) {
    if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      if (this.view.tab !== "table") this.change({ tab: "table" });
      this.list.grid.focus({ preventScroll: true });
      if (!this.list.places.has(this.view.latent)) this.list.step(1);
    } else if (event.key === "Escape") {
      event.target.value = "";
      this.change({ q: "" });
    }
  }

  key(event) {
    const { ui } = this;
    const target = event.composedPath()[0];
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName) && target.type !== "checkbox";
    const plain = !typing && !event.ctrlKey && !event.metaKey && !event.altKey;
    if (event.key === "/" && plain) {
      event.preventDefault();
      if (ui.page) ui.byId("latents").scrollIntoView();
      ui.byId("q").focus({ preventScroll: true });
      ui.byId("q").select();
    } else if (event.key === "e" && plain && this.detail.latent !== null) {
      event.preventDefault();
      if (ui.isNarrow()) this.setSheet(true);
      this.detail.naming.edit();
    } else if (event.key === "Escape") {
      if (this.filters.close()) return;
      if (ui.wrap.classList.contains("sheet-open")) this.closeSheet();
      else if (this.detail.pane.contains(ui.root.activeElement)) this.list.grid.focus({ preventScroll: true });
    }
  }

  change(part) {
    Object.assign(this.view, part);
    this.remember();
    this.refresh();
    if (this.view.latent === null && !this.ui.isNarrow()) this.preview();
  }

  // A page keeps its view in the address.
  remember(how) {
    if (this.ui.page) writeHash(this.view, this.bundle, how);
  }

  sort(key) {
    const turned = this.view.sort === key && this.view.order === "down" ? "up" : "down";
    this.change({ sort: key, order: turned });
  }

  refresh() {
    const { view, bundle, ui } = this;
    const { latents, shown } = this.search.run(view);
    sortLatents(bundle, latents, view);
    groupByMatch(latents, shown);
    this.shownLatents = latents;
    this.showTab();
    this.list.show({ latents, shown, query: view.q.trim().toLowerCase(), ...view, selected: view.latent });
    if (view.latent !== null) this.list.reveal(view.latent);
    this.map.show(latents, view);
    this.filters.show(view);
    const total = bundle.n_latents;
    ui.byId("count").textContent = latents.length === total ? format.plural(total, "latent")
      : `${format.count(latents.length)} of ${format.plural(total, "latent")}`;
    if (ui.byId("q").value !== view.q) ui.byId("q").value = view.q;
    ui.byId("sort-by").value = view.sort;
  }

  showTab() {
    const { view, ui } = this;
    for (const key of Object.keys(TABS)) {
      ui.byId(`panel-${key}`).hidden = key !== view.tab;
      ui.byId(`tab-${key}`).setAttribute("aria-selected", key === view.tab);
      ui.byId(`tab-${key}`).tabIndex = key === view.tab ? 0 : -1;
    }
    ui.byId("toolbar").classList.toggle("bare", view.tab === "prompts");
    ui.byId("toolbar").classList.toggle("on-map", view.tab === "map");
    if (view.tab === "prompts") this.prompts.shown();
  }

  renamed() {
    this.refresh();
    if (this.view.latent === null) this.list.select(this.detail.latent);
    this.showExport();
  }

  showExport() {
    const n = this.edits.size;
    const button = this.ui.byId("export");
    button.hidden = n === 0 || this.edits.live;
    button.textContent = `Export ${format.plural(n, "name")}`;
    button.title = "Export the edited names as CSV; `saetools name RUN --namer manual` reads it";
  }

  // quiet: the list keeps the focus, and a phone does not open the sheet.
  // push: "back" leads to where the reader was before.
  open(latent, { quiet = false, focus = false, push = this.ui.isNarrow() && !quiet } = {}) {
    if (!(latent >= 0 && latent < this.bundle.n_latents)) return;
    this.view.latent = latent;
    this.display(latent);
    this.remember({ push });
    if (!this.ui.page) {
      this.host.model.set("selected", latent);
      this.host.model.save_changes();
    }
    const sheet = this.ui.isNarrow() && !quiet;
    if (sheet) this.setSheet(true);
    if (focus || sheet) this.ui.byId("detail-title").focus({ preventScroll: true });
  }

  display(latent) {
    this.detail.show(latent);
    this.list.select(latent);
    this.map.select(latent);
    this.prompts.tint(latent);
  }

  // From elsewhere on the page: show the latent, and bring the reader to it.
  visit(latent) {
    this.open(latent, { focus: true, push: true });
    this.ui.byId("latents").scrollIntoView();
  }

  // On a narrow page the detail covers everything else, which then takes no focus.
  setSheet(open) {
    this.ui.wrap.classList.toggle("sheet-open", open);
    for (const part of ["bar", "intro", "list-pane"]) {
      const node = this.ui.byId(part);
      if (node) node.inert = open;
    }
  }

  closeSheet() {
    this.setSheet(false);
    this.view.latent = null;
    this.remember();
    if (this.view.tab === "table") this.list.grid.focus({ preventScroll: true });
  }

  // Take the view from the address; at the start, or when the reader goes back or edits it.
  follow() {
    this.view = readHash(this.bundle);
    if (this.view.latent !== null && this.bundle.rate[this.view.latent] === 0) this.view.dead = true;
    this.refresh();
    const { latent } = this.view;
    if (latent === null || !(latent < this.bundle.n_latents)) {
      this.view.latent = null;
      this.setSheet(false);
      if (!this.ui.isNarrow()) this.preview();
    } else {
      this.open(latent, { push: false });
    }
  }

  // Python may choose the latent, and hears of the reader's choice; names come from either side.
  followModel() {
    const { model } = this.host;
    const select = () => {
      const latent = model.get("selected");
      if (latent === this.view.latent) return;
      this.view.latent = latent ?? null;
      if (latent !== null && this.bundle.rate[latent] === 0) this.view.dead = true;
      this.refresh();
      if (latent === null) this.preview(); else this.display(latent);
    };
    const rename = () => {
      this.edits.apply(model.get("edits"));
      this.refresh();
    };
    model.on("change:selected", select);
    model.on("change:edits", rename);
    this.ui.signal.addEventListener("abort", () => {
      model.off("change:selected", select);
      model.off("change:edits", rename);
    });
    this.refresh();
    if ((model.get("selected") ?? null) === null) this.preview(); else select();
  }

  // With nothing chosen, a wide page shows the first latent of the list rather than a hole.
  preview() {
    const latent = this.list.latents[0];
    if (latent === undefined) this.detail.showNothing();
    else this.display(latent);
  }
}
