// Small plots in SVG. Each says in its accessible name what it shows.

const WIDTH = 240;
const HEIGHT = 44;

/** Bars, oldest first; the highest fills the height. */
export function bars(svg, values, name) {
  const top = Math.max(1, ...values);
  const step = WIDTH / values.length;
  const bar = (value, index) => {
    const height = (value / top) * HEIGHT;
    return value > 0 ? `M${index * step} ${HEIGHT}v${-height}h${step - 1}v${height}z` : "";
  };
  draw(svg, [["mark", values.map(bar).join("")]], name);
}

/** A line through values in the order in which they came, the last at the right, room for `places` of them; from zero to the
    highest. */
export function line(svg, values, places, name) {
  const top = Math.max(...values) * 1.1 || 1;
  const step = WIDTH / (places - 1);
  const first = places - values.length;
  const x = (index) => (first + index) * step;
  const y = (value) => HEIGHT - (value / top) * HEIGHT;
  const path = values.map((value, index) => `${index === 0 ? "M" : "L"}${x(index)} ${y(value)}`).join("");
  const last = values.length - 1;
  const dot = last < 0 ? "" : `M${x(last) - 2} ${y(values[last]) - 2}h2v4h-2z`;
  draw(svg, [["thread", path], ["mark", dot]], name);
}

/** A ribbon of states, oldest first: 1 up, -1 down, 0 nothing to say. */
export function ribbon(svg, states, name) {
  const step = WIDTH / states.length;
  const of = (wanted, from, height) =>
    states.map((state, index) => (state === wanted ? `M${index * step} ${from}h${step + 0.1}v${height}h${-step - 0.1}z` : "")).join("");
  draw(svg, [["up", of(1, 14, 16)], ["down", of(-1, 20, 4)]], name);
}

function draw(svg, shapes, name) {
  svg.setAttribute("aria-label", name);
  while (svg.childElementCount < shapes.length) svg.append(document.createElementNS(svg.namespaceURI, "path"));
  shapes.forEach(([kind, path], index) => {
    svg.children[index].setAttribute("class", kind);
    svg.children[index].setAttribute("d", path);
  });
}
