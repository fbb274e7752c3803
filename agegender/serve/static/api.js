// The service, as the page asks it.

let key = "";
const listeners = new Set();
let isThere = true;

/** A refusal in the service's own words. */
export class Refusal extends Error {
  constructor(problem) {
    super(problem.detail ?? problem.title ?? "The service refused.");
    this.status = problem.status;
    this.pictures = problem.pictures ?? [];
  }
}

/** The server does not answer at all. */
export class Gone extends Error {}

export function useKey(given) {
  key = given;
}

export function currentKey() {
  return key || undefined;
}

/** Be told when the server goes and when it is back. */
export function onPresence(listener) {
  listeners.add(listener);
}

export function notePresence(there) {
  if (there === isThere) return;
  isThere = there;
  listeners.forEach((listener) => listener(there));
  if (!there) lookAgain();
}

async function lookAgain() {
  while (!isThere) {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    try {
      if ((await fetch("/healthz", { cache: "no-store" })).ok) notePresence(true);
    } catch {
      // still gone
    }
  }
}

export async function ask(path, options = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    notePresence(false);
    throw new Gone("The server does not answer.");
  }
  notePresence(true);
  const answer = await response.json().catch(() => ({ detail: `The service answered with status ${response.status}.` }));
  if (!response.ok) throw new Refusal(answer);
  return answer;
}

/** The options as parameters of the service, without those left open. */
export function parameters() {
  const form = new FormData(document.getElementById("options-form"));
  return Object.fromEntries([...form].filter(([, value]) => value !== ""));
}
