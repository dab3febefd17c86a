// Names that the reader gives. A widget hands them to Python; a page keeps them in the browser and
// writes them as the CSV that `saetools name --namer manual` reads.

class Edits {
  constructor(bundle, host) {
    this.bundle = bundle;
    this.host = host;
    this.live = host.can("name");
    this.key = `saetools-names:${bundle.fingerprint}`;
    this.kept = true;
    this.apply(this.live ? host.model.get("edits") : this.stored());
  }

  apply(edits) {
    for (const [latent, name] of Object.entries(edits ?? {})) this.bundle.rename(Number(latent), name);
  }

  stored() {
    try {
      return JSON.parse(localStorage.getItem(this.key) ?? "{}");
    } catch {
      this.kept = false;
      return {};
    }
  }

  // Resolves to a sentence that says where the name went.
  async save(latent, name) {
    const text = name.trim().replace(/\s+/g, " ");
    const where = this.live ? await this.host.ask("name", { latent, name: text }) : null;
    this.bundle.rename(latent, text);
    if (where !== null) return where;
    try {
      localStorage.setItem(this.key, JSON.stringify(Object.fromEntries(this.bundle.edited)));
    } catch {
      this.kept = false;
    }
    return this.kept ? "Kept in this browser. Export the names to use them elsewhere."
      : "Kept until this page is closed: the browser stores nothing for it. Export the names before.";
  }

  get size() {
    return this.bundle.edited.size;
  }

  csv() {
    const cell = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const rows = [...this.bundle.edited].sort(([a], [b]) => a - b)
      .map(([latent, name]) => `${latent},${cell(name)},manual`);
    return `latent,name,namer\n${rows.map((row) => `${row}\n`).join("")}`;
  }

  download() {
    download("names.csv", "text/csv", this.csv());
  }
}
