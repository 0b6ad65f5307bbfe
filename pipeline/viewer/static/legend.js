// Legends: what the colours of a layer mean, as elements.

const SVG = "http://www.w3.org/2000/svg";

export function element(name, content = "", kind = "") {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.textContent = content;
  return made;
}

export function drawn(name, attributes, content = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = content;
  return made;
}

function entry(name, colour) {
  const line = element("div", "", "entry");
  const swatch = element("span", "", "swatch");
  swatch.style.background = colour;
  line.append(swatch, element("span", name));
  return line;
}

function ramp({ colours, low, high, unit }) {
  const bar = element("div", "", "ramp");
  bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
  const ends = element("div", "", "ends");
  const shown = (value) => `${Number(value.toPrecision(3))}${unit && unit !== "1" ? ` ${unit}` : ""}`;
  ends.append(element("span", shown(low)), element("span", shown(high)));
  return [bar, ends];
}

const parts = (colour) => [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));

// Three sensors span a triangle: each corner is a tile that rests on one of them alone.
function triangle(entries) {
  const size = 150, height = Math.round(size * 0.866), canvas = element("canvas");
  canvas.width = size;
  canvas.height = height;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Triangle of colours; its corners are tiles that rest on one sensor alone: ${
    entries.map(({ name }, place) => `${name} ${["at the top", "on the left", "on the right"][place]}`).join(", ")}`);
  const pen = canvas.getContext("2d"), picture = pen.createImageData(size, height);
  const colours = entries.map(({ colour }) => parts(colour));
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const top = 1 - (y + 0.5) / height, right = (x + 0.5) / size - top / 2, left = 1 - top - right;
      if (left < 0 || right < 0) continue;
      const shares = [top, left, right];
      const mixed = [0, 1, 2].map((band) => shares.reduce((sum, share, place) => sum + share * colours[place][band], 0));
      picture.data.set([...mixed, 255], 4 * (y * size + x));
    }
  }
  pen.putImageData(picture, 0, 0);
  return canvas;
}

function mixture(entries) {
  const lines = entries.map(({ name, colour }) => entry(`rests on ${name}`, colour));
  const nothing = entry("nothing drawn: indeterminate, or not observed", "transparent");
  if (entries.length === 2) {
    const bar = element("div", "", "ramp");
    bar.style.background = `linear-gradient(to right, ${entries.map(({ colour }) => colour).join(", ")})`;
    return [bar, ...lines, nothing];
  }
  const words = element("p", "Colours between are shares between.", "quiet");
  return entries.length === 3 ? [triangle(entries), ...lines, nothing, words] : [...lines, nothing, words];
}

export function legendOf(layer) {
  const block = element("div"), { legend } = layer;
  block.append(element("p", layer.title));
  if (legend.kind === "names") block.append(...legend.entries.map(({ name, colour }) => entry(name, colour)));
  if (legend.kind === "ramp") block.append(...ramp(legend));
  if (legend.kind === "mixture") block.append(...mixture(legend.entries));
  if (legend.kind === "bands") block.append(element("p", `its bands ${legend.entries.join(", ")} as red, green and blue`, "quiet"));
  if (layer.note) block.append(element("p", layer.note, "quiet"));
  return block;
}
