// Steering with one latent: a strength, a text, and what the model then says. Python does it.

class Steering {
  constructor(bundle, host) {
    this.bundle = bundle;
    this.host = host;
    this.text = host.model.get("steer_text") ?? "";
    this.strength = 2;
    this.busy = false;
    this.turn = 0;
  }

  section(latent) {
    if (!this.host.can("steer")) return null;
    const encoder = this.bundle.model_kind === "text_encoder";
    const value = h("output", { class: "number" });
    const slider = h("input", { type: "range", min: "-6", max: "6", step: "0.25", class: "steer-strength", "aria-label": "Strength, in largest activations of the latent" });
    slider.value = this.strength;
    const say = () => {
      this.strength = Number(slider.value);
      value.textContent = `${format.score(this.strength)}\u00d7`;
    };
    slider.addEventListener("input", say);
    say();
    const text = h("textarea", { rows: "2", class: "steer-text", "aria-label": encoder ? "Text to encode" : "Text to go on from" });
    text.value = this.text;
    const run = h("button", { type: "submit", class: "button primary" }, "Steer");
    const status = h("p", { class: "status", role: "status" });
    const out = h("div", { class: "steer-out" });
    const form = h("form", { class: "steer", on: { submit: (event) => {
      event.preventDefault();
      this.text = text.value;
      this.run(latent, { run, status, out, encoder });
    } } }, h("label", { class: "slider" }, slider, value), text, h("div", { class: "row-of" }, run, status), out);
    slider.addEventListener("change", () => {
      if (out.childElementCount > 0) form.requestSubmit();
    });
    return h("section", { id: "steering" }, h("h4", {}, "Steer"),
      h("p", { class: "note" }, encoder ? "Adds its direction at every token of the text; 1\u00d7 is its largest activation. Then: which texts lie nearest."
        : "Adds its direction at every token; 1\u00d7 is its largest activation. The model goes on greedily."), form);
  }

  async run(latent, { run, status, out, encoder }) {
    const turn = ++this.turn;
    run.disabled = true;
    status.className = "status";
    status.textContent = "Python is working\u2026";
    try {
      const answer = await this.host.ask("steer", { latent, strength: this.strength, text: this.text });
      if (turn !== this.turn) return;
      status.textContent = answer.note;
      out.replaceChildren(...(encoder ? nearestTexts(answer) : continuations(answer)));
    } catch (error) {
      status.className = "status bad";
      status.textContent = error.message;
    } finally {
      run.disabled = false;
    }
  }
}

function continuations({ prompt, plain, steered }) {
  const given = prompt.trim();
  // Some tokenizers begin a decoded text with a space that the prompt had not.
  const part = (title, text) => h("div", {}, h("h5", {}, title), h("p", { dir: "auto" },
    text.trimStart().startsWith(given) ? [h("span", { class: "given" }, given), text.trimStart().slice(given.length)] : text));
  return [part("Steered", steered), part("As it is", plain)];
}

function nearestTexts({ plain, steered }) {
  const before = new Set(plain.map(({ text }) => text));
  const list = (title, rows) => h("div", {}, h("h5", {}, title), h("ol", {}, rows.map(({ text, cosine }) => h("li",
    { class: before.has(text) ? null : "new", title: text }, h("span", { class: "number" }, format.score(cosine)), h("span", {}, text)))));
  return [list("Nearest when steered", steered), list("Nearest as it is", plain)];
}
