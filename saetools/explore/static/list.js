// The list of latents: only the rows in sight exist, so 20,000 latents cost what 20 do.

const OVERSCAN = 6;

class LatentList {
  constructor(bundle, ui, { open, sort, columns }) {
    this.bundle = bundle;
    this.ui = ui;
    this.keys = columns;
    this.open = open;
    this.latents = [];
    this.shown = new Map();
    this.query = "";
    this.selected = null;
    this.grid = ui.byId("grid");
    this.rows = ui.byId("rows");
    this.drawn = [-1, -1];
    this.headers = this.makeHeaders(sort);
    this.grid.addEventListener("scroll", () => this.draw(), { passive: true });
    this.grid.addEventListener("keydown", (event) => this.key(event));
    this.rows.addEventListener("click", (event) => {
      const row = event.target.closest("[data-latent]");
      if (row) this.open(Number(row.dataset.latent));
    });
    new ResizeObserver(() => requestAnimationFrame(() => this.measure())).observe(this.grid);
  }

  makeHeaders(sort) {
    const headers = {};
    this.grid.setAttribute("aria-colcount", this.keys.length);
    for (const key of this.keys) {
      headers[key] = h("div", { role: "columnheader", class: `col-${key}` },
        h("button", { type: "button", tabindex: "-1", on: { click: () => sort(key) } }, h("span", {}, SORT_KEYS[key].label), icon("down")));
      this.ui.byId("columns").append(headers[key]);
    }
    return headers;
  }

  measure() {
    const height = Number.parseFloat(getComputedStyle(this.grid).getPropertyValue("--row-height"));
    if (height !== this.rowHeight) {
      this.rowHeight = height;
      this.rows.style.height = `${this.latents.length * height}px`;
    }
    this.draw({ fresh: true });
  }

  show({ latents, shown, query, sort, order, selected, score }) {
    Object.assign(this, { latents, shown, query, selected, score });
    if (this.headers.score) this.headers.score.title = score;
    if (this.headers.score) this.headers.score.querySelector("span").textContent = shortScore(score);
    this.places = new Map(latents.map((latent, i) => [latent, i]));
    for (const [key, header] of Object.entries(this.headers)) {
      const order_ = key !== sort ? "none" : order === "down" ? "descending" : "ascending";
      header.setAttribute("aria-sort", order_);
    }
    this.grid.setAttribute("aria-rowcount", latents.length + 1);
    this.rows.style.height = `${latents.length * (this.rowHeight ?? 60)}px`;
    this.grid.scrollTop = 0;
    this.ui.byId("empty").hidden = latents.length > 0;
    if (this.rowHeight) this.draw({ fresh: true }); else this.measure();
  }

  draw({ fresh = false } = {}) {
    if (!this.rowHeight) return;
    const top = Math.max(0, this.grid.scrollTop);
    const first = Math.max(0, Math.floor(top / this.rowHeight) - OVERSCAN);
    const stop = Math.min(this.latents.length,
      Math.ceil((top + this.grid.clientHeight) / this.rowHeight) + OVERSCAN);
    if (!fresh && first === this.drawn[0] && stop === this.drawn[1]) return;
    this.drawn = [first, stop];
    const rows = [];
    for (let place = first; place < stop; place++) rows.push(this.row(this.latents[place], place));
    this.rows.replaceChildren(...rows);
    this.point();
  }

  row(latent, place) {
    return h("div", {
      class: "row", role: "row", id: `row-${latent}`, "data-latent": latent, "aria-rowindex": place + 2,
      "aria-selected": latent === this.selected, vars: { "--top": `${place * this.rowHeight}px` },
    }, this.keys.map((key) => h("div", { role: "gridcell", class: `col-${key}` }, this[`${key}Cell`](latent))));
  }

  idCell(latent) {
    return latent;
  }

