// A face's whole age distribution as a small drawing.

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

/** Draw probabilities of the ages 0, 1, 2 …, the interval as a band, the expected age as a line. */
export function curve(face, { width = 92, height = 34, axis = false } = {}) {
  const proba = face.age_proba ?? [];
  const bottom = axis ? height - 18 : height;
  const last = Math.max(1, proba.length - 1);
  const most = Math.max(...proba, 1e-9);
  const x = (age) => (age / last) * width;
  const y = (p) => bottom - (p / most) * (bottom - 4);
  const drawn = element("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", focusable: "false" });
  if (!axis) drawn.setAttribute("preserveAspectRatio", "none");
  if (face.age_low !== null) {
    const left = x(Math.max(0, face.age_low));
    element("rect", { class: "band", x: left, y: 0, width: Math.max(0, x(Math.min(last, face.age_high)) - left), height: bottom }, drawn);
  }
  const line = proba.map((p, age) => `${age ? "L" : "M"}${x(age).toFixed(1)} ${y(p).toFixed(1)}`).join("");
  if (line) {
    element("path", { class: "area", d: `${line}L${width} ${bottom}L0 ${bottom}Z` }, drawn);
    element("path", { class: "stroke", d: line }, drawn);
  }
  if (face.age !== null) element("line", { class: "mean", x1: x(face.age), x2: x(face.age), y1: 0, y2: bottom }, drawn);
  if (axis) {
    element("line", { class: "axis", x1: 0, x2: width, y1: bottom, y2: bottom }, drawn);
    for (let age = 0; age <= last; age += 20) {
      element("text", { x: Math.min(Math.max(x(age), 4), width - 10), y: height - 3 }, drawn).textContent = age;
    }
  }
  return drawn;
}
