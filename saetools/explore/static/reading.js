// Reading a value off lines, each of a run: with the pointer or with the arrow keys.

// The point nearest to the pointer; with the arrow keys, along a run and from run to run.
function withReading(svg, lines, read) {
  const dot = s("circle", { class: "reading", r: 4.5, visibility: "hidden" });
  svg.append(dot);
  let [line, at] = [0, lines[0].points.length - 1];
  const show = (newLine, newAt) => {
    line = (newLine + lines.length) % lines.length;
    at = Math.max(0, Math.min(lines[line].points.length - 1, newAt));
    const point = lines[line].points[at];
    fill(dot, { cx: point.px, cy: point.py, visibility: "visible", class: `reading ${point.run.hue}` }, []);
    emphasis.show(point.run.id);
    const place = svg.getBoundingClientRect();
    tooltip.show(place.left + point.px, place.top + point.py, read(point), svg);
  };
  const hide = () => {
    dot.setAttribute("visibility", "hidden");
    emphasis.show(null);
    tooltip.hide();
  };
  svg.setAttribute("tabindex", "0");
  svg.addEventListener("pointermove", (event) => show(...nearestOf(lines, event.offsetX, event.offsetY)));
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const [down, along] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key] ?? [0, 0];
    if (!down && !along) return;
    event.preventDefault();
    show(line + down, at + along * (event.shiftKey ? 10 : 1));
  });
  return svg;
}

function nearestOf(lines, px, py) {
  let [best, line, at] = [Infinity, 0, 0];
  lines.forEach(({ points }, i) => points.forEach((point, j) => {
    const far = (point.px - px) ** 2 + (point.py - py) ** 2;
    if (far < best) [best, line, at] = [far, i, j];
  }));
  return [line, at];
}
