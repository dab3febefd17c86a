// The map: a dot for every live latent, near ones alike in what they write. The table lists the same
// latents; with the keyboard, arrows go from dot to dot and Enter opens one.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

class LatentMap {
  constructor(bundle, ui, { open, filter }) {
    Object.assign(this, { bundle, ui, open, filter });
    this.panel = ui.byId("panel-map");
    this.selected = null;
    this.pointed = -1;
    this.fitting = null; // a Uint8Array: 1 for latents that the search and the filters leave
    if (bundle.map === null) {
      this.panel.append(h("p", { class: "map-note" }, "This page has no map: it was built without the SAE."));
      return;
    }
    this.place();
    this.make();
  }

  place() {
    const { map_x: xs, map_y: ys } = this.bundle;
    const ids = [];
    for (let latent = 0; latent < xs.length; latent++) if (xs[latent] !== NONE_16) ids.push(latent);
    this.point = new Map(ids.map((latent, i) => [latent, i]));
    this.plane = new Plane(ids, ids.map((latent) => xs[latent]), ids.map((latent) => ys[latent]));
  }

  make() {
    const { bundle } = this;
    const ways = [bundle.clusters.length && ["cluster", "Co-activation cluster"], bundle.widths.length > 1 && ["level", "Width level"], ["rate", "Firing rate"]].filter(Boolean);
    this.colour = ways[0][0];
    const choice = h("select", { id: "map-colour", "aria-label": "Colour by" }, ways.map(([value, label]) => h("option", { value }, label)));
    choice.addEventListener("change", () => {
      this.colour = choice.value;
      this.legend();
      this.draw();
    });
    const tool = (label, glyph, act) => h("button", { type: "button", class: "tool", "aria-label": label, title: label, on: { click: act } }, icon(glyph));
    const middle = () => [this.plane.size[0] / 2, this.plane.size[1] / 2];
    this.canvas = h("canvas", {
      tabindex: "0", role: "application", "aria-roledescription": "map", "aria-describedby": "map-help",
      "aria-label": `Map of ${format.plural(this.plane.ids.length, "latent")}`,
    });
    this.reading = h("div", { class: "map-reading", role: "status" });
    this.plot = h("div", { class: "map-plot" }, this.canvas, this.reading);
    this.key = h("div", { class: "map-legend", role: "group", "aria-label": "Groups" });
    this.panel.append(
      h("div", { class: "map-bar" }, h("span", {}, "Coloured by"), choice, h("span", { class: "spacer" }),
        tool("Zoom in", "plus", () => this.zoom(...middle(), 1.6)), tool("Zoom out", "minus", () => this.zoom(...middle(), 1 / 1.6)),
        tool("Whole map", "reset", () => this.zoom(...middle(), 0))),
      this.plot, this.key,
      h("p", { class: "map-note" }, `${bundle.map.note} `, h("span", { id: "map-help" }, "Arrow keys go from dot to dot, Enter opens one; plus and minus zoom. The table has the same latents.")));
    this.listen();
    this.legend();
    new ResizeObserver(() => requestAnimationFrame(() => this.resize())).observe(this.plot);
  }

