// The camera, live: one frame is on its way at a time, so that a slow server gets fewer frames, never older ones.

import { currentKey, notePresence, parameters } from "./api.js";
import { box, explain, hue, make, putTip, relabel, row, sentence } from "./faces.js";

const WIDTH = 640;
const QUALITY = 0.85;
const WINDOW = 2000;
const SPEAK_EVERY = 6000;

const stage = document.getElementById("stage");
const video = document.getElementById("video");
const boxes = document.getElementById("live-boxes");
const list = document.getElementById("live-faces");
const none = document.getElementById("live-none");
const text = document.getElementById("stage-text");
const button = document.getElementById("camera-start");
const rate = document.getElementById("rate");
const mirror = document.getElementById("mirror");
const canvas = document.createElement("canvas");
const context = canvas.getContext("2d", { alpha: false });

let session = null;

const REFUSALS = {
  NotAllowedError: "The camera was refused. Allow it for this page in the browser, then start again.",
  NotFoundError: "No camera was found. Connect one, then start again.",
  NotReadableError: "The camera cannot be read: another program may be using it.",
  OverconstrainedError: "The camera has no picture of a size that is wanted.",
};

class Session {
  constructor(stream, socket) {
    this.stream = stream;
    this.socket = socket;
    this.inFlight = false;
    this.seen = 0;
    this.capturedAt = 0;
    this.sentFrame = 0;
    this.sentAt = 0;
    this.answered = [];
    this.behind = [];
    this.shown = new Map();
    this.spokenAt = 0;
    this.over = false;
    socket.addEventListener("open", () => {
      notePresence(true);
      socket.send(JSON.stringify({ ...parameters(), distribution: true, key: currentKey() }));
    });
    socket.addEventListener("message", (event) => this.take(JSON.parse(event.data)));
    socket.addEventListener("close", () => this.end("The server ended the connection. Start the camera again."));
    socket.addEventListener("error", () => {
      notePresence(false);
      this.end("The server does not answer. Start it again, then the camera.");
    });
    this.watch();
    stream.getVideoTracks()[0].addEventListener("ended", () => this.end("The camera was disconnected."));
  }

  take(message) {
    if (message.problem && message.frame === undefined) {
      this.end(message.problem.detail);
      return;
    }
    if (message.ready) {
      this.ready = true;
      this.send();
      return;
    }
    const now = performance.now();
    this.inFlight = false;
    this.answered.push(now);
    this.behind.push(now - this.sentAt);
    this.send();
    if (message.faces) this.draw(message.faces);
    this.measure(now);
  }

  /** Be told of every frame that the camera gives. */
  watch() {
    if (this.over) return;
    video.requestVideoFrameCallback((now, about) => {
      this.seen += 1;
      this.capturedAt = about.captureTime ?? now;
      this.send();
      this.watch();
    });
  }

  /** Send the newest frame, unless it was sent before or another is on its way. */
  send() {
    if (this.over || !this.ready || this.inFlight || this.seen === this.sentFrame) return;
    this.inFlight = true;
    this.sentFrame = this.seen;
    this.sentAt = this.capturedAt;
    const scale = Math.min(1, WIDTH / Math.max(video.videoWidth, video.videoHeight));
    const width = Math.round(video.videoWidth * scale);
    const height = Math.round(video.videoHeight * scale);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.drawImage(video, 0, 0, width, height);
    canvas.toBlob((frame) => {
      if (!this.over && this.socket.readyState === WebSocket.OPEN) this.socket.send(frame);
    }, "image/jpeg", QUALITY);
  }

  measure(now) {
    while (this.answered.length > 1 && now - this.answered[0] > WINDOW) {
      this.answered.shift();
      this.behind.shift();
    }
    const seconds = (now - this.answered[0]) / 1000;
    if (seconds < 0.3) return;
    const fps = (this.answered.length - 1) / seconds;
    const behind = this.behind.reduce((sum, each) => sum + each, 0) / this.behind.length;
    rate.dataset.fps = fps.toFixed(2);
    rate.dataset.behind = behind.toFixed(1);
    rate.dataset.worst = Math.max(...this.behind).toFixed(1);
    rate.replaceChildren(make("b", "", fps.toFixed(0)), ` frames/s · ${behind.toFixed(0)} ms behind`);
  }

