// The name of a latent as a heading that can be edited in its place.

class NameHead {
  constructor(bundle, latent, { edits, renamed }) {
    Object.assign(this, { bundle, latent, edits, renamed });
    this.node = h("div", { class: "name-head" });
    this.status = h("p", { class: "status", role: "status" });
    this.show();
  }

  show() {
    const name = this.bundle.name(this.latent);
    this.node.replaceChildren(h("div", { class: "title-line" },
      h("h3", { class: name ? null : "unnamed", tabindex: "-1", id: "detail-title" }, name ?? "Not named yet"),
      h("button", { type: "button", class: "tool", id: "edit-name", "aria-label": "Edit the name", title: "Edit the name (e)", on: { click: () => this.edit() } }, icon("pencil"))),
    this.bundle.edited.has(this.latent) ? h("span", { class: "edited" }, "named by you") : "", this.status);
  }

  edit() {
    const input = h("input", { id: "name-input", "aria-label": `Name of latent ${this.latent}`, maxlength: "300", autocomplete: "off" });
    input.value = this.bundle.name(this.latent) ?? "";
    const save = h("button", { class: "button primary" }, "Save");
    const form = h("form", { class: "name-form", on: {
      submit: (event) => {
        event.preventDefault();
        this.save(input.value, save);
      },
      keydown: (event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        this.leave();
      },
    } }, input, h("div", { class: "row-of" }, save,
      h("button", { type: "button", class: "button", on: { click: () => this.leave() } }, "Cancel"),
      h("span", { class: "status" }, "Empty takes the name away.")));
    this.status.textContent = "";
    this.node.replaceChildren(form, this.status);
    input.focus();
    input.select();
  }

  async save(name, button) {
    button.disabled = true;
    try {
      const where = await this.edits.save(this.latent, name);
      this.status.className = "status";
      this.status.textContent = where;
      this.leave();
      this.renamed(this.latent);
    } catch (error) {
      this.status.className = "status bad";
      this.status.textContent = error.message;
      button.disabled = false;
    }
  }

  leave() {
    this.show();
    this.node.querySelector("#edit-name").focus();
  }
}
