// How wide a page or widget is, as classes of its root: a widget in a notebook's cell is narrow
// where the window is not, so the window's width says nothing.

const WIDTHS = [1180, 980, 640];

function watchWidth(root) {
  const set = () => {
    const width = root.clientWidth;
    if (width === 0) return; // not shown yet
    for (const limit of WIDTHS) root.classList.toggle(`w-${limit}`, width <= limit);
    root.classList.toggle("wide", width >= 1500);
  };
  const observer = new ResizeObserver(set);
  observer.observe(root);
  set();
  return () => observer.disconnect();
}
