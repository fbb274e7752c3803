"use strict";
const cards = [...document.querySelectorAll("#suspicious .card")];
const form = document.querySelector("#filters");
const count = document.querySelector("#shown");

function keep(card, wanted) {
  const data = card.dataset;
  return (wanted.kind === "" || data.kinds.split(" ").includes(wanted.kind))
    && (wanted.gender === "" || data.gender === wanted.gender)
    && Number(data.age) >= wanted.low && Number(data.age) <= wanted.high
    && Number(data.suspicion) >= wanted.least
    && data.text.includes(wanted.text);
}

function filter() {
  const wanted = {
    kind: form.kind.value,
    gender: form.gender.value,
    low: form.low.value === "" ? -Infinity : Number(form.low.value),
    high: form.high.value === "" ? Infinity : Number(form.high.value),
    least: Number(form.least.value) / 100,
    text: form.text.value.trim().toLowerCase(),
  };
  document.querySelector("#least-shown").textContent = form.least.value + " %";
  let shown = 0;
  for (const card of cards) {
    card.hidden = !keep(card, wanted);
    shown += card.hidden ? 0 : 1;
  }
  count.textContent = shown + " of " + cards.length + " shown";
}

form.addEventListener("input", filter);
form.addEventListener("reset", () => setTimeout(filter));
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
filter();
