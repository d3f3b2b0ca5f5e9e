// The page: images on one side, questions and their answers on the other.

import { Refused, ask, askWhole, curl, fetchFiles, findExamples, findModels, watchLoading } from "./api.js";
import { PDF, dataUrl, readFiles } from "./images.js";
import { coloursOf, draw, fill, fillText, labelOf, percent } from "./overlay.js";

const TASKS = {
  caption: { label: "Describe" },
  vqa: { label: "Question", hint: "How many apples are in the image?" },
  detect: { label: "Find", hint: "red apple" },
  refseg: { label: "Outline", hint: "the red apple on the left" },
  ocr: { label: "Read a line" },
  read: { label: "Read", finish: finishPage },
  compare: { label: "Compare", hint: "Texts, one a line (Shift+Enter)", finish: finishComparison },
  "": { label: "Prompt", hint: "Answer in en: what is it? <extra_id_0>" },
};
const SCREEN = 256; // pixels; no side of a screenshot or page is shorter
const RETRY = 3000; // milliseconds between looks for a server that does not answer

const $ = (id) => document.getElementById(id);
const languages = new Intl.DisplayNames(["en"], { type: "language" });
const state = { models: [], model: null, examples: [], images: [], current: null, shown: null, texts: {}, running: new Set() };

// The server

async function connect() {
  try {
    state.models = await findModels(key());
    state.examples = await findExamples();
  } catch (error) {
    if (error.status === 401) return openDoor();
    say(`${error.message} Trying again …`);
    setTimeout(connect, RETRY);
    return;
  }
  say("");
  $("models").replaceChildren(...state.models.map(({ id }) => new Option(id)));
  $("models").hidden = state.models.length < 2;
  $("model").hidden = !$("models").hidden;
  take(state.models[0]);
}

/** Offer what a model can be asked for. */
function take(model) {
  state.model = model;
  $("model").textContent = model.id;
  document.title = `${model.id} · OpenPaLI`;
  const { tasks, languages: codes, reads_pages: reads, embeds, takes_prompts: prompted } = model.openpali;
  const offered = tasks.filter(({ name }) => name in TASKS);
  if (reads) offered.push({ name: "read" });
  if (embeds) offered.push({ name: "compare", takes: "texts" });
  if (prompted || !offered.length) offered.push({ name: "", takes: "prompt" });
  const before = document.querySelector("[name=task]:checked")?.value;
  const first = offered.find(({ name }) => name === before) ?? offered.find(({ note }) => !note) ?? offered[0];
  const buttons = offered.map((task) => taskButton(task, task === first));
  $("tasks").replaceChildren($("tasks").firstElementChild, ...buttons);
  const chosen = $("lang").value;
  $("lang").replaceChildren(...codes.map((code) => new Option(nameOf(code), code)));
  const own = navigator.language.split("-")[0];
  $("lang").value = [chosen, own, "en"].find((code) => codes.includes(code)) ?? codes[0] ?? "";
  offerExamples(model.openpali);
  changeTask();
}

/** A language in English; a code that no browser knows stays as it is. */
function nameOf(code) {
  try {
    return languages.of(code);
  } catch {
    return code;
  }
}

let secret = ""; // as long as the page, where a browser stores nothing

function key() {
  try {
    return sessionStorage.getItem("key") ?? secret;
  } catch {
    return secret;
  }
}

function openDoor() {
  $("door-title").textContent = key() ? "The server refuses this key" : "This server asks for a key";
  $("door").showModal();
}

$("door").addEventListener("close", () => {
  secret = $("key").value.replace(/[^\x20-\xff]/g, "").trim(); // a header takes no others
  try {
    sessionStorage.setItem("key", secret);
  } catch {
    // blocked with all site storage
  }
  connect();
});
$("door").addEventListener("cancel", (event) => event.preventDefault());

function say(text) {
  $("banner").textContent = text;
  $("banner").hidden = !text;
}

watchLoading((progress) => {
  $("loading").hidden = !progress;
  if (!progress) return;
  const [loaded, total] = [progress.loaded, progress.total].map((bytes) => (bytes / 1e6).toFixed(1));
  $("loading").querySelector("progress").value = progress.loaded / progress.total;
  $("loading").querySelector("span").textContent = `${loaded} of ${total} MB`;
});