  nameCell(latent) {
    const name = this.bundle.name(latent);
    return [h("div", { class: name ? "name" : "name unnamed" }, name ? marked(name, this.query) : "not named"),
      this.snippet(latent)];
  }

  rateCell(latent) {
    const rate = this.bundle.rate[latent];
    return [h("span", { title: format.odds(rate) }, format.figure(rate)),
      h("span", { class: "meter", "aria-hidden": "true" }, h("i", { vars: { "--size": rateSize(rate) } }))];
  }

  maxCell(latent) {
    return format.column(this.bundle.max_act[latent]);
  }

  scoreCell(latent) {
    return format.score(this.bundle.score(latent, this.score));
  }

  levelCell(latent) {
    return this.bundle.level[latent];
  }

  aurocCell(latent) {
    const label = this.bundle.label(latent);
    return label ? [h("span", { class: "chip", title: label }, marked(label, this.query)),
      h("span", { class: "auroc" }, format.auroc(this.bundle.auroc(latent)))] : null;
  }

  snippet(latent) {
    const [first, last] = this.bundle.contextRange(latent);
    if (first === last) return h("div", { class: "snippet" });
    const found = this.shown.get(latent) ?? null;
    if (found?.word) return h("div", { class: "snippet" }, "fires on ", marked(found.word, this.query));
    return h("div", { class: "snippet" }, snippetOf(this.bundle, found?.index ?? first, found));
  }

  select(latent) {
    this.selected = latent;
    for (const row of this.rows.children) {
      row.setAttribute("aria-selected", Number(row.dataset.latent) === latent);
    }
    this.reveal(latent);
    this.point();
  }

  // Scroll no further than is needed to bring the row into sight; from afar, put it in the middle.
  reveal(latent) {
    const place = this.places.get(latent);
    if (place === undefined || !this.rowHeight) return;
    const head = this.ui.byId("columns").offsetHeight;
    const top = place * this.rowHeight;
    const room = this.grid.clientHeight - head;
    const before = top - this.grid.scrollTop;
    const after = top + this.rowHeight - this.grid.scrollTop - room;
    if (Math.max(-before, after) > 2 * this.rowHeight) this.grid.scrollTop = top - room / 2;
    else if (before < 0) this.grid.scrollTop = top;
    else if (after > 0) this.grid.scrollTop += after;
    this.draw();
  }

  point() {
    const row = this.selected === null ? null : this.ui.byId(`row-${this.selected}`);
    if (row) this.grid.setAttribute("aria-activedescendant", row.id);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  key(event) {
    if (event.target !== this.grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.grid.clientHeight / this.rowHeight) - 2);
    const steps = {
      ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity,
    };
    if (event.key === "Enter" && this.selected !== null) {
      event.preventDefault();
      this.open(this.selected, { focus: true });
    } else if (event.key in steps) {
      event.preventDefault();
      this.step(steps[event.key]);
    }
  }

  step(n) {
    if (this.latents.length === 0) return;
    const place = this.places.get(this.selected) ?? (n > 0 ? -1 : this.latents.length);
    const next = Math.max(0, Math.min(this.latents.length - 1, place + n));
    this.open(this.latents[next], { quiet: true });
  }
}

// A column has room for a word: "Held-out precision" is "Precision" there, and whole in its title.
function shortScore(name) {
  const word = name?.split(/[\s_.]+/).at(-1) ?? "";
  return word.charAt(0).toUpperCase() + word.slice(1);
}

// Firing rates span decades: the bar is on a log scale from one in a million to always.
function rateSize(rate) {
  if (!(rate > 0)) return "0%";
  return `${Math.max(3, Math.min(100, ((Math.log10(rate) + 6) / 6) * 100)).toFixed(1)}%`;
}

function marked(text, query) {
  const at = query ? text.toLowerCase().indexOf(query) : -1;
  if (at < 0) return [text];
  return [text.slice(0, at), h("mark", {}, text.slice(at, at + query.length)), text.slice(at + query.length)];
}
