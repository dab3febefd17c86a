// Finding latents by name, label, number or the text of their contexts.

// Scans token ids for a text without joining them: a Knuth-Morris-Pratt automaton over characters
// whose step for (state, token) is worked out once and kept. Matches may span tokens.
class TokenScanner {
  constructor(loweredVocab, query) {
    this.vocab = loweredVocab;
    this.query = query;
    this.fail = TokenScanner.failures(query);
    this.steps = new Int16Array(query.length * loweredVocab.length).fill(-1);
  }

  static failures(query) {
    const fail = new Int16Array(query.length);
    for (let i = 1, k = 0; i < query.length; i++) {
      while (k > 0 && query[i] !== query[k]) k = fail[k - 1];
      if (query[i] === query[k]) k++;
      fail[i] = k;
    }
    return fail;
  }

  step(state, token) {
    const at = state * this.vocab.length + token;
    if (this.steps[at] < 0) this.steps[at] = this.walk(state, this.vocab[token]);
    return this.steps[at];
  }

  walk(state, text) {
    for (let i = 0; i < text.length; i++) {
      while (state > 0 && text[i] !== this.query[state]) state = this.fail[state - 1];
      if (text[i] === this.query[state]) state++;
      if (state === this.query.length) return state;
    }
    return state;
  }

  // Where in `ids` the query ends for the first time between start and stop, -1 if nowhere.
  find(ids, start, stop) {
    let state = 0;
    for (let i = start; i < stop; i++) {
      state = this.step(state, ids[i]);
      if (state === this.query.length) return i;
    }
    return -1;
  }

  // Where a match that ends at `end` begins.
  begin(ids, end) {
    let text = this.vocab[ids[end]];
    let at = end;
    while (!text.includes(this.query)) text = this.vocab[ids[--at]] + text;
    return at;
  }
}

class Search {
  constructor(bundle) {
    this.bundle = bundle;
    this.loweredLabels = bundle.labels.map((label) => label.toLowerCase());
    this.loweredVocab = null;
  }

  // Returns the latents that fit, in no particular order, and for those found by a word or a
  // context what to show of it.
  run(view) {
    const query = view.q.trim().toLowerCase().slice(0, 60);
    const fits = this.testFor(query);
    const allowed = filterTest(this.bundle, view);
    const latents = [];
    const shown = new Map();
    for (let latent = 0; latent < this.bundle.n_latents; latent++) {
      if (!allowed(latent)) continue;
      const found = fits(latent);
      if (!found) continue;
      latents.push(latent);
      if (found !== true) shown.set(latent, found);
    }
    return { latents, shown };
  }

  // A test that answers true (by name, label or number), false, or what to show: {index, from, to}
  // of a context, {word} of a word that stands in none, and `fires` where it fires on the word.
  testFor(query) {
    if (!query) return () => true;
    const number = /^#?\d+$/.test(query) ? Number(query.replace("#", "")) : null;
    this.loweredVocab ??= this.bundle.vocab.map((token) => token.toLowerCase());
    const scanner = new TokenScanner(this.loweredVocab, query);
    const words = this.bundle.words.map((word) => word.toLowerCase().includes(query));
    return (latent) => latent === number
      || this.bundle.texts[latent].includes(query)
      || this.labelFits(latent, query)
      || this.shownFor(latent, scanner, words);
  }

  shownFor(latent, scanner, words) {
    const word = this.wordThatFits(latent, words);
    const context = this.contextThatFits(latent, scanner);
    return word || context ? { ...(context || word), fires: Boolean(word) } : false;
  }

  labelFits(latent, query) {
    const id = this.bundle.label_ids[latent * this.bundle.n_best_labels];
    return id !== undefined && id !== NONE_16 && this.loweredLabels[id].includes(query);
  }

  wordThatFits(latent, words) {
    const { word_start: starts, word_ids: ids } = this.bundle;
    for (let i = starts[latent]; i < starts[latent + 1]; i++) {
      if (words[ids[i]]) return { word: this.bundle.words[ids[i]] };
    }
    return false;
  }

  contextThatFits(latent, scanner) {
    const { context_start: starts, token_ids: ids } = this.bundle;
    const [first, last] = this.bundle.contextRange(latent);
    for (let index = first; index < last; index++) {
      const to = scanner.find(ids, starts[index], starts[index + 1]);
      if (to >= 0) return { index, from: scanner.begin(ids, to), to };
    }
    return false;
  }
}

// Named so first, then those that fire on it, then those that have it near by; the order within
// stays.
function groupByMatch(latents, shown) {
  const group = (latent) => (shown.has(latent) ? (shown.get(latent).fires ? 1 : 2) : 0);
  return latents.sort((a, b) => group(a) - group(b));
}

const SORT_KEYS = {
  id: { label: "Latent", value: (_, latent) => -latent },
  name: { label: "Name", value: (data, latent) => data.texts[latent] },
  rate: { label: "Firing rate", value: (data, latent) => data.rate[latent] },
  max: { label: "Max act", value: (data, latent) => data.max_act[latent] },
  score: { label: "Score", value: (data, latent, view) => data.score(latent, view.score) },
  level: { label: "Level", value: (data, latent) => -data.level[latent] },
  auroc: { label: "Best label", value: (data, latent) => data.auroc(latent) },
};

// Columns that this bundle has something to say in.
function columnsOf(bundle, { hasLabels }) {
  const absent = { score: bundle.scoreNames.length === 0, level: bundle.widths.length < 2, auroc: !hasLabels };
  return Object.keys(SORT_KEYS).filter((key) => !absent[key]);
}

// "down" is the natural order of a column: largest first, names from a to z.
function sortLatents(bundle, latents, view) {
  const { sort, order } = view;
  const value = SORT_KEYS[sort].value;
  const sign = order === "down" ? 1 : -1;
  if (sort === "name") {
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    return latents.sort((a, b) => {
      const [x, y] = [value(bundle, a), value(bundle, b)];
      if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1) || a - b;
      return sign * compare(x, y) || a - b;
    });
  }
  const keys = new Float64Array(bundle.n_latents);
  for (const latent of latents) keys[latent] = value(bundle, latent, view);
  return latents.sort((a, b) => {
    const [x, y] = [keys[a], keys[b]];
    if (x !== x || y !== y) return (x !== x ? 1 : 0) - (y !== y ? 1 : 0) || a - b;
    return sign * (y - x) || a - b;
  });
}
