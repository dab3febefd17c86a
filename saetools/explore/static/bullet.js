// A figure beside its limit: a bar to the value, a line for the interval, a mark where it turns.

const BULLET = { width: 230, height: 40, top: 6, bar: 12, edge: 4 };

function bulletBar({ name, decides, limit, better, passed }) {
  const { value, low, high } = decides;
  const { width, height, top, bar, edge } = BULLET;
  const ends = [value, low ?? value, high ?? value, limit];
  // Small is good: a scale to 1 would press everything into its first tenth.
  const most = better === "higher" ? 1 : 2.5 * limit;
  const x = linearScale([Math.min(0, ...ends), Math.max(most, ...ends)], [edge, width - edge]);
  const [from, to] = better === "higher" ? [x(limit), width - edge] : [edge, x(limit)];
  const middle = top + bar / 2;
  const [first, last] = [Math.min(x(0), x(value)), Math.max(x(0), x(value))];
  return s("svg", {
    class: `bullet ${passed ? "passed" : "failed"}`, width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${name}: ${intervalText(value, low === null ? null : [low, high])}, limit ${format.figure(limit)}`,
  },
    s("rect", { class: "zone", x: from, width: Math.max(0, to - from), y: top, height: bar }),
    s("rect", { class: "fill", x: first, width: Math.max(1.5, last - first), y: top + 3, height: bar - 6 }),
    low === null ? null : s("path", { class: "span", d: `M${x(low)} ${middle - 4}v8m0-4H${x(high)}m0-4v8` }),
    s("circle", { class: "value", cx: x(value), cy: middle, r: 3.6 }),
    s("line", { class: "limit", x1: x(limit), x2: x(limit), y1: top - 4, y2: top + bar + 4 }),
    s("text", { class: "limit-label", x: Math.max(16, Math.min(width - 16, x(limit))), y: height - 4, "text-anchor": "middle" },
      `${better === "higher" ? "\u2265" : "\u2264"} ${format.figure(limit)}`));
}
