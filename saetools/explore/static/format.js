// Numbers as people read them.

const MINUS = "\u2212";

const format = {
  count(n) {
    return Math.round(n).toLocaleString("en-US");
  },

  // 1,234 -> "1.23k", 4.1e8 -> "410M"
  short(n) {
    const units = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]];
    for (const [size, unit] of units) {
      if (Math.abs(n) >= size) return trimmed((n / size).toPrecision(3)) + unit;
    }
    return format.figure(n);
  },

  // About three digits that carry meaning, whatever the size.
  figure(n) {
    if (n === null || n === undefined || Number.isNaN(n)) return "\u2013";
    if (!Number.isFinite(n)) return n > 0 ? "\u221e" : `${MINUS}\u221e`;
    const size = Math.abs(n);
    let text;
    if (size === 0) text = "0";
    else if (size >= 1e6) text = trimmed((size / 1e6).toPrecision(3)) + "M";
    else if (size >= 1000) text = format.count(size);
    else if (size >= 100) text = Number.isInteger(size) ? String(size) : size.toFixed(1);
    else if (size >= 10) text = trimmed(size.toFixed(2));
    else if (size >= 0.001) text = trimmed(size.toFixed(size >= 1 ? 3 : 4));
    else text = power(size);
    return n < 0 ? MINUS + text : text;
  },

  // Three digits, zeros kept: for columns, where the points should line up.
  column(n) {
    if (Number.isNaN(n)) return "\u2013";
    return n >= 1000 ? format.short(n) : n.toPrecision(3);
  },

  // The share of tokens on which a latent fires, as odds.
  odds(rate) {
    if (!(rate > 0)) return "never fired";
    if (rate > 0.4) return `fires on ${Math.round(100 * rate)} of 100 tokens`;
    return `fires on 1 token in ${format.count(1 / rate)}`;
  },

  auroc(value) {
    return value === null || Number.isNaN(value) ? "\u2013" : value.toFixed(3);
  },

  score(value) {
    return value === null || Number.isNaN(value) ? "\u2013" : value.toFixed(2).replace("-", MINUS);
  },

  plural(n, noun) {
    return `${format.count(n)} ${noun}${n === 1 ? "" : "s"}`;
  },
};

function trimmed(text) {
  return text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
}

function power(size) {
  const exponent = Math.floor(Math.log10(size));
  const digits = trimmed((size / 10 ** exponent).toFixed(1));
  return `${digits}\u00d710${superscript(exponent)}`;
}

function superscript(n) {
  const digits = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";
  const sign = n < 0 ? "\u207b" : "";
  return sign + [...String(Math.abs(n))].map((digit) => digits[Number(digit)]).join("");
}
