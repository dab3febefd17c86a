// What the page asks of its data: one latent, its contexts, its neighbours.
const NONE_16 = 0xffff;
const NONE_32 = 0xffffffff;

class Bundle {
  constructor(data) {
    Object.assign(this, data);
    this.texts = this.names.map((name) => (name ?? "").toLowerCase());
    this.edited = new Map();
    this.scoreNames = this.scores.map(({ name }) => name);
    this.scoreColumns = new Map(this.scores.map(({ name, array }) => [name, this[array]]));
  }

  // A reader's name; an empty one takes the name away.
  rename(latent, name) {
    this.names[latent] = name || null;
    this.texts[latent] = name.toLowerCase();
    this.edited.set(latent, name);
  }

  name(latent) {
    return this.names[latent] ?? null;
  }

  label(latent) {
    const id = this.label_ids[latent * this.n_best_labels];
    return id === undefined || id === NONE_16 ? null : this.labels[id];
  }

  auroc(latent) {
    const value = this.label_held_out[latent * this.n_best_labels];
    return value === undefined ? NaN : value;
  }

  bestLabels(latent) {
    const out = [];
    for (let i = 0; i < this.n_best_labels; i++) {
      const at = latent * this.n_best_labels + i;
      if (this.label_ids[at] === NONE_16) break;
      out.push({
        label: this.labels[this.label_ids[at]],
        train: this.label_train[at],
        heldOut: this.label_held_out[at],
      });
    }
    return out;
  }

  // The words that take most of its activation, with their share of it, 0 to 1.
  topWords(latent) {
    const out = [];
    for (let i = this.word_start[latent]; i < this.word_start[latent + 1]; i++) {
      out.push({ word: this.words[this.word_ids[i]], share: this.word_share[i] / 255 });
    }
    return out;
  }

  contextRange(latent) {
    return [this.latent_start[latent], this.latent_start[latent + 1]];
  }

  context(index) {
    const [start, stop] = [this.context_start[index], this.context_start[index + 1]];
    const title = this.context_title[index];
    const label = this.context_label[index];
    return {
      start,
      stop,
      peak: start + this.context_peak[index],
      isTop: this.context_kind[index] === 0,
      doc: this.context_doc[index],
      title: title === NONE_32 ? null : this.titles[title],
      label: label === NONE_16 ? null : this.labels[label],
    };
  }

  token(at) {
    return this.vocab[this.token_ids[at]];
  }

  // Fraction of the latent's largest activation, 0 to 1.
  share(at) {
    return this.acts[at] / 255;
  }

  score(latent, name) {
    const column = this.scoreColumns.get(name);
    return column ? column[latent] : NaN;
  }

  levelOf(latent) {
    return this.widths.length > 1 ? this.level[latent] : null;
  }

  clusterOf(latent) {
    if (this.clusters.length === 0 || this.cluster[latent] === NONE_16) return null;
    return this.cluster[latent];
  }

  // A cluster is called by its latent that has most ties inside it.
  clusterName(cluster) {
    const { latent } = this.clusters[cluster];
    return this.name(latent) ?? `latent ${latent}`;
  }

  // Latents that stand near one in some sense, best first: [{latent, score}].
  related(kind, latent) {
    const size = this.relations[kind];
    if (!size) return [];
    const [ids, scores] = [this[`${kind}_ids`], this[`${kind}_scores`]];
    const none = ids instanceof Uint16Array ? NONE_16 : NONE_32;
    const out = [];
    for (let at = latent * size; at < (latent + 1) * size; at++) {
      if (ids[at] === none) break;
      out.push({ latent: ids[at], score: scores[at] / 100 });
    }
    return out;
  }

  // Tokens that a latent makes likelier, or less likely: [{token, z}].
  logits(end, latent) {
    const size = this.n_logits;
    const out = [];
    for (let at = latent * size; at < (latent + 1) * size; at++) {
      const id = this[`${end}_ids`][at];
      if (id === NONE_32) break;
      out.push({ token: this.logit_tokens[id], z: this[`${end}_z`][at] / 10 });
    }
    return out;
  }

  histogram(latent) {
    const bins = this.n_bins;
    return bins ? Array.from(this.act_counts.subarray(latent * bins, (latent + 1) * bins)) : [];
  }
}
