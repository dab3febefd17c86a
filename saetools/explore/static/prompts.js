// Which latents fire on each token of a text: on texts read when the page was built, or, with a
// model at the other end, on any text.

const N_SHOWN = 16;

// One text with the latents of each token, strongest first: {tokens, entries: [[{latent, share}]]}.
function packedReading(bundle, i) {
  const tokens = [];
  const entries = [];
  for (let at = bundle.prompt_start[i]; at < bundle.prompt_start[i + 1]; at++) {
    tokens.push(bundle.prompt_vocab[bundle.prompt_tokens[at]]);
    const here = [];
    for (let e = bundle.prompt_entry[at]; e < bundle.prompt_entry[at + 1]; e++) {
      here.push({ latent: bundle.prompt_latent[e], share: bundle.prompt_share[e] / 255 });
    }
    entries.push(here);
  }
  return { tokens, entries };
}

function liveReading(bundle, { tokens, latents, acts }) {
  const entries = latents.map((ids, at) => ids.map((latent, j) => ({
    latent, share: acts[at][j] / (bundle.max_act[latent] || acts[at][j] || 1),
  })).sort((a, b) => b.share - a.share));
  return { tokens, entries };
}

// Latents of a whole text by their strongest moment in it.
function strongestOf({ entries }) {
  const best = new Map();
  entries.forEach((here, at) => here.forEach(({ latent, share }) => {
    if (!(best.get(latent)?.share >= share)) best.set(latent, { latent, share, at });
  }));
  return [...best.values()].sort((a, b) => b.share - a.share);
}

class PromptView {
  constructor(bundle, ui, host, { open }) {
    Object.assign(this, { bundle, ui, host, open });
    this.live = host.can("prompt");
    this.reading = null;
    this.at = null;
    this.latent = null;
    this.text = h("div", { class: "reading", role: "listbox", tabindex: "0", "aria-label": "Tokens of the text", dir: "auto", hidden: true });
    this.latents = h("div", { class: "prompt-latents", "aria-live": "polite" });
    this.status = h("p", { class: "status", role: "status" });
    ui.byId("panel-prompts").append(...[this.form(), this.status, this.text, this.latents].filter(Boolean));
    this.text.addEventListener("click", (event) => {
      const token = event.target.closest("[data-token]");
      if (token) this.choose(Number(token.dataset.token));
    });
    this.text.addEventListener("keydown", (event) => this.key(event));
  }

  form() {
    if (this.live) return this.liveForm();
    const { prompts } = this.bundle;
    if (prompts.length === 0) {
      return h("p", { class: "note" }, "No texts were read for this page, and a page cannot run the model. Build it with the run's store, or open the explorer in a notebook with a model and an SAE, to see the latents of each token.");
    }
    this.select = h("select", { id: "prompt-choice", "aria-label": "Text" }, prompts.map(({ title, label }, i) => h("option",
      { value: i }, `${title ?? `Text ${i + 1}`}${label && label !== title ? ` (${label})` : ""}`)));
    this.select.addEventListener("change", () => this.read(packedReading(this.bundle, Number(this.select.value))));
    return h("div", { class: "prompt-form" },
      h("p", { class: "note" }, `A page cannot run the model: these are the ${format.plural(prompts.length, "text")} that were read when it was built. `
        + "In a notebook, with a model and an SAE, this view takes any text."),
      this.select);
  }

  liveForm() {
    const input = h("textarea", { id: "prompt-text", rows: "3", "aria-label": "Text to read", placeholder: "Type a text, and see the latents of each token" });
    const button = h("button", { class: "button primary" }, "Read");
    const submit = async (event) => {
      event.preventDefault();
      if (input.value.trim() === "" || button.disabled) return;
      button.disabled = true;
      this.status.className = "status";
      this.status.textContent = "Python is working\u2026";
      try {
        const answer = await this.host.ask("prompt", { text: input.value });
        this.status.textContent = answer.note;
        this.read(liveReading(this.bundle, answer));
      } catch (error) {
        this.status.className = "status bad";
        this.status.textContent = error.message;
      } finally {
        button.disabled = false;
      }
    };
    const form = h("form", { class: "prompt-form", on: { submit } }, input, h("div", { class: "row-of" }, button,
      h("span", { class: "status" }, "Ctrl+Enter reads, too.")));
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    return form;
  }

  // The first text is read when the reader first looks here.
  shown() {
    if (this.reading === null && this.select) this.read(packedReading(this.bundle, 0));
  }

  read(reading) {
    this.reading = reading;
    this.at = null;
    this.text.hidden = false;
    this.text.scrollTop = 0;
    this.draw();
  }

  draw() {
    const { tokens, entries } = this.reading;
    this.text.replaceChildren(...tokens.map((token, at) => {
      const share = entries[at].find(({ latent }) => latent === this.latent)?.share ?? 0;
      return h("span", {
        class: "ptok", role: "option", id: `ptok-${at}`, "data-token": at, "aria-selected": at === this.at,
        title: format.plural(entries[at].length, "latent"), vars: share ? { "--heat": Math.min(1, share).toFixed(3) } : {},
      }, at === 0 ? visible(token).trimStart() : visible(token));
    }));
    this.point();
    this.list();
  }

  point() {
    if (this.at === null) this.text.removeAttribute("aria-activedescendant");
    else this.text.setAttribute("aria-activedescendant", `ptok-${this.at}`);
  }

  list() {
    const { tokens, entries } = this.reading;
    const whole = this.at === null;
    const found = whole ? strongestOf(this.reading) : entries[this.at];
    const rows = found.slice(0, N_SHOWN).map(({ latent, share, at }) => ({
      latent, score: share, text: `${Math.round(share * 100)}%`, at,
    }));
    const title = whole ? h("h4", {}, "Strongest in this text")
      : h("h4", {}, "On ", h("span", { class: "quoted" }, visible(tokens[this.at]).trim() || "\u2423"), ` (${format.plural(found.length, "latent")})`);
    this.latents.replaceChildren(title, latentButtons(this.bundle, rows, (latent) => this.open(latent)),
      h("p", { class: "note" }, rows.length === 0 ? "No latent fires here."
        : `Share of the latent's largest activation${found.length > N_SHOWN ? `; the first ${N_SHOWN}` : ""}. ${whole ? "Choose a token to see its own." : "Escape shows the whole text again."}`));
  }

  choose(at) {
    this.at = this.at === at ? null : at;
    for (const token of this.text.children) token.setAttribute("aria-selected", Number(token.dataset.token) === this.at);
    if (this.at !== null) this.text.children[this.at].scrollIntoView({ block: "nearest" });
    this.point();
    this.list();
  }

  // The latent that is open beside tints the text where it fires.
  tint(latent) {
    this.latent = latent;
    if (this.reading !== null) this.draw();
  }

  key(event) {
    const last = this.reading.tokens.length - 1;
    const to = {
      ArrowRight: Math.min(last, (this.at ?? -1) + 1), ArrowLeft: Math.max(0, (this.at ?? last + 1) - 1), Home: 0, End: last,
    }[event.key];
    if (event.key === "Escape" && this.at !== null) {
      event.stopPropagation();
      this.choose(this.at);
    } else if (to !== undefined) {
      event.preventDefault();
      if (to !== this.at) this.choose(to);
    }
  }
}
