// On paper a page is light, and what is folded up is open; on the screen it is as it was.

function preparePrinting(root) {
  let before = null;
  addEventListener("beforeprint", () => {
    const closed = [...document.querySelectorAll("details:not([open])")];
    before = { theme: root.dataset.theme, closed };
    root.dataset.theme = "light";
    for (const node of closed) node.open = true;
  });
  addEventListener("afterprint", () => {
    if (before === null) return;
    root.dataset.theme = before.theme;
    for (const node of before.closed) node.open = false;
    before = null;
  });
}
