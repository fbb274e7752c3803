// What is said of a face: in words, in a list, as a box over the picture, and in the panel beside the pointer.

import { curve } from "./curve.js";

const HUES = ["#7fd1ff", "#ffd166", "#9be37f", "#ff9fb2", "#c8b0ff", "#7fe3d0", "#ffb27a", "#e6e6e6"];
const LABEL = 32;
const tip = document.getElementById("tip");
let genders = new Map();

export function knowGenders(listed) {
  genders = new Map(listed.map(({ label, word }) => [label, word]));
}

export function hue(number) {
  return HUES[number % HUES.length];
}

export function make(name, className, ...content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

const years = (value) => Math.round(value);
const percent = (value) => `${Math.round(100 * value)} %`;

function intervalWords(face) {
  return face.age_low === null ? "" : `${years(face.age_low)}–${years(face.age_high)}`;
}

function genderWords(face) {
  if (face.gender === null || face.gender === undefined) return "gender: I don’t know";
  return `${genders.get(face.gender) ?? face.gender} ${percent(face.gender_proba)}`;
}

function doubtWords(face) {
  return face.reliable === false ? `; do not rely on it: ${face.doubts}` : "";
}

/** One sentence, for a screen reader; it has the words that stand on the box. */
export function sentence(face) {
  const age = face.age === null ? "age: I don’t know," : years(face.age);
  const range = face.age_low === null ? "" : `, from ${years(face.age_low)} to ${years(face.age_high)} years`;
  return `${age} ${genderWords(face)}${range}${doubtWords(face)}`;
}

/** A row of the list beside or below a picture. */
export function row(face, number) {
  const age = face.age === null ? make("span", "age unsure", "I don’t know") : make("span", "age", String(years(face.age)));
  const more = make("span", "more", make("b", "", genderWords(face)), make("span", "", `${intervalWords(face)} years`));
  if (face.reliable === false) more.append(make("span", "doubt", face.doubts));
  const item = make("li", "face", age, more, curve(face));
  item.style.setProperty("--hue", hue(number));
  return item;
}

/** The label on a box. */
function label(face, isTiny) {
  if (face.age === null) return "?";
  const word = genders.get(face.gender);
  return isTiny || !word ? String(years(face.age)) : `${years(face.age)} ${word}`;
}

/** A box over a picture; `picture` has the width and height that the box is told in. */
export function box(face, number, picture, shownWidth) {
  const isTiny = (face.width / picture.width) * shownWidth < 56;
  const made = make("button", `box${isTiny ? " tiny" : ""}`, make("span", "", label(face, isTiny)));
  made.type = "button";
  made.style.setProperty("--hue", hue(number));
  place(made, face, picture);
  made.classList.toggle("doubtful", face.reliable === false);
  made.classList.toggle("low", face.y < 0.09 * picture.height);
  made.classList.toggle("right", face.x + face.width > 0.85 * picture.width && face.width < 0.3 * picture.width);
  made.setAttribute("aria-label", `Face ${number + 1}: ${sentence(face)}`);
  return made;
}

export function relabel(made, face, number) {
  made.firstChild.textContent = label(face, made.classList.contains("tiny"));
  made.classList.toggle("doubtful", face.reliable === false);
  made.setAttribute("aria-label", `Face ${number + 1}: ${sentence(face)}`);
}

function place(made, face, picture) {
  made.style.left = `${(100 * face.x) / picture.width}%`;
  made.style.top = `${(100 * face.y) / picture.height}%`;
  made.style.width = `${(100 * face.width) / picture.width}%`;
  made.style.height = `${(100 * face.height) / picture.height}%`;
}

/** Show a face's distribution while its box or row has the pointer or the focus; a tap shows it, another hides it. */
export function explain(boxed, listed, current) {
  const elements = [boxed, listed].filter(Boolean);
  const show = (event) => {
    elements.forEach((each) => each.classList.add("on"));
    showTip(current(), event.currentTarget);
  };
  const hide = () => {
    elements.forEach((each) => each.classList.remove("on"));
    tip.hidden = true;
  };
  for (const each of elements) {
    each.addEventListener("pointerenter", show);
    each.addEventListener("pointerleave", hide);
    each.addEventListener("focus", show);
    each.addEventListener("blur", hide);
  }
  boxed?.addEventListener("click", show);
}

let pointed = null;

function showTip(face, beside) {
  pointed = beside;
  tip.replaceChildren(
    make("strong", "", face.age === null ? "I don’t know the age" : `${face.age.toFixed(1)} years`),
    make("p", "", `${intervalWords(face)} years · ${genderWords(face)}${doubtWords(face)}`),
    curve(face, { width: 288, height: 110, axis: true }),
  );
  tip.hidden = false;
  putTip();
}

/** Put the panel beside what it explains; hide it where that is no longer there. */
export function putTip() {
  if (tip.hidden) return;
  if (!pointed.checkVisibility()) {
    tip.hidden = true;
    return;
  }
  const around = pointed.getBoundingClientRect();
  const size = tip.getBoundingClientRect();
  const left = Math.min(Math.max(12, around.left + around.width / 2 - size.width / 2), innerWidth - size.width - 12);
  const below = around.bottom + 10;
  const top = below + size.height < innerHeight ? below : Math.max(12, around.top - size.height - LABEL);
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape") tip.hidden = true;
});
addEventListener("scroll", putTip, { passive: true });
addEventListener("resize", putTip);