// The task

function taskButton(task, checked) {
  const label = document.createElement("label");
  const radio = Object.assign(document.createElement("input"), { type: "radio", name: "task", value: task.name, checked });
  radio.task = task;
  label.append(radio, TASKS[task.name].label);
  return label;
}

function task() {
  return document.querySelector("[name=task]:checked").task;
}

function changeTask() {
  const { name, takes, note, names_language: named } = task();
  $("text").hidden = !takes;
  $("text").placeholder = TASKS[name].hint ?? "";
  $("text").setAttribute("aria-label", takes || "text");
  $("text").value = state.texts[name] ?? "";
  $("language").hidden = !named || !$("lang").length;
  $("note").textContent = note ?? "";
  $("note").hidden = !note;
  grow();
  refresh();
}

/** As many lines as the text has. */
function grow() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight + 2}px`;
}

function refresh() {
  const { name, takes } = state.model ? task() : { takes: "" };
  const asked = !takes || $("text").value.trim();
  $("ask").disabled = !state.model || !asked || (name !== "" && !state.current);
  $("ask").title = state.model && name !== "" && !state.current ? "Choose an image first" : "";
  $("ask").hidden = state.running.size > 0;
  $("stop").hidden = !state.running.size;
}

$("models").addEventListener("change", () => take(state.models[$("models").selectedIndex]));
$("tasks").addEventListener("change", () => {
  state.chosen = true;
  changeTask();
});
$("text").addEventListener("input", () => {
  state.texts[task().name] = $("text").value;
  grow();
  refresh();
});
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return; // 229: Safari composes
  event.preventDefault();
  askNow();
});

function askNow() {
  if (!state.running.size) $("form").requestSubmit();
}

// Examples

/** Show those that a model can answer, and what it says about itself. */
function offerExamples({ tasks, languages: codes, about, max_images: most, reads_pages: reads }) {
  const speaks = ({ names_language: named }, lang) => (named ? codes.includes(lang) : lang === "en");
  const able = ({ task: name, lang, images }) =>
    (name === "read" ? reads : tasks.some((each) => each.name === name && speaks(each, lang))) && images.length <= most;
  $("tries").replaceChildren(...state.examples.filter(able).map(exampleButton));
  $("knows").textContent = about;
  $("examples").hidden = Boolean(state.current) || !$("tries").children.length;
}

function exampleButton(example) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "example";
  const { title, text, images, task: name } = example;
  const kind = images.length > 1 ? "Video: " : name === "vqa" ? "" : `${TASKS[name].label}: `;
  const label = Object.assign(document.createElement("span"), { textContent: text ? kind + text : title });
  button.append(Object.assign(new Image(), { src: images[0], alt: "" }), label);
  button.title = label.textContent;
  button.addEventListener("click", () => tryExample(example));
  return button;
}

async function tryExample({ images, task: name, text, lang }) {
  try {
    await add(await fetchFiles(images));
  } catch (error) {
    return say(error.message);
  }
  select(state.images.at(-images.length));
  $("together").firstChild.checked = images.length > 1;
  document.querySelector(`[name=task][value=${name}]`).checked = true;
  state.texts[name] = text;
  if (lang) $("lang").value = lang;
  changeTask();
  $("form").requestSubmit(); // beside what is being answered
}

// Images

async function add(files) {
  if (!files.length) return;
  say("");
  document.body.classList.add("reading");
  try {
    const some = await readFiles(files, state.model?.openpali.reads_pages ? state.model.openpali.max_pages : 0);
    const room = state.model?.openpali.max_images ?? Infinity;
    const video = some.length > 1 && [...files].every((file) => file.type.startsWith("video/"));
    state.images = video ? some : [...state.images, ...some];
    if (video) $("together").firstChild.checked = true;
    if (state.images.length > room) {
      state.images = state.images.slice(-room);
      say(`${state.model.id} takes ${room} ${room > 1 ? "images" : "image"} at a time here: the newest ${room > 1 ? "stay" : "stays"}.`);
    }
    select(video ? state.images[0] : state.images.at(-1));
    offerReading(state.current);
  } catch (error) {
    say(error.message);
  } finally {
    document.body.classList.remove("reading");
    $("files").value = "";
  }
}

/** Show an image, with the objects of its latest answer or of another one. */
function select(image, answer = null) {
  state.current = image;
  state.shown = answer ?? answers.find((each) => each.images[0] === image && (each.objects.length || each.lines.length)) ?? null;
  const many = state.images.length > 1;
  const together = many && state.images.length <= (state.model?.openpali.max_images ?? Infinity);
  $("empty").hidden = Boolean(image);
  $("examples").hidden = Boolean(image) || !$("tries").children.length;
  $("figure").hidden = !image;
  $("strip").hidden = !image;
  $("together").hidden = !together;
  if (!together) $("together").firstChild.checked = false;
  $("thumbs").replaceChildren(...(many ? state.images.map(thumbOf) : []));
  if (image) {
    $("image").src = image.url;
    $("image").alt = image.name;
    $("picture").style.setProperty("--ratio", image.width / image.height);
    const size = image.blob.type === PDF ? "" : ` · ${image.width} × ${image.height}`;
    $("about").textContent = image.name + size;
  }
  showObjects();
  refresh();
}

/** On what may be a screenshot or a page, Read and Find come first, and Read is chosen until another task was. */
function offerReading({ width, height, blob }) {
  const [read, find] = ["read", "detect"].map((name) => document.querySelector(`[name=task][value=${name}]`)?.parentNode);
  if (!read || Math.min(width, height) < SCREEN) return;
  $("tasks").firstElementChild.after(...[read, find].filter(Boolean));
  if (state.chosen && blob.type !== PDF) return;
  read.firstChild.checked = true;
  changeTask();
}

function thumbOf(image) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "thumb";
  button.title = image.name;
  button.setAttribute("aria-pressed", image === state.current);
  button.append(picture(image));
  button.addEventListener("click", () => select(image));
  return button;
}

function picture(image) {
  return Object.assign(new Image(), { src: image.url, alt: image.name });
}

function remove(image) {
  const at = state.images.indexOf(image);
  state.images = state.images.filter((each) => each !== image);
  select(state.images[Math.min(at, state.images.length - 1)] ?? null);
  if (!state.current) $("files").focus();
}

$("files").addEventListener("change", () => add([...$("files").files]));
$("remove").addEventListener("click", () => remove(state.current));
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  const rich = ["text/html", "text/rtf"].some((type) => event.clipboardData.types.includes(type)); // with its picture
  if (!files.length || (rich && event.target === $("text"))) return;
  event.preventDefault();
  add(files);
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    $("dropping").hidden = false;
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("dropping").hidden = true;
});
document.addEventListener("drop", (event) => {
  if (![...event.dataTransfer.types].includes("Files")) return;
  event.preventDefault();
  $("dropping").hidden = true;
  add([...event.dataTransfer.files]);
});

// Answers, the newest first

const answers = [];

async function run(question, images) {
  const answer = cardOf(question, images);
  answers.unshift(answer);
  $("answers").prepend(answer.card);
  $("none").hidden = true;
  const control = new AbortController();
  state.running.add(control);
  refresh();
  const began = performance.now();
  answer.card.classList.add("running");
  try {
    const urls = await Promise.all(images.map(dataUrl));
    const { finish: finishWhole } = TASKS[question.task];
    if (finishWhole) {
      finishWhole(answer, await askWhole(question, urls, key(), control.signal), performance.now() - began);
    } else {
      const found = await ask(question, urls, key(), control.signal, (text) => answer.said.append(text));
      finish(answer, found, performance.now() - began);
    }
  } catch (error) {
    fail(answer, error);
  } finally {
    answer.card.classList.remove("running");
    state.running.delete(control);
    refresh();
  }
}

function cardOf(question, images) {
  const card = $("card").content.cloneNode(true).firstElementChild;
  const find = (name) => card.querySelector(name);
  find("h2").textContent = [TASKS[question.task].label, question.text.replaceAll("\n", ", ")].filter(Boolean).join(": ");
  const place = images.length > 1 ? `${images.length} frames` : (images[0]?.name ?? "no image");
  const meta = [question.model, question.lang && nameOf(question.lang), place];
  find(".meta").textContent = meta.filter(Boolean).join(" · ");
  find(".said").lang = question.lang;
  if (images.length) find(".show").append(picture(images[0]));
  else find(".show").remove();
  const answer = { card, question, images, objects: [], items: [], lines: [], said: find(".said") };
  card.querySelector(".show")?.addEventListener("click", () => show(answer));
  find(".again").addEventListener("click", () => state.running.size || run(question, images));
  find(".save").addEventListener("click", () => save(answer));
  const command = curl(question, images, key());
  find(".curl pre").textContent = command;
  find(".copy").addEventListener("click", (event) => copy(find(".curl pre").textContent, event.target));
  find(".curl").hidden = !command;
  find(".copy-text").addEventListener("click", (event) => copy(answer.said.textContent, event.target));
  return answer;
}

function tell(answer, milliseconds, raw) {
  const seconds = milliseconds < 950 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
  answer.card.querySelector(".meta").append(` · ${seconds}`);
  answer.card.querySelector(".raw pre").textContent = raw;
  answer.card.querySelector(".raw").hidden = false;
}

function finishPage(answer, found, milliseconds) {
  tell(answer, milliseconds, JSON.stringify(found, null, 1));
  answer.lines = found.lines ?? []; // the pages of a PDF file are told as text
  answer.card.classList.add("page");
  answer.card.querySelector(".copy-text").hidden = !found.text;
  answer.said.textContent = (found.pages ?? [found]).map(textOfPage).join("\n\n").trim() || "No text.";
  if ((found.pages ?? [found]).some((page) => page.out_of_distribution)) {
    warn(answer);
    for (const word of answer.lines.flatMap((line) => line.words)) word.confidence = null;
  }
  if (answer.images.includes(state.current)) show(answer);
}

/** Its rows, with two spaces between columns, and an empty one between blocks. */
function textOfPage({ lines }) {
  const gap = (line, before) => (line.row === before.row ? "  " : line.block === before.block ? "\n" : "\n\n");
  return lines.map((line, i) => (i ? gap(line, lines[i - 1]) : "") + line.text).join("");
}

function finishComparison(answer, found, milliseconds) {
  tell(answer, milliseconds, JSON.stringify(found, null, 1));
  answer.said.hidden = true;
  const items = answer.question.text.split("\n").map((text, i) => {
    const item = document.createElement("li");
    const value = found.similarity[0][i];
    item.append(text, meterOf(value), value.toPrecision(2));
    return item;
  });
  answer.card.querySelector(".objects").append(...items);
}

function warn(answer) {
  const warning = answer.card.querySelector(".warning");
  warning.textContent =
    `This image is out of the distribution that ${answer.question.model || state.model.id} was trained on: do not trust the answer.`;
  warning.hidden = false;
}

function finish(answer, { choice, raw }, milliseconds) {
  const { openpali: own, finish_reason: reason } = choice;
  if (!answer.images.length) own.objects = []; // there is nothing to draw them on: the text says them
  if (!own.confidence_holds) {
    own.confidence = null;
    for (const object of own.objects) object.confidence = null;
  }
  const find = (name) => answer.card.querySelector(name);
  tell(answer, milliseconds, raw.trim());
  if (own.confidence !== null) find(".meta").append(` · ${percent(own.confidence)} sure`);
  if (!answer.said.textContent) answer.said.textContent = "Nothing.";
  if (reason === "length") answer.said.append(" …");
  if (own.out_of_distribution) warn(answer);
  answer.objects = own.objects;
  answer.said.hidden = own.objects.length > 0; // coordinates, which are drawn now
  const colours = coloursOf(own.objects);
  answer.items = own.objects.map((each, i) => itemOf(answer, each, i, colours[i]));
  find(".objects").append(...answer.items);
  find(".save").hidden = !own.objects.length;
  if (own.objects.length && answer.images.includes(state.current)) show(answer); // or another image would be asked next
}

function fail(answer, error) {
  const stopped = error.name === "AbortError";
  if (!stopped && !(error instanceof Refused)) console.error(error);
  answer.card.classList.add(stopped ? "stopped" : "failed");
  answer.card.querySelector(".meta").append(stopped ? " · stopped" : "");
  if (!stopped) answer.said.textContent = error.message;
  answer.card.querySelector(".again").hidden = false;
  if (error.status === 401) openDoor();
}

function itemOf(answer, object, index, colour) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.style.setProperty("--colour", colour);
  button.append(object.label || object.name || answer.question.text || "object");
  if (object.confidence !== null) button.append(meterOf(object.confidence), percent(object.confidence));
  button.title = `top ${Math.round(object.box[0])}, left ${Math.round(object.box[1])}, bottom ${Math.round(
    object.box[2],
  )}, right ${Math.round(object.box[3])}`;
  for (const name of ["pointerenter", "focus"]) button.addEventListener(name, () => highlight(answer, index));
  for (const name of ["pointerleave", "blur"]) button.addEventListener(name, () => highlight(answer, null));
  button.addEventListener("click", () => show(answer));
  item.append(button);
  return item;
}

function meterOf(value) {
  return Object.assign(document.createElement("meter"), { value });
}

/** Show the objects of an answer on its image. */
function show(answer) {
  if (!state.images.includes(answer.images[0])) state.images = [...state.images, answer.images[0]];
  select(answer.images[0], answer);
}

function showObjects() {
  const answer = state.shown;
  for (const each of answers) each.card.classList.toggle("shown", each === answer);
  state.parts = answer ? fill($("layer"), state.current, answer.objects) : ($("layer").replaceChildren(), []);
  if (answer?.lines.length) fillText($("layer"), state.current, answer.lines);
  state.parts.forEach(([box], i) => {
    box.addEventListener("pointerenter", () => highlight(answer, i));
    box.addEventListener("pointerleave", () => highlight(answer, null));
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", labelOf(answer.objects[i]));
  });
}

/** Bring one object of an answer out, here and in its card; null: all alike. */
function highlight(answer, index) {
  if (index !== null && state.shown !== answer) {
    if (!answer.images.includes(state.current)) return; // a click shows it
    show(answer);
  }
  $("layer").classList.toggle("some", index !== null);
  state.parts.forEach((some, i) => some.forEach((part) => part.classList.toggle("hot", i === index)));
  answer.items.forEach((item, i) => item.classList.toggle("hot", i === index));
}

async function save(answer) {
  const url = URL.createObjectURL(await draw(answer.images[0], answer.objects));
  const name = answer.images[0].name.replace(/\.[^.]*$/, "");
  Object.assign(document.createElement("a"), { href: url, download: `${name}-${answer.question.task || "answer"}.png` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

async function copy(text, button) {
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else copySelected(text);
  const label = button.dataset.label ?? (button.dataset.label = button.textContent);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = label), 1500);
}

/** Copy where a page has no clipboard: over http from another machine. */
function copySelected(text) {
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** What is asked; of several texts, which stand one a line, no line is empty. */
function textOf(takes) {
  const text = $("text").value.trim();
  return takes === "texts" ? text.replace(/\s*\n\s*/g, "\n") : text;
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("ask").disabled) return;
  const { name, takes, names_language: named } = task();
  const together = $("together").firstChild.checked;
  const images = together && !TASKS[name].finish ? state.images : state.current ? [state.current] : [];
  const model = state.models.length > 1 ? state.model.id : ""; // where there is one, nobody has to name it
  run({ model, task: name, text: takes ? textOf(takes) : "", lang: named ? $("lang").value : "" }, images);
});
function stop() {
  for (const each of state.running) each.abort();
}

$("stop").addEventListener("click", ({ detail: clicks }) => clicks < 2 && stop()); // a double click on Ask ends here
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
  const free = event.target === document.body || (event.target === $("files") && state.current);
  if (event.key !== "Enter" || !free) return;
  event.preventDefault();
  askNow();
});

connect();
