// What is at a place: words, a chart of what its tile rests on, and tables of the numbers.

import { drawn, element } from "./legend.js";

const percent = (share) => (share === null ? "unknown" : `${Math.round(share * 100)} %`);

function named(title, { name, colour }, more = "") {
  const line = element("div", "", "entry"), swatch = element("span", "", "swatch");
  swatch.style.background = colour;
  line.append(swatch, element("span", `${title}: ${name}${more}`));
  return line;
}

// Bars of shares; a line in each bar's row says how good the sensor's pixels were there.
function bars(reliance, quality) {
  const row = 26, width = 290, start = 70, length = 170;
  const words = reliance.map(({ name, share }) => `${name} ${percent(share)}`).join(", ");
  const chart = drawn("svg", {
    viewBox: `0 0 ${width} ${row * reliance.length}`, width: "100%", role: "img", "aria-label": `The tile rests on ${words}`,
  });
  reliance.forEach(({ name, share, colour }, place) => {
    const y = place * row, good = quality[name];
    chart.append(
      drawn("text", { x: 0, y: y + 17 }, name),
      drawn("rect", { x: start, y: y + 4, width: length, height: 16, fill: "none", stroke: "currentColor", opacity: 0.4 }),
      drawn("rect", { x: start, y: y + 4, width: length * share, height: 16, fill: colour }),
      drawn("text", { x: start + length + 8, y: y + 17 }, percent(share)),
    );
    if (good !== undefined && good !== null) {
      const x = start + length * good;
      chart.append(drawn("line", { x1: x, x2: x, y1: y + 1, y2: y + 23, stroke: "currentColor", "stroke-width": 3 }));
    }
  });
  return chart;
}

function table(caption, heads, rows) {
  const made = element("table"), head = element("tr");
  made.append(element("caption", caption));
  heads.forEach((text, place) => {
    const cell = element("th", text, place ? "number" : "");
    cell.scope = "col";
    head.append(cell);
  });
  made.append(head);
  for (const [name, ...values] of rows) {
    const line = element("tr"), title = element("th", name);
    title.scope = "row";
    line.append(title, ...values.map((value) => element("td", value, "number")));
    made.append(line);
  }
  return made;
}

function tile({ reliance, trust, quality }) {
  const found = [];
  if (trust) found.push(named("Trust", trust));
  if (reliance) {
    const known = Object.keys(quality).length > 0;
    found.push(element("p", `What the tile rests on${known ? " (bars), and how good each sensor was there (lines)" : ""}:`));
    found.push(bars(reliance, quality));
    found.push(table("The same in numbers", ["sensor", "reliance", ...(known ? ["quality"] : [])], reliance.map(
      ({ name, share }) => [name, percent(share), ...(known ? [percent(quality[name] ?? null)] : [])])));
  } else {
    found.push(element("p", "What the tile rests on is indeterminate, or was not asked for."));
  }
  return found;
}

export function detailsOf(found) {
  if (found === null) return [element("p", "Nothing of the scene is there.")];
  const parts = [element("p", found.place, "quiet")];
  if (found.prediction) {
    const { confidence } = found.prediction;
    parts.push(named("Prediction", found.prediction, confidence === null ? "" : `, confidence ${percent(confidence)}`));
  } else {
    parts.push(element("p", "No prediction there: nothing was observed, or the scene has no map."));
  }
  if (found.labels) parts.push(named("Label", found.labels));
  if (found.tile) parts.push(...tile(found.tile));
  for (const [sensor, bands] of Object.entries(found.images)) {
    parts.push(table(sensor, ["band", "value"], bands.map(({ name, value, unit }) => [
      name, value === null ? "not valid" : `${Number(value.toPrecision(4))}${unit && unit !== "1" ? ` ${unit}` : ""}`])));
  }
  return parts;
}