  listen() {
    const { canvas } = this;
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.offsetX, y: event.offsetY, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (drag && event.buttons) {
        const [dx, dy] = [event.offsetX - drag.x, event.offsetY - drag.y];
        if (!drag.moved && Math.hypot(dx, dy) < 4) return;
        this.plane.pan(dx, dy);
        drag = { x: event.offsetX, y: event.offsetY, moved: true };
        this.hover(-1);
      } else {
        this.hover(this.under(event), event);
      }
    });
    canvas.addEventListener("pointerup", (event) => {
      const found = drag && !drag.moved ? this.under(event) : -1;
      drag = null;
      if (found >= 0) this.open(this.plane.ids[found]);
    });
    canvas.addEventListener("pointerleave", () => this.hover(-1));
    canvas.addEventListener("blur", () => this.hover(-1));
    canvas.addEventListener("wheel", (event) => {
      // A map that took every turn of the wheel would be a trap for whoever scrolls past.
      if (!event.ctrlKey && this.ui.root.activeElement !== canvas) return;
      event.preventDefault();
      this.zoom(event.offsetX, event.offsetY, 2 ** (-event.deltaY / 300));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.press(event));
  }

  under(event) {
    return this.plane.nearest(event.offsetX, event.offsetY, event.pointerType === "touch" ? 22 : 12, (i) => this.fits(i));
  }

  fits(i) {
    return this.fitting === null || this.fitting[this.plane.ids[i]] === 1;
  }

  press(event) {
    if (event.key === "Enter" && this.pointed >= 0) this.open(this.plane.ids[this.pointed], { focus: true });
    else if (event.key === "+" || event.key === "=") this.zoom(...this.focusPlace(), 1.5);
    else if (event.key === "-") this.zoom(...this.focusPlace(), 1 / 1.5);
    else if (event.key in ARROWS) this.step(ARROWS[event.key]);
    else return;
    event.preventDefault();
  }

  focusPlace() {
    return this.pointed >= 0 ? this.plane.at(this.pointed) : [this.plane.size[0] / 2, this.plane.size[1] / 2];
  }

  step(direction) {
    const from = this.pointed >= 0 ? this.pointed : this.point.get(this.selected) ?? -1;
    const [width, height] = this.plane.size;
    const found = from < 0 ? this.plane.nearest(width / 2, height / 2, Math.max(width, height), (i) => this.fits(i))
      : this.plane.towards(from, direction, (i) => this.fits(i));
    if (found < 0) return;
    const [x, y] = this.plane.at(found);
    if (x < 0 || y < 0 || x > width || y > height) this.plane.pan(width / 2 - x, height / 2 - y);
    this.hover(found);
    this.draw();
  }

  // Factor 0 shows the whole map.
  zoom(x, y, factor) {
    if (factor === 0) this.plane.fit(); else this.plane.zoomAt(x, y, factor);
    this.plot.classList.toggle("zoomed", this.plane.zoom > 1);
    this.draw();
  }

  hover(i, event = null) {
    if (i < 0) tooltip.hide();
    if (i === this.pointed && event === null) return this.draw();
    this.pointed = i;
    const latent = this.plane.ids[i];
    this.reading.textContent = i < 0 ? "" : `${latent}  ${this.bundle.name(latent) ?? "not named"}`;
    if (i >= 0 && event) {
      const box = this.canvas.getBoundingClientRect();
      const [x, y] = this.plane.at(i);
      tooltip.show(box.left + x, box.top + y, [this.bundle.name(latent) ?? "not named", `latent ${latent}, ${this.groupName(latent)}`], this.canvas);
    }
    return this.draw();
  }

  groupName(latent) {
    const cluster = this.bundle.clusterOf(latent);
    if (this.colour === "cluster") return cluster === null ? "in no cluster" : `cluster ${cluster + 1}`;
    if (this.colour === "level") return `level ${this.bundle.level[latent]}`;
    return format.odds(this.bundle.rate[latent]);
  }

  colourOf(latent, dark) {
    if (this.colour === "cluster") return clusterColour(this.bundle.clusterOf(latent), dark);
    if (this.colour === "level") return levelColour(this.bundle.level[latent], this.bundle.widths.length, dark);
    return levelColour(Math.max(0, Math.min(5, Math.round(Math.log10(this.bundle.rate[latent]) + 5))), 6, dark);
  }

  get dark() {
    return this.ui.wrap.dataset.theme === "dark";
  }

  legend() {
    const { bundle, dark } = this;
    const entry = (key, value, colour, label, n) => h("button", {
      type: "button", "aria-pressed": String(this.view?.[key] ?? "") === String(value), title: `Show only: ${label}`,
      on: { click: () => this.filter({ [key]: String(this.view?.[key] ?? "") === String(value) ? "" : String(value) }) },
    }, h("i", { vars: { "--dot": colour } }), h("span", {}, label), h("span", { class: "number" }, format.count(n)));
    let entries = [];
    if (this.colour === "cluster") {
      const shown = bundle.clusters.slice(0, HUES.light.length);
      entries = shown.map(({ n }, i) => entry("cluster", i, clusterColour(i, dark), bundle.clusterName(i), n));
      const rest = this.plane.ids.length - shown.reduce((sum, { n }) => sum + n, 0);
      if (rest > 0) entries.push(h("button", { type: "button", disabled: true }, h("i", { vars: { "--dot": clusterColour(null, dark) } }), h("span", {}, "smaller clusters"), h("span", { class: "number" }, format.count(rest))));
    } else if (this.colour === "level") {
      const counts = bundle.widths.map(() => 0);
      for (const latent of this.plane.ids) counts[bundle.level[latent]]++;
      entries = bundle.widths.map((width, level) => entry("level", level, levelColour(level, bundle.widths.length, dark), `level ${level}: first ${format.count(width)}`, counts[level]));
    } else {
      entries = [-5, -4, -3, -2, -1, 0].map((power) => h("button", { type: "button", disabled: true },
        h("i", { vars: { "--dot": levelColour(power + 5, 6, dark) } }), h("span", {}, power ? `10${superscript(power)}` : "always")));
    }
    this.key.replaceChildren(...entries);
  }

  // What the search and the filters leave stands out; the rest stays as ground.
  show(latents, view) {
    this.view = view;
    if (this.bundle.map === null) return;
    const all = latents.length >= this.plane.ids.length;
    this.fitting = all ? null : new Uint8Array(this.bundle.n_latents);
    if (!all) for (const latent of latents) this.fitting[latent] = 1;
    this.legend();
    this.draw();
  }

  select(latent) {
    this.selected = latent;
    if (this.bundle.map !== null) this.draw();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.plot;
    if (width === 0 || height === 0) return;
    const dots = Math.min(2, devicePixelRatio || 1);
    this.canvas.width = Math.round(width * dots);
    this.canvas.height = Math.round(height * dots);
    this.plane.size = [width, height];
    this.dots = dots;
    this.draw();
  }

  draw() {
    if (!this.dots || this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.paint();
    });
  }

  paint() {
    const { plane, dark } = this;
    const context = this.canvas.getContext("2d");
    context.setTransform(this.dots, 0, 0, this.dots, 0, 0);
    context.clearRect(0, 0, ...plane.size);
    const radius = Math.max(1.4, Math.min(4.2, 110 / Math.sqrt(plane.ids.length))) * Math.min(2.2, plane.zoom ** 0.35);
    const ground = [];
    const groups = new Map();
    for (let i = 0; i < plane.ids.length; i++) {
      if (!this.fits(i)) {
        ground.push(i);
        continue;
      }
      const colour = this.colourOf(plane.ids[i], dark);
      if (!groups.has(colour)) groups.set(colour, []);
      groups.get(colour).push(i);
    }
    const faint = dark ? "#2a3138" : "#dfe3e6";
    context.globalAlpha = 1;
    drawPoints(context, plane, [[faint, ground]], radius);
    context.globalAlpha = 0.82;
    // Grey first: what has a colour stands above it.
    const ordered = [...groups].sort(([a], [b]) => (b === clusterColour(null, dark)) - (a === clusterColour(null, dark)));
    drawPoints(context, plane, ordered, radius);
    context.globalAlpha = 1;
    const ink = dark ? "#e8ebed" : "#1a1d21";
    this.ring(context, this.point.get(this.selected) ?? -1, ink, radius + 4, 2.5);
    this.ring(context, this.pointed, ink, radius + 2, 1.5);
  }

  ring(context, i, colour, radius, width) {
    if (i < 0) return;
    const [x, y] = this.plane.at(i);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}
