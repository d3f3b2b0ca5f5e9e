// The models in this browser, in place of a server: what they can do, and questions.

import { Refused, examplesBy, filesBy } from "./examples.js";

export { Refused };

let worker = null;
let failed = false; // the worker could not start
let asked = 0;
let tell = () => {};
const waiting = new Map(); // id -> what to do with messages about a question
const FAILED = { error: { message: "This browser cannot run the models." } };

/** The models that answer here, each {id, openpali: {tasks, languages, about, max_images, ...}}. */
export async function findModels() {
  const tables = await (await call("tables.json")).json();
  if (!worker) start(tables);
  return [tables.model];
}

function start(tables) {
  worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  worker.addEventListener("message", ({ data }) => ("progress" in data ? tell(data.progress) : waiting.get(data.id)?.(data)));
  worker.addEventListener("error", () => {
    failed = true;
    waiting.forEach((each) => each(FAILED));
  });
  worker.postMessage({ tables });
}

/** Questions to try, each {title, images, task, text, lang}, with the addresses of the images. */
export function findExamples() {
  return examplesBy(call);
}

/** The images at addresses of this page, as files. */
export function fetchFiles(urls) {
  return filesBy(call, urls);
}

/** Ask, and hand on each piece of text. Returns the last choice, and all that came. */
export async function ask(question, urls, key, signal, onText) {
  const choice = await send(question, urls, signal, onText);
  return { choice, raw: JSON.stringify(choice, null, 1) };
}

/** Read all text of a page: {text, lines}, each line {text, block, box, words}. */
export function askWhole(question, urls, key, signal) {
  return send(question, urls, signal, () => {});
}

/** No command asks the same: there is no server. */
export function curl() {
  return "";
}

/** Tell how much of the models is loaded: {loaded, total} in bytes, or null if nothing is being loaded. */
export function watchLoading(show) {
  tell = show;
}

function send(question, urls, signal, onText) {
  signal.throwIfAborted();
  const id = ++asked;
  const blob = urls.length ? blobOf(urls[0]) : null;
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => {
      waiting.delete(id); // now, though the worker may have megabytes to load before it stops
      worker.postMessage({ stop: id });
      reject(signal.reason);
    });
    waiting.set(id, ({ text, found, error }) => {
      if (text) return onText(text);
      waiting.delete(id);
      if (found) resolve(found);
      else reject(new Refused(error.message, 400));
    });
    if (failed) return waiting.get(id)(FAILED);
    worker.postMessage({ id, question, blob, key: urls[0] });
  });
}

/** The bytes of a data URL. */
function blobOf(url) {
  const [head, data] = url.split(",");
  const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
  return new Blob([bytes], { type: head.slice("data:".length).split(";")[0] });
}

async function call(path) {
  const answer = await fetch(path).catch(() => null);
  if (answer?.ok) return answer;
  throw new Refused(`${path} cannot be loaded${answer ? `: status ${answer.status}` : ""}.`, 0);
}
