// The page: tabs, the model's own words, the key, and whether the server is there.

import { ask, Gone, notePresence, onPresence, Refusal, useKey } from "./api.js";
import * as camera from "./camera.js";
import { knowGenders, make, putTip } from "./faces.js";
import * as photos from "./photos.js";

const byId = (id) => document.getElementById(id);
const tabs = [byId("tab-photos"), byId("tab-camera")];

function select(tab, focus = false) {
  for (const each of tabs) {
    const isThis = each === tab;
    each.setAttribute("aria-selected", String(isThis));
    each.tabIndex = isThis ? 0 : -1;
    byId(each.getAttribute("aria-controls")).hidden = !isThis;
  }
  if (focus) tab.focus();
  putTip();
  if (tab === tabs[0]) camera.stop();
}

tabs.forEach((tab, place) => {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) select(tabs[(place + step + tabs.length) % tabs.length], true);
  });
});

function showPresence(there) {
  byId("gone").hidden = there;
  byId("gone").textContent = there ? "" : "The server is gone. Start agegender serve again: this page finds it by itself, and keeps its pictures.";
  byId("about-open").querySelector(".dot").className = `dot ${there ? "on" : "off"}`;
  if (there) {
    if (byId("about-open").disabled) learn();
    photos.retryGone();
  }
}

onPresence(showPresence);

async function askForKey(words) {
  byId("key-text").textContent = words;
  byId("key").showModal();
  await new Promise((resolve) => byId("key").addEventListener("close", resolve, { once: true }));
  useKey(byId("key-input").value.trim());
  byId("key-input").value = "";
}

function describe(model) {
  const network = model.networks[0] ?? {};
  const entries = {
    Model: model.name,
    "Trained on": model.trained_on,
    Pictures: model.n_training_pictures?.toLocaleString("en"),
    Network: `${network.name}, ${network.input_size?.join(" × ")} pixels`,
    Terms: network.terms,
    "Faces found by": model.faces.auto.name,
    "Intervals from": `${model.n_calibration_pictures.toLocaleString("en")} calibration pictures`,
    sha256: model.sha256 ?? "",
    Versions: Object.entries(model.versions).map(([name, version]) => `${name} ${version}`).join(", "),
    "Not for": model.must_not_be_used_for,
  };
  byId("about-list").replaceChildren(
    ...Object.entries(entries).filter(([, value]) => value).flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]),
  );
  byId("note").textContent = model.must_not_be_used_for;
  byId("chip-text").textContent = `${model.name} · ${model.faces.auto.name}`;
  byId("about-open").disabled = false;
  byId("about-open").querySelector(".dot").className = "dot on";
  const select = byId("option-faces");
  const words = { auto: `the model’s own (${model.faces.auto.name})`, none: "nothing: each picture is a face crop" };
  select.replaceChildren(...Object.keys(model.faces).map((name) => new Option(words[name] ?? name, name)));
  knowGenders(model.genders);
  photos.knowLimits(model.limits);
}

async function learn() {
  for (let words = "This service answers only those who have one of its keys. The page keeps it until it is closed."; ; ) {
    try {
      describe(await ask("/v1/model"));
      return;
    } catch (error) {
      if (error instanceof Gone) return;
      if (!(error instanceof Refusal) || error.status !== 401) {
        byId("gone").hidden = false;
        byId("gone").textContent = error.message;
        return;
      }
      await askForKey(words);
      words = "That is none of this service’s keys. Try another.";
    }
  }
}

byId("about-open").addEventListener("click", () => byId("about").showModal());
byId("options-form").addEventListener("change", () => {
  photos.readAgain();
  camera.renew();
});
addEventListener("offline", () => notePresence(navigator.onLine || location.hostname === "localhost" || location.hostname === "127.0.0.1"));

photos.start(() => select(tabs[0]));
camera.start();
learn();
