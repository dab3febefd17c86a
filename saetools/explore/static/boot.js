// How a page of figures begins: unpack, show, and say so when something fails.

async function start(show) {
  const began = performance.now();
  watchWidth(document.documentElement);
  startTheme(document.documentElement, byId("theme"));
  show(await unpack(embeddedBytes("head-data"), embeddedBytes("body-data")));
  document.documentElement.dataset.ready = Math.round(performance.now() - began);
}

function fail(reason) {
  document.documentElement.dataset.error = String(reason);
  document.body.classList.remove("unpacking");
  byId("failure").hidden = false;
  byId("failure-reason").textContent = String(reason);
}

// A notice that sizes settle one frame later, which browsers dress up as an error.
const SETTLING = "ResizeObserver loop";

addEventListener("error", (event) => event.message.startsWith(SETTLING) || fail(event.message));
addEventListener("unhandledrejection", (event) => fail(event.reason?.message ?? event.reason));
