// The page: mounts the module above on its own document, with the data that stands in it.

function failPage(reason) {
  document.documentElement.dataset.error = String(reason);
}
addEventListener("error", (event) => failPage(event.message));
addEventListener("unhandledrejection", (event) => failPage(event.reason?.message ?? event.reason));
{
  const began = performance.now();
  const place = document.getElementById("saetools");
  await render({
    model: new StandIn({ place: "page", can: [], head: embeddedBytes("head-data"), body: embeddedBytes("body-data") }),
    el: place,
  });
  const { error } = place.firstElementChild.dataset;
  if (error) failPage(error);
  document.documentElement.dataset.ready = Math.round(performance.now() - began);
}
