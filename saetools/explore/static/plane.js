// Points on a canvas: where they stand at a zoom, which is nearest to a place, drawing them.

const CELLS = 64;

class Plane {
  // xs, ys: places in 0..65534, one a point; `ids` numbers the points.
  constructor(ids, xs, ys) {
    Object.assign(this, { ids, xs, ys });
    this.size = [1, 1];
    this.fit();
    this.cells = Array.from({ length: CELLS * CELLS }, () => []);
    for (let i = 0; i < ids.length; i++) this.cells[this.cell(xs[i] / 65534, ys[i] / 65534)].push(i);
  }

  cell(u, v) {
    const place = (value) => Math.max(0, Math.min(CELLS - 1, Math.floor(value * CELLS)));
    return place(v) * CELLS + place(u);
  }

  fit() {
    this.zoom = 1;
    this.centre = [0.5, 0.5];
  }

  // Pixels from places: the unit square fills the canvas but for a margin.
  get scale() {
    const [width, height] = this.size;
    const margin = 18;
    return [(width - 2 * margin) * this.zoom, (height - 2 * margin) * this.zoom];
  }

  at(i) {
    return this.toPixel(this.xs[i] / 65534, this.ys[i] / 65534);
  }

  toPixel(u, v) {
    const [sx, sy] = this.scale;
    return [this.size[0] / 2 + (u - this.centre[0]) * sx, this.size[1] / 2 + (v - this.centre[1]) * sy];
  }

  toPlace(x, y) {
    const [sx, sy] = this.scale;
    return [this.centre[0] + (x - this.size[0] / 2) / sx, this.centre[1] + (y - this.size[1] / 2) / sy];
  }

  zoomAt(x, y, factor) {
    const [u, v] = this.toPlace(x, y);
    this.zoom = Math.max(1, Math.min(60, this.zoom * factor));
    const [sx, sy] = this.scale;
    this.centre = [u - (x - this.size[0] / 2) / sx, v - (y - this.size[1] / 2) / sy];
    this.hold();
  }

  pan(dx, dy) {
    const [sx, sy] = this.scale;
    this.centre = [this.centre[0] - dx / sx, this.centre[1] - dy / sy];
    this.hold();
  }

  // The window stays over the points.
  hold() {
    const half = 0.5 / this.zoom;
    this.centre = this.centre.map((c) => Math.max(half, Math.min(1 - half, c)));
  }

  // The nearest point that passes `fits`, within `reach` pixels, or -1.
  nearest(x, y, reach, fits) {
    const [u0, v0] = this.toPlace(x - reach, y - reach);
    const [u1, v1] = this.toPlace(x + reach, y + reach);
    const place = (value) => Math.max(0, Math.min(CELLS - 1, Math.floor(value * CELLS)));
    let [best, found] = [reach * reach, -1];
    for (let row = place(v0); row <= place(v1); row++) {
      for (let column = place(u0); column <= place(u1); column++) {
        for (const i of this.cells[row * CELLS + column]) {
          const [px, py] = this.at(i);
          const far = (px - x) ** 2 + (py - y) ** 2;
          if (far <= best && fits(i)) [best, found] = [far, i];
        }
      }
    }
    return found;
  }

  // The nearest point that lies more in a direction than across it, or -1.
  towards(from, [dx, dy], fits) {
    const [x, y] = this.at(from);
    let [best, found] = [Infinity, -1];
    for (let i = 0; i < this.ids.length; i++) {
      if (i === from) continue;
      const [px, py] = this.at(i);
      const along = (px - x) * dx + (py - y) * dy;
      const across = Math.abs((px - x) * dy - (py - y) * dx);
      if (along < 0.5 || across > along || !fits(i)) continue;
      const far = along + 2 * across;
      if (far < best) [best, found] = [far, i];
    }
    return found;
  }
}

// Draw points grouped by colour: one path a colour, whatever the number of points.
function drawPoints(context, plane, groups, radius) {
  const [width, height] = plane.size;
  for (const [colour, points] of groups) {
    context.fillStyle = colour;
    context.beginPath();
    for (const i of points) {
      const [x, y] = plane.at(i);
      if (x < -radius || y < -radius || x > width + radius || y > height + radius) continue;
      context.moveTo(x + radius, y);
      context.arc(x, y, radius, 0, 2 * Math.PI);
    }
    context.fill();
  }
}
