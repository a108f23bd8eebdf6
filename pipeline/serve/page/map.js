// The map: points on a canvas that can be moved, zoomed and clicked.
const canvas = document.getElementById("map-canvas");
const name = document.getElementById("map-name");
let map = null; // {x, y, labels, uris, names}
let open = () => {};
let view = { x: 0, y: 0, scale: 1 };
const fingers = new Map();
let moved = 0;

// Equal labels have equal colours, whatever else is on the map.
function colour(label) {
  let hash = 0;
  for (const character of label ?? "") hash = (hash * 31 + character.codePointAt(0)) % 3600;
  return `hsl(${hash / 10} 65% 50%)`;
}

function size() {
  return { width: canvas.clientWidth, height: canvas.clientHeight };
}

function fit() {
  const { width, height } = size();
  const [left, right] = bounds(map.x);
  const [top, bottom] = bounds(map.y);
  const scale = 0.9 * Math.min(width / (right - left || 1), height / (bottom - top || 1));
  view = { x: (left + right) / 2, y: (top + bottom) / 2, scale };
  draw();
}

function bounds(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return values.length ? [low, high] : [0, 1];
}

function place(n) {
  const { width, height } = size();
  return [
    (map.x[n] - view.x) * view.scale + width / 2,
    (map.y[n] - view.y) * view.scale + height / 2,
  ];
}

function draw() {
  if (!map) return;
  const { width, height } = size();
  const dense = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, width * dense);
  canvas.height = Math.max(1, height * dense);
  const context = canvas.getContext("2d");
  context.scale(dense, dense);
  const radius = map.x.length > 2000 ? 2 : 5;
  for (let n = 0; n < map.x.length; n++) {
    const [x, y] = place(n);
    if (x < 0 || y < 0 || x > width || y > height) continue;
    context.fillStyle = colour(map.labels[n]);
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  }
}

function nearest(x, y, within) {
  let best = -1, distance = within;
  for (let n = 0; map && n < map.x.length; n++) {
    const [px, py] = place(n);
    const far = Math.hypot(px - x, py - y);
    if (far < distance) [best, distance] = [n, far];
  }
  return best;
}

function zoom(factor, x = size().width / 2, y = size().height / 2) {
  const { width, height } = size();
  const [dx, dy] = [(x - width / 2) / view.scale, (y - height / 2) / view.scale];
  view.scale *= factor;
  view.x += dx - dx / factor;
  view.y += dy - dy / factor;
  draw();
}

function pan(dx, dy) {
  view.x -= dx / view.scale;
  view.y -= dy / view.scale;
  draw();
}

function tell(n) {
  name.textContent = n < 0 ? "" : `${map.labels[n] ?? ""} ${map.names[n]}`;
}

function onMove(event) {
  const before = fingers.get(event.pointerId);
  const now = [event.offsetX, event.offsetY];
  if (!before) return tell(nearest(...now, 15));
  const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
  moved += Math.abs(dx) + Math.abs(dy);
  const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
  if (others.length) {
    const [ox, oy] = others[0];
    const was = Math.hypot(before[0] - ox, before[1] - oy);
    const is = Math.hypot(now[0] - ox, now[1] - oy);
    if (was > 0 && is > 0) zoom(is / was, ox, oy);
  } else {
    pan(dx, dy);
  }
  fingers.set(event.pointerId, now);
}

function pick(x, y, within) {
  const n = nearest(x, y, within);
  if (n >= 0) open(map.uris[n]);
}

function onKey(event) {
  const { width, height } = size();
  const keys = {
    ArrowLeft: () => pan(40, 0),
    ArrowRight: () => pan(-40, 0),
    ArrowUp: () => pan(0, 40),
    ArrowDown: () => pan(0, -40),
    "+": () => zoom(1.3),
    "=": () => zoom(1.3),
    "-": () => zoom(1 / 1.3),
    0: fit,
    Enter: () => pick(width / 2, height / 2, Infinity),
  };
  if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  keys[event.key]();
  if (event.key !== "Enter") tell(nearest(width / 2, height / 2, Infinity));
}

function listen() {
  canvas.addEventListener("pointerdown", (event) => {
    if (!fingers.size) moved = 0;
    fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", onMove);
  canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointerup", (event) => {
    fingers.delete(event.pointerId);
    if (moved < 6 && !fingers.size) pick(event.offsetX, event.offsetY, 20);
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", onKey);
  document.getElementById("map-in").addEventListener("click", () => zoom(1.5));
  document.getElementById("map-out").addEventListener("click", () => zoom(1 / 1.5));
  document.getElementById("map-all").addEventListener("click", fit);
  window.addEventListener("resize", draw);
}

// Show points {x, y, labels, uris, names}; ``pick`` is called with the uri that is clicked.
export function showMap(points, pick) {
  map = points;
  open = pick;
  fit();
}

listen();
