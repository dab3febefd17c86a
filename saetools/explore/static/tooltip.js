// One tooltip, shown beside the pointer or beside an element, inside the root of that element: a
// notebook has several widgets on a page, and a pointer is in one of them.

const tooltip = {
  node: null,

  show(x, y, lines, near) {
    this.node ??= h("div", { class: "tooltip", role: "status" });
    const root = near.getRootNode();
    const frame = root.body ?? root.querySelector(".saetools");
    if (this.node.parentNode !== frame) frame.append(this.node);
    this.node.replaceChildren(...lines.map((line, i) => h("div", { class: i ? "dim" : "lead" }, line)));
    this.node.hidden = false;
    const { width, height } = this.node.getBoundingClientRect();
    const within = frame.getBoundingClientRect();
    const lowest = Math.max(8, within.left + 4);
    const left = Math.max(lowest, Math.min(x - width / 2, Math.min(innerWidth - 8, within.right - 4) - width));
    const top = y - height - 14 > 8 ? y - height - 14 : y + 20;
    this.node.style.transform = `translate(${Math.round(left - within.left)}px, ${Math.round(top - within.top)}px)`;
  },

  over(element, lines) {
    const box = element.getBoundingClientRect();
    this.show(box.left + box.width / 2, box.top + 6, lines, element);
  },

  hide() {
    if (this.node) this.node.hidden = true;
  },
};

addEventListener("scroll", () => tooltip.hide(), { passive: true, capture: true });
