// The page: the hash of its address says what is shown, so "back" works and links can be kept.
// Names are only ever set as text.
import { showMap } from "./map.js";

const $ = (id) => document.getElementById(id);
const FILTERS = ["label", "uri", "where"];
let photo = null; // the photo that was dropped
let shown = 0; // counts what was asked for, so that a late answer is not shown

const state = () => new URLSearchParams(location.hash.slice(1));
const link = (values) => "#" + new URLSearchParams(values);

function go(changes) {
  const next = state();
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value === null) next.delete(name);
    else next.set(name, value);
  }
  const hash = "#" + next;
  if (hash === location.hash) show();
  else location.hash = hash;
}

async function ask(path, values, options) {
  const answer = await fetch(`${path}?${new URLSearchParams(values)}`, options);
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.error);
  return data;
}

function say(text, problem = false) {
  $("status").textContent = text;
  $("status").classList.toggle("problem", problem);
}

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

function filters(from) {
  const given = FILTERS.map((name) => [name, from.get(name)]);
  return Object.fromEntries(given.filter(([, value]) => value));
}

export const picture = (uri) => "/picture?" + new URLSearchParams({ uri });

// The end of a name tells more than its folders; the whole name is in the title.
const short = (name) => name.slice(name.lastIndexOf("/", name.length - 2) + 1);

// What a number of an item means: of a duplicate how near it is to the first image of its group, of
// a neighbour the cosine, of other images the probability of the label.
function measure(item, isHit) {
  if (item.group !== undefined) return `${item.cosine.toFixed(4)}, ${item.hamming} bits differ`;
  return item.score === null ? "" : item.score.toFixed(isHit ? 4 : 2);
}

function card(item, from, isHit) {
  const line = element("li");
  if (item.kind) {
    const box = element("article");
    box.append(element("b", item.kind), element("small", item.message), element("small", item.name));
    line.append(box);
    return line;
  }
  const box = element("a");
  box.href = link({ ...filters(from), view: "similar", to: item.uri });
  box.title = item.name;
  const image = element("img");
  image.loading = "lazy";
  image.alt = "";
  image.src = picture(item.uri);
  image.addEventListener("error", () => image.replaceWith(element("p", "no picture")));
  box.append(image, element("b", item.label ?? ""), element("small", measure(item, isHit)));
  box.append(element("small", short(item.name)));
  line.append(box);
  return line;
}

async function load(from) {
  const view = from.get("view") ?? "newest";
  const asked = filters(from);
  const page = from.get("page") ?? "0";
  if (view === "similar") return ask("/api/similar", { ...asked, to: from.get("to") });
  if (view === "photo") return ask("/api/similar", asked, { method: "POST", body: photo });
  if (view === "duplicates") return ask("/api/duplicates", { ...asked, page });
  if (view === "failures") return ask("/api/failures", { ...asked, page });
  return ask("/api/images", { ...asked, page, ...(view === "all" ? { all: 1 } : {}) });
}

function showQuery(view, from) {
  $("query").hidden = view !== "similar" && view !== "photo";
  if (view === "similar") {
    $("query-picture").src = picture(from.get("to"));
    $("query-name").textContent = "Similar to this image of the table";
  } else if (view === "photo") {
    $("query-picture").src = URL.createObjectURL(photo);
    $("query-name").textContent = `Similar to ${photo.name}`;
  }
}

function showItems(data, view, from) {
  const isHit = view === "similar" || view === "photo";
  $("grid").replaceChildren(...data.items.map((item) => card(item, from, isHit)));
  // Each group starts on a line of its own.
  data.items.forEach((item, n) => {
    const starts = item.group !== undefined && item.group !== data.items[n - 1]?.group;
    $("grid").children[n].classList.toggle("starts", starts);
  });
  const pages = data.pages ?? 1;
  $("pager").hidden = pages < 2;
  const page = Number(from.get("page") ?? 0);
  $("page-number").textContent = `page ${page + 1} of ${pages}`;
  $("previous").disabled = page < 1;
  $("next").disabled = page + 1 >= pages;
  const images = data.total === 1 ? "image" : "images";
  const count = data.total.toLocaleString();
  const ends = view === "failures" ? " without a vector" : "";
  say(data.said ?? `${count} ${isHit ? "nearest " : ""}${images}${ends}`);
}

async function show() {
  const from = state();
  let view = from.get("view") ?? "newest";
  // A reload has lost the photo.
  if (view === "photo" && !photo) view = "newest";
  const mine = ++shown;
  for (const name of FILTERS) $("filters").elements[name].value = from.get(name) ?? "";
  for (const tab of document.querySelectorAll("header nav a")) {
    const target = new URLSearchParams(tab.hash.slice(1)).get("view");
    if (target === view) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  $("map").hidden = view !== "map";
  $("grid").hidden = view === "map";
  say(view === "map" ? "placing the images; the first map takes a while …" : "…");
  try {
    showQuery(view, from);
    if (view === "map") {
      $("pager").hidden = true;
      const map = await ask("/api/map", filters(from));
      if (mine !== shown) return;
      showMap(map, (uri) => go({ view: "similar", to: uri }));
      say(map.said);
      return;
    }
    const asked = new URLSearchParams(from);
    asked.set("view", view);
    const data = await load(asked);
    if (mine === shown) showItems(data, view, from);
  } catch (error) {
    if (mine !== shown) return;
    $("grid").replaceChildren();
    $("pager").hidden = true;
    say(error.message, true);
  }
}

async function showAbout() {
  try {
    const about = await ask("/api/about", {});
    $("table").textContent = `${about.table}, version ${about.version}: ` +
      `${about.rows.toLocaleString()} images, ${about.failures.toLocaleString()} failures`;
    document.title = about.table;
  } catch (error) {
    $("table").textContent = error.message;
  }
}

function take(file) {
  if (!file) return;
  photo = file;
  go({ view: "photo", to: "", page: "" });
}

function turn(step) {
  if ($("pager").hidden) return;
  const button = step < 0 ? $("previous") : $("next");
  if (!button.disabled) go({ page: String(Number(state().get("page") ?? 0) + step) });
}

function moveFocus(step) {
  const links = [...$("grid").querySelectorAll("a")];
  const place = links.indexOf(document.activeElement);
  const next = place < 0 ? 0 : place + step;
  if (links[next]) links[next].focus();
}

function columns() {
  return getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;
}

function onKey(event) {
  const typing = ["INPUT", "CANVAS"].includes(event.target.tagName);
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {
    ArrowRight: () => moveFocus(1),
    ArrowLeft: () => moveFocus(-1),
    ArrowDown: () => moveFocus(columns()),
    ArrowUp: () => moveFocus(-columns()),
    "/": () => $("filters").elements.uri.focus(),
    n: () => turn(1),
    p: () => turn(-1),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}

function listen() {
  window.addEventListener("hashchange", show);
  document.addEventListener("keydown", onKey);
  $("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = new FormData(event.target);
    go({ ...Object.fromEntries(FILTERS.map((name) => [name, given.get(name)])), page: "" });
  });
  $("previous").addEventListener("click", () => turn(-1));
  $("next").addEventListener("click", () => turn(1));
  $("photo").addEventListener("change", (event) => take(event.target.files[0]));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dragging"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    take(event.dataTransfer.files[0]);
  });
}

listen();
showAbout();
show();
