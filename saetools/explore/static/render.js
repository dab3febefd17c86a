// The explorer as a widget of Jupyter's: `render` puts one into an element, and says how to end it.
// A page mounts the same module with a model that has no Python behind it.

function readBytes(value) {
  if (value instanceof DataView) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return value;
}

async function render({ model, el }) {
  const began = performance.now();
  const ending = new AbortController();
  const page = model.get("place") === "page";
  const mount = h("div", {});
  // JupyterLab takes keys for its own unless an element says that they are not.
  mount.dataset.lmSuppressShortcuts = "true";
  el.append(mount);
  const ui = makeFrame(mount, { page, height: model.get("height") ?? 720, signal: ending.signal });
  const unwatch = watchWidth(ui.wrap);
  try {
    const bundle = new Bundle(await unpack(readBytes(model.get("head")), readBytes(model.get("body"))));
    if (!ending.signal.aborted) new App(bundle, ui, new Host(model, ending.signal)).start();
    mount.dataset.ready = Math.round(performance.now() - began);
  } catch (error) {
    ui.wrap.classList.remove("unpacking");
    ui.byId("failure").hidden = false;
    ui.byId("failure-reason").textContent = String(error?.message ?? error);
    mount.dataset.error = String(error?.message ?? error);
    console.error(error);
  }
  return () => {
    ending.abort();
    unwatch();
    tooltip.hide();
    mount.remove();
  };
}