  draw(faces) {
    const picture = { width: canvas.width, height: canvas.height };
    const across = stage.clientWidth;
    const scale = Math.min(across / picture.width, stage.clientHeight / picture.height);
    const left = (across - picture.width * scale) / 2;
    const top = (stage.clientHeight - picture.height * scale) / 2;
    const seen = new Set();
    for (const face of faces) {
      seen.add(face.number);
      const known = this.shown.get(face.number) ?? this.add(face, picture, across);
      known.face = face;
      const x = mirror.checked ? picture.width - face.x - face.width : face.x;
      known.boxed.style.transform = `translate(${left + x * scale}px, ${top + face.y * scale}px)`;
      known.boxed.style.width = `${face.width * scale}px`;
      known.boxed.style.height = `${face.height * scale}px`;
      relabel(known.boxed, face, face.number);
      const listed = row(face, face.number);
      known.listed.replaceChildren(...listed.childNodes);
    }
    for (const [number, known] of this.shown) {
      if (seen.has(number)) continue;
      known.boxed.remove();
      known.listed.remove();
      this.shown.delete(number);
    }
    putTip();
    none.textContent = faces.length ? "" : "No face is seen.";
    this.speak(faces);
  }

  add(face, picture, across) {
    const boxed = box(face, face.number, picture, across);
    const listed = make("li", "face");
    boxed.style.left = boxed.style.top = "0";
    listed.style.setProperty("--hue", hue(face.number));
    const known = { face, boxed, listed };
    explain(boxed, listed, () => known.face);
    boxes.append(boxed);
    list.append(listed);
    this.shown.set(face.number, known);
    return known;
  }

  speak(faces) {
    const now = performance.now();
    if (now - this.spokenAt < SPEAK_EVERY) return;
    this.spokenAt = now;
    document.getElementById("said").textContent = faces.length ? faces.slice(0, 3).map(sentence).join("; ") : "No face is seen.";
  }

  end(words) {
    if (this.over) return;
    this.over = true;
    this.stream.getTracks().forEach((track) => track.stop());
    this.socket.close();
    video.srcObject = null;
    boxes.replaceChildren();
    list.replaceChildren();
    rate.replaceChildren();
    putTip();
    session = null;
    off(words);
  }
}

function off(words) {
  text.hidden = false;
  text.textContent = words;
  none.textContent = "Every face that the camera sees is followed, and its numbers are averaged.";
  button.textContent = "Start the camera";
  button.disabled = false;
  document.getElementById("said").textContent = words;
}

async function begin() {
  if (!navigator.mediaDevices) {
    off("Browsers give the camera only to pages of this machine (localhost) or over HTTPS.");
    return;
  }
  button.disabled = true;
  text.hidden = false;
  text.textContent = "Waiting for the camera …";
  let stream;
  try {
    const wanted = { width: { ideal: WIDTH }, height: { ideal: 480 }, frameRate: { ideal: 30 }, facingMode: "user" };
    stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
  } catch (error) {
    off(REFUSALS[error.name] ?? `The camera cannot be used (${error.message || error.name}).`);
    return;
  }
  video.srcObject = stream;
  await video.play();
  stage.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
  text.hidden = true;
  button.disabled = false;
  button.textContent = "Stop the camera";
  const address = new URL("/v1/live", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  session = new Session(stream, new WebSocket(address));
}

export function stop() {
  session?.end("The camera is off.");
}

export function start() {
  button.addEventListener("click", () => (session ? stop() : begin()));
  mirror.addEventListener("change", () => stage.classList.toggle("mirror", mirror.checked));
  stage.classList.add("mirror");
}

/** The options have changed: the camera starts anew with them. */
export function renew() {
  if (!session) return;
  stop();
  begin();
}
