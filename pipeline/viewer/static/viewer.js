// The viewer: which scene, which layers, and what is at a place. Everything comes from the server that sent this page.

import { detailsOf } from "./chart.js";
import { element, legendOf } from "./legend.js";
import { Swipe } from "./swipe.js";

const L = window.L, at = (name) => document.getElementById(name);
const state = { number: 0, scene: null, map: null, shown: [], swipe: null, mark: null };

function fail(words) {
  at("failure").textContent = words;
  at("failure").hidden = !words;
}

async function ask(path) {
  const answer = await fetch(path);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

// Without a position the scene's own rows and columns are the map's coordinates; rows go down.
const onMap = ([first, second]) => (state.scene.box ? [first, second] : [-first, second]);

function drawnLayer(layer, options) {
  const base = `/scenes/${state.number}/layers/${layer.number}`;
  const bounds = L.latLngBounds(layer.corners.map(onMap));
  const more = state.scene.box ? { bounds, maxZoom: state.scene.zoom, maxNativeZoom: state.scene.zoom } : { alt: layer.title };
  const made = state.scene.box
    ? L.tileLayer(`${base}/{z}/{x}/{y}.png`, { ...more, ...options })
    : L.imageOverlay(`${base}/picture.png`, bounds, { ...more, ...options });
  made.on("tileerror error", () => fail(`${layer.title} cannot be shown in part or whole; the file may have changed.`));
  return made;
}

const layerOf = (key) => state.scene.layers.find((layer) => layer.key === key);
const chosen = (group) => at("controls").elements[group]?.value ?? "";

function draw() {
  fail("");
  state.shown.forEach((layer) => layer.remove());
  state.swipe?.remove();
  const swiping = at("swipe").checked, map = layerOf(chosen("maps")), image = layerOf(chosen("images"));
  const wanted = swiping
    ? ["left", "right"].map((side) => [layerOf(at(side).value), { pane: `swipe-${side}` }])
    : [[image, { pane: "images" }]];
  at("image-choice").disabled = swiping;
  at("swipe-choice").hidden = at("divider").hidden = !swiping;
  state.swipe = swiping ? new Swipe(state.map, at("divider"), at("position")) : null;
  if (map) wanted.push([map, { pane: "maps", opacity: at("opacity").value / 100 }]);
  const there = wanted.filter(([layer]) => layer);
  state.shown = there.map(([layer, options]) => drawnLayer(layer, options).addTo(state.map));
  const told = [...new Set(there.map(([layer]) => layer))].reverse();
  at("legend").replaceChildren(...told.map(legendOf));
}

function radios(group, layers, selected) {
  const lines = [{ key: "", title: "none" }, ...layers].map(({ key, title }, place) => {
    const line = element("div", "", "choice"), button = element("input"), label = element("label", title);
    Object.assign(button, { type: "radio", name: group, value: key, id: `${group}-${place}`, checked: key === selected });
    label.htmlFor = button.id;
    line.append(button, label);
    return line;
  });
  at(group).replaceChildren(...lines);
}

function choices(side, layers, selected) {
  at(side).replaceChildren(...layers.map(({ key, title }) => {
    const option = element("option", title);
    option.value = key;
    option.selected = key === selected;
    return option;
  }));
}

function offer() {
  const { layers } = state.scene, images = layers.filter(({ role }) => role !== "map");
  const maps = layers.filter(({ role }) => role === "map");
  radios("images", images, images[0]?.key ?? "");
  radios("maps", maps, maps[0]?.key ?? "");
  at("map-choice").hidden = !maps.length;
  const before = layers.find(({ role }) => role === "before") ?? layers[0];
  const after = layers.find(({ key }) => `${key}-before` === before.key) ?? layers[1] ?? layers[0];
  choices("left", layers, before.key);
  choices("right", layers, after.key);
  at("swipe").checked = false;
}

function makeMap() {
  state.swipe?.remove();
  state.swipe = null;
  state.map?.remove();
  const { box, shape, zoom } = state.scene;
  state.map = L.map("map", box
    ? { maxZoom: zoom, zoomSnap: 0.5, attributionControl: false }
    : { crs: L.CRS.Simple, minZoom: -6, maxZoom: 5, zoomSnap: 0.5, attributionControl: false });
  state.map.createPane("images").style.zIndex = 200;
  state.map.createPane("maps").style.zIndex = 300;
  if (box) L.control.scale({ imperial: false }).addTo(state.map);
  const [south, west, north, east] = box ?? [-shape[0], 0, 0, shape[1]];
  state.map.fitBounds([[south, west], [north, east]]);
  state.map.on("click", ({ latlng }) => tell(latlng));
}

async function tell({ lat, lng }) {
  const [x, y] = state.scene.box ? [lng, lat] : [lng, -lat];
  const query = new URLSearchParams({ x, y });
  try {
    const { found } = await ask(`/scenes/${state.number}/at?${query}`);
    state.mark?.remove();
    const ring = found?.tile?.ring;
    state.mark = ring
      ? L.polygon(ring.map(onMap), { color: "#000", weight: 3, fill: false }).addTo(state.map)
      : L.circleMarker([lat, lng], { radius: 6, color: "#000", weight: 3, fill: false }).addTo(state.map);
    at("details").replaceChildren(...detailsOf(found));
    at("details-title").scrollIntoView({ block: "start" });
  } catch (error) {
    fail(error.message);
  }
}

async function open(number) {
  state.number = number;
  try {
    state.scene = await ask(`/scenes/${number}`);
  } catch (error) {
    fail(error.message);
    return;
  }
  const { shape, crs } = state.scene;
  at("scene-words").textContent = `${state.scene.name}: ${shape[0]} x ${shape[1]} px, ${crs}`;
  at("details").replaceChildren();
  state.mark = null;
  state.shown = [];
  makeMap();
  offer();
  draw();
  document.body.dataset.ready = "yes";
}

function listen() {
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("controls").addEventListener("change", ({ target }) => {
    if (target.id === "scene") open(Number(target.value));
    else if (target.type !== "range") draw();
  });
  at("opacity").addEventListener("input", ({ target }) => {
    target.setAttribute("aria-valuetext", `${target.value} %`);
    state.shown.filter(({ options }) => options.pane === "maps").forEach((layer) => layer.setOpacity(target.value / 100));
  });
  at("middle").addEventListener("click", () => tell(state.map.getCenter()));
}

async function begin() {
  const { title, scenes } = await ask("/scenes");
  document.title = `${title} - Equipoise`;
  at("title").textContent = title;
  at("scene").replaceChildren(...scenes.map((name, number) => new Option(name, number)));
  at("scene-choice").hidden = scenes.length < 2;
  listen();
  await open(0);
}

begin().catch((error) => fail(`The server does not answer (${error.message}); start equipoise view again.`));
