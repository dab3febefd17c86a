// One tooltip for the whole page, shown beside the pointer or beside an element.

const tooltip = {
  node: null,

  show(x, y, lines) {
    this.node ??= document.body.appendChild(h("div", { class: "tooltip", role: "status" }));
    this.node.replaceChildren(...lines.map((line, i) => h("div", { class: i ? "dim" : "lead" }, line)));
    this.node.hidden = false;
    const { width, height } = this.node.getBoundingClientRect();
    const left = Math.min(Math.max(8, x - width / 2), innerWidth - width - 8);
    const top = y - height - 14 > 8 ? y - height - 14 : y + 20;
    this.node.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  },

  over(element, lines) {
    const box = element.getBoundingClientRect();
    this.show(box.left + box.width / 2, box.top + 6, lines);
  },

  hide() {
    if (this.node) this.node.hidden = true;
  },
};

addEventListener("scroll", () => tooltip.hide(), { passive: true, capture: true });
