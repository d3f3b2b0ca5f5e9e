// The server: what it can do, a question as a stream, and the command that asks the same.

import { Refused, examplesBy, filesBy } from "./examples.js";

export { Refused };

const CHAT = "v1/chat/completions";
const WHOLE = { read: "v1/read", compare: "v1/similarity" }; // tasks with an endpoint of their own

/** Nothing is loaded here: a server has its models before it answers. */
export function watchLoading() {}

/** The models that answer here, each {id, openpali: {tasks, languages, about, max_images, ...}}. */
export async function findModels(key) {
  const answer = await call("v1/models", { headers: headers(key) });
  return (await answer.json()).data;
}

/** Questions to try, each {title, images, task, text, lang}, with the addresses of the images. */
export function findExamples() {
  return examplesBy(call);
}

/** The images at addresses of this server, as files. */
export function fetchFiles(urls) {
  return filesBy(call, urls);
}

/** Ask, and hand on each piece of text. Returns the last choice, and all that came. */
export async function ask(question, urls, key, signal, onText) {
  const answer = await post(CHAT, { ...request(question, urls), stream: true }, key, signal);
  let raw = "";
  let read = 0;
  let choice = null;
  for await (const text of texts(answer.body)) {
    raw += text;
    for (let end; (end = raw.indexOf("\n\n", read)) >= 0; read = end + 2) {
      const data = raw.slice(read, end).replace(/^data: /, "");
      if (data === "[DONE]") continue;
      const event = JSON.parse(data);
      if (event.error) throw new Refused(event.error.message, 500);
      choice = event.choices[0] ?? choice;
      if (choice?.delta.content) onText(choice.delta.content);
    }
  }
  if (!choice?.openpali) throw new Refused("The server broke off its answer.", 0);
  return { choice, raw };
}

/** Read all text of a page: {text, lines}, each line {text, block, box, words}; or compare an image: {similarity}. */
export async function askWhole(question, urls, key, signal) {
  return (await post(WHOLE[question.task], request(question, urls), key, signal)).json();
}

function post(path, body, key, signal) {
  const sent = { ...headers(key), "Content-Type": "application/json" };
  return call(path, { method: "POST", headers: sent, body: JSON.stringify(body), signal });
}

async function* texts(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.releaseLock();
  }
}

async function call(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer.", 0);
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => null);
  throw new Refused(told?.error?.message ?? `The server answered with status ${answer.status}.`, answer.status);
}

function headers(key) {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function request({ model, task, text, lang }, urls) {
  if (task === "read") return { ...(model && { model }), image: urls[0] };
  if (task === "compare") return { ...(model && { model }), images: urls, texts: text.split("\n") };
  const images = urls.map((url) => ({ type: "image_url", image_url: { url } }));
  const message = { role: "user", content: [{ type: "text", text }, ...images] };
  const own = task ? { task, ...(lang && { lang }) } : { raw: true };
  return { ...(model && { model }), messages: [message], ...own };
}

/** A command for a shell that asks the same, with the images in files of these names. */
export function curl(question, images, key) {
  const places = images.map((_, i) => `data:image;base64,@${i}@`);
  const body = JSON.stringify(request(question, places)).replace(/[\\$`]/g, "\\$&");
  const filled = images.reduce(
    (all, { name }, i) => all.replace(`@${i}@`, () => `$(base64 < '${name.replaceAll("'", `'\\''`)}' | tr -d '\\n')`),
    body,
  );
  const auth = key ? ` -H "Authorization: Bearer $OPENPALI_API_KEY"` : "";
  const url = new URL(WHOLE[question.task] ?? CHAT, document.baseURI);
  return `curl -s ${url}${auth} -H "Content-Type: application/json" -d @- <<END\n${filled}\nEND\n`;
}
