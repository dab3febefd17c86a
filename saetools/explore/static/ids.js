// Pages that are whole documents look elements up by their id; the explorer never does.

function byId(id) {
  return document.getElementById(id);
}
