// Photographs: dropped, pasted or chosen; a card per picture, a contact sheet of several.

import { ask, Gone, parameters, Refusal } from "./api.js";
import { box, explain, make, putTip, row, sentence } from "./faces.js";
import { save } from "./saving.js";

const AT_ONCE = 4;
const drop = document.getElementById("drop");
const sheet = document.getElementById("sheet");
const tools = document.getElementById("tools");
const count = document.getElementById("count");
const cards = [];
let limits = null;
let running = 0;

export function knowLimits(told) {
  limits = told;
}

class Card {
  constructor(file) {
    this.file = file;
    this.faces = null;
    this.failure = "";
    this.waiting = true;
    this.round = 0;
    this.picture = null;
    this.image = make("img");
    this.image.alt = "";
    this.image.draggable = false;
    this.boxes = make("div", "boxes");
    this.frame = make("div", "frame", this.image, this.boxes);
    this.state = make("p", "state busy", "Looking for faces …");
    this.list = make("ol", "faces");
    this.again = make("button", "", "Try again");
    this.again.type = "button";
    this.again.hidden = true;
    this.again.addEventListener("click", () => this.restart());
    this.photo = make("div", "photo", this.frame);
    this.text = make("div", "text", make("h3", "", file.name), this.state, this.list, this.again);
    this.element = make("article", "card", this.photo, this.text);
    this.element.setAttribute("aria-label", file.name);
    this.address = URL.createObjectURL(file);
    this.image.addEventListener("load", () => {
      this.picture = { width: this.image.naturalWidth, height: this.image.naturalHeight };
      this.draw();
      // What was added is to be seen; of several, the first.
      if (cards[0] === this && !this.failure) tools.scrollIntoView({ block: "start" });
    });
    this.image.addEventListener("error", () => {
      this.photo.replaceChildren(make("p", "no-preview", "The browser cannot show this file."));
    });
    this.image.src = this.address;
  }

  restart() {
    this.waiting = true;
    this.round += 1;
    this.show("Looking for faces …", "busy");
    next();
  }

  async read() {
    this.waiting = false;
    const round = this.round;
    const form = new FormData();
    form.append("pictures", this.file, this.file.name);
    try {
      if (limits && this.file.size > limits.max_body - 4096) {
        const most = Math.floor(limits.max_body / 2 ** 20);
        throw new Refusal({ detail: `has more than the ${most} MB that a picture may have here; scale it down.` });
      }
      const wanted = new URLSearchParams({ ...parameters(), distribution: "true" });
      const answer = await ask(`/v1/predict?${wanted}`, { method: "POST", body: form });
      if (round === this.round) this.succeed(answer.pictures[0].faces);
    } catch (error) {
      if (round === this.round) this.fail(error);
    }
  }

  succeed(faces) {
    this.faces = faces;
    this.failure = "";
    const words = faces.length === 0 ? "No face was found." : faces.length === 1 ? "1 face" : `${faces.length} faces`;
    this.show(words, faces.length ? "" : "bad");
    this.draw();
    say(`${this.file.name}: ${words} ${faces.slice(0, 5).map(sentence).join("; ")}`);
  }

  fail(error) {
    this.faces = null;
    const reason = error instanceof Refusal && error.pictures.length ? error.pictures[0].reason : error.message;
    this.failure = reason;
    const own = /^(is|has|claims|holds|needs) /.test(reason);
    this.show(own ? `This file ${reason}.` : reason, "bad");
    this.again.hidden = !(error instanceof Gone || error.status >= 429);
    this.draw();
    say(`${this.file.name}: ${this.state.textContent}`);
  }

  show(words, kind) {
    this.state.className = `state ${kind}`;
    this.state.textContent = words;
    this.again.hidden = true;
    summarize();
  }

  draw() {
    const faces = this.faces ?? [];
    const rows = faces.map(row);
    this.list.replaceChildren(...rows);
    this.boxes.replaceChildren();
    const shown = this.image.clientWidth || 320;
    // The largest face comes first, and small boxes lie above large ones.
    faces.forEach((face, number) => {
      const boxed = this.picture ? box(face, number, this.picture, shown) : null;
      if (boxed) this.boxes.append(boxed);
      explain(boxed, rows[number], () => face);
    });
    putTip();
    this.image.alt = this.faces === null ? "" : `${this.file.name}, ${this.state.textContent}`;
  }

  forget() {
    this.round += 1;
    URL.revokeObjectURL(this.address);
  }
}

function say(text) {
  document.getElementById("said").textContent = text;
}

function next() {
  while (running < AT_ONCE) {
    const card = cards.find((each) => each.waiting);
    if (!card) return;
    running += 1;
    card.read().finally(() => {
      running -= 1;
      next();
    });
  }
}

function summarize() {
  const done = cards.filter((card) => card.faces !== null || card.failure);
  const faces = cards.reduce((sum, card) => sum + (card.faces?.length ?? 0), 0);
  tools.hidden = cards.length === 0;
  drop.classList.toggle("small", cards.length > 0);
  sheet.classList.toggle("one", cards.length === 1);
  const pictures = `${cards.length} ${cards.length === 1 ? "picture" : "pictures"}`;
  const progress = done.length < cards.length ? ` · ${done.length} read` : "";
  count.textContent = `${pictures}${progress} · ${faces} ${faces === 1 ? "face" : "faces"}`;
  for (const id of ["save-csv", "save-json"]) document.getElementById(id).disabled = faces === 0;
}

function add(files) {
  const added = [...files].map((file) => new Card(file));
  if (!added.length) return;
  cards.push(...added);
  sheet.append(...added.map((card) => card.element));
  summarize();
  cards.forEach((card) => card.draw());
  next();
}

export function readAgain() {
  cards.forEach((card) => card.restart());
}

export function retryGone() {
  cards.filter((card) => !card.again.hidden).forEach((card) => card.restart());
}

function pastedName(file, number) {
  // Browsers call everything that is pasted image.png.
  return file.name && file.name !== "image.png" ? file : new File([file], `pasted-${number}.png`, { type: file.type });
}

export function start(isShown) {
  document.getElementById("files").addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = "";
  });
  let depth = 0;
  addEventListener("dragenter", (event) => {
    event.preventDefault();
    depth += 1;
    drop.classList.add("over");
  });
  addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) drop.classList.remove("over");
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    drop.classList.remove("over");
    isShown();
    const files = event.dataTransfer?.files ?? [];
    if (files.length) add(files);
    else say("What was dropped holds no file; save the picture first, or paste it.");
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    isShown();
    add(files.map((file, place) => pastedName(file, cards.length + place + 1)));
  });
  document.getElementById("save-csv").addEventListener("click", () => save(cards, "csv"));
  document.getElementById("save-json").addEventListener("click", () => save(cards, "json"));
  document.getElementById("print").addEventListener("click", () => print());
  document.getElementById("clear").addEventListener("click", () => {
    cards.splice(0).forEach((card) => card.forget());
    sheet.replaceChildren();
    putTip();
    summarize();
    say("All pictures are cleared.");
    document.getElementById("files").focus();
  });
  addEventListener("resize", () => cards.forEach((card) => card.draw()));
}
