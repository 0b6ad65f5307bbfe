// Swipe: two layers, one on each side of a divider that a slider or the pointer moves.

export class Swipe {
  constructor(map, divider, slider) {
    this.map = map;
    this.divider = divider;
    this.slider = slider;
    this.sides = ["left", "right"].map((name) => map.createPane(`swipe-${name}`));
    this.sides.forEach((pane) => { pane.style.zIndex = 250; });
    this.clip = this.clip.bind(this);
    this.end = new AbortController();
    const told = { signal: this.end.signal };
    slider.addEventListener("input", this.clip, told);
    divider.addEventListener("pointerdown", (event) => {
      divider.setPointerCapture(event.pointerId);
      event.preventDefault();
    }, told);
    divider.addEventListener("pointermove", (event) => {
      if (!divider.hasPointerCapture(event.pointerId)) return;
      const box = map.getContainer().getBoundingClientRect();
      slider.value = Math.round(100 * (event.clientX - box.left) / box.width);
      this.clip();
    }, told);
    map.on("move zoom resize", this.clip);
    this.clip();
  }

  clip() {
    const share = this.slider.value / 100, { x: width, y: height } = this.map.getSize();
    const corner = this.map.containerPointToLayerPoint([0, 0]), cut = corner.x + width * share;
    const sides = [[corner.x, cut], [cut, corner.x + width]];
    this.sides.forEach((pane, place) => {
      const [from, to] = sides[place], bottom = corner.y + height;
      pane.style.clipPath = `polygon(${from}px ${corner.y}px, ${to}px ${corner.y}px, ${to}px ${bottom}px, ${from}px ${bottom}px)`;
    });
    this.divider.style.left = `${100 * share}%`;
    this.slider.setAttribute("aria-valuetext", `${this.slider.value} %`);
  }

  remove() {
    this.end.abort();
    this.map.off("move zoom resize", this.clip);
    this.sides.forEach((pane) => { pane.style.clipPath = ""; });
  }
}
