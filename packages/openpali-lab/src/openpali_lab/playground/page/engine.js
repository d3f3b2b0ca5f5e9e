// What the page asks a server for, answered here: which parts of the model a question goes to, and what comes back.

import { LanguageModel } from "./language.js";
import { paste } from "./masks.js";
import { Models, integers, tensor } from "./models.js";
import { Detector } from "./ood.js";
import { readingOrder } from "./order.js";
import { calibrated, cellsOf, leastIn, linesOf, readLines, within } from "./pages.js";
import { GRAPHS, Pali } from "./pali.js";
import { Parser } from "./parse.js";
import { decode, scaled } from "./pixels.js";
import { Prompts } from "./prompts.js";
import { Strings } from "./strings.js";
import { Tokenizer } from "./tokenizer.js";

const [FINDER, READER, MASKS] = ["finder", "reader", "mask_vqvae"]; // parts that take no prompts
const FINISH = { eos: "stop", length: "length", repetition: "length" };

export class Engine {
  constructor(tables, onProgress) {
    this.tables = tables;
    this.models = new Models(tables.files, onProgress);
    this.strings = new Strings(tables);
    this.prompts = new Prompts(tables, this.strings);
    this.tokenizers = tables.tokenizers.map((each) => new Tokenizer(each));
    this.parts = new Map();
    this.language = null;
    this.image = { blob: null, pixels: null };
  }

  /** Answer a question {task, text, lang} about an image: the last choice of a server. */
  async ask({ task, text, lang }, blob, hooks) {
    if (!blob) throw new Error("Choose an image first: this page answers about images alone.");
    const prompt = task ? this.prompts.ask(task, text, lang) : text;
    const known = task || this.prompts.recognise(prompt);
    if (known === "detect") this.checkNames(prompt);
    const image = await this.pixels(blob);
    const found = await this.best(image, prompt, known, hooks);
    if (MASKS in this.tables.parts && found.objects.some(({ codes }) => codes)) await this.drawMasks(found.objects, image);
    const objects = found.objects.map(({ name, box, mask = null, confidence }) => ({ name, box, mask, confidence }));
    const { confidence, score, finish, part, odd } = found;
    const own = { prompt, confidence, objects, score, finish_reason: finish, part };
    const holds = odd === null || odd <= this.tables.numbers.routing.confident;
    const about = { out_of_distribution: odd === null ? null : odd > 1, ood_score: odd, confidence_holds: holds };
    return { finish_reason: FINISH[finish], text: found.text, openpali: { ...own, ...about } };
  }

  /** The answer of the first part that is sure, else of the surest. */
  async best(image, prompt, task, hooks) {
    const parts = this.route(task, image);
    const alone = parts.length === 1;
    const found = [];
    for (const part of parts) {
      const quiet = { ...hooks, onText: alone ? hooks.onText : () => {} };
      const answer = part === READER ? await this.look(image, prompt, hooks) : await this.write(part, image, prompt, task, quiet);
      found.push({ ...answer, part });
      if (this.trust(answer) >= this.tables.numbers.routing.sure) break;
    }
    const best = found.reduce((one, other) => (this.trust(other) > this.trust(one) ? other : one));
    if (!alone || best.part === READER) hooks.onText(best.text);
    return best;
  }

  /** The confidence in an answer, less if the image is out of distribution; 0 without one. */
  trust({ confidence, odd, objects }) {
    const sure = [confidence, ...objects.map((each) => each.confidence)].filter((each) => each !== null);
    const mean = sure.reduce((all, each) => all + each, 0) / (sure.length || 1);
    return odd > 1 ? (mean * this.tables.numbers.routing.out_of_distribution) / odd : mean;
  }

  /** The parts that may answer a task about an image, in the order in which they are asked. */
  route(task, image) {
    const { squashed, line } = this.tables.numbers.routing;
    const parts = this.tables.routes[task] ?? this.tables.routes[this.tables.free_text];
    if (!parts.length) throw new Error(`this page cannot answer task ${task} with this model`);
    const others = parts.filter((part) => part !== READER);
    const mismatch = (part) => {
      const { height, width } = this.tables.parts[part].preprocess;
      const ratio = (width * image.height) / (height * image.width);
      return Math.max(ratio, 1 / ratio);
    };
    const fit = others.filter((part) => this.tables.parts[part].preprocess.policy === "pad" || mismatch(part) <= squashed);
    const sorted = others.length > 1 ? (fit.length ? fit : others).sort((a, b) => mismatch(a) - mismatch(b)) : others;
    const compared = others.every((part) => task in this.tables.parts[part].calibration);
    if (!compared) return sorted.slice(0, 1);
    if (parts.length === others.length) return sorted;
    return image.height <= line ? [READER, ...sorted] : [...sorted, READER];
  }

  async write(part, image, prompt, task, hooks) {
    return (await this.part(part)).answer(image, prompt, task, this.tables.tasks[task].most, hooks);
  }

  async look(image, prompt, hooks) {
    const alone = image.height <= this.tables.numbers.routing.line;
    const lines = await (alone ? this.readLine(image, hooks) : this.readPage(image, hooks));
    const words = lines.flatMap((line) => line.words);
    const sure = words.reduce((all, word) => all + word.confidence, 0) / (words.length || 1);
    const text = lines.map((line) => line.text).join("\n");
    return { text, objects: [], confidence: sure, score: 0, finish: "eos", prompt, odd: null };
  }

  /** All text of a page, as a server answers. */
  async read(blob, hooks) {
    const image = await this.pixels(blob);
    const lines = await this.readPage(image, hooks);
    const { id } = this.tables.model;
    return { model: id, height: image.height, width: image.width, text: lines.map((line) => line.text).join("\n"), lines };
  }

  async readPage(image, { check }) {
    const { numbers, parts } = this.tables;
    const { "finder/tiles": finder } = await this.models.open(["finder/tiles", "reader/lines"]);
    const find = async (tile) => {
      await check();
      const said = await finder.run({ pixels: tensor(scaled([tile]), [1, tile.height, tile.width, 3]) });
      return Object.fromEntries(Object.entries(said).map(([name, { data }]) => [name, data]));
    };
    const boxes = linesOf(await cellsOf(image, find, parts[FINDER], numbers.pages), numbers.pages);
    const rows = readingOrder(boxes, numbers.order).flatMap((some, block) => some.map((row) => ({ row, block })));
    const order = rows.flatMap(({ row: some, block }, row) => some.map((i) => ({ box: boxes[i], block, row })));
    const words = await this.words(image, order.map(({ box }) => box), check);
    const lines = order.map((line, i) => ({ words: words[i], ...line })).filter((line) => line.words.length);
    return this.sure(lines.map((line) => within(image, line)), leastIn(lines, numbers.routing));
  }

  async readLine(image, { check }) {
    const { margin } = this.tables.numbers.pages;
    const room = (image.height * margin) / (1 + 2 * margin);
    const box = [room, room, image.height - room, image.width - room];
    const [words] = await this.words(image, [box], check);
    return this.sure([{ words, box, block: 0, row: 0 }], () => 0);
  }

  async words(image, boxes, check) {
    const about = this.tables.parts[READER];
    const names = ["reader/lines", ...(about.language ? ["reader/language.bin"] : [])];
    const { "reader/lines": reader, "reader/language.bin": values } = await this.models.open(names);
    if (values) this.language ??= new LanguageModel(values, about.language);
    const read = async (pixels, shape, columns) => {
      await check();
      return (await reader.run({ pixels: tensor(pixels, shape), columns: integers(columns, [columns.length]) })).logits.data;
    };
    return readLines(image, boxes, read, about, this.language, this.tables.numbers);
  }

  /** Lines with calibrated confidence, without words of less than the least for their line. */
  sure(lines, least) {
    return calibrated(lines, this.tables.parts[READER].calibration, this.tables.numbers.calibration, least);
  }

  async drawMasks(objects, image) {
    const { [`${MASKS}/masks`]: masks } = await this.models.open([`${MASKS}/masks`]);
    for (const object of objects) {
      const { mask } = await masks.run({ codes: integers(object.codes, [1, object.codes.length]) });
      object.mask = paste({ values: mask.data, side: mask.dims.at(-1) }, object.box, [image.height, image.width]);
    }
  }

  /** Raise an error if all names that a prompt asks for are unknown: the model would find them anyway. */
  checkNames(prompt) {
    const { names, model } = this.tables;
    const asked = this.prompts.names(prompt);
    const known = asked.some((name) => names.some((each) => this.strings.alike(name, each)));
    if (!names.length || !asked.length || known) return;
    const unknown = asked.map((name) => `“${name}”`).join(", ");
    throw new Error(`${model.id} does not know ${unknown}. It finds ${names.length} things, such as ${names.slice(-3).join(", ")}.`);
  }

  async part(name) {
    if (!this.parts.has(name)) {
      const { ood } = this.tables.parts[name];
      const detector = ood ? [`${name}/ood.bin`] : [];
      const found = await this.models.open([...GRAPHS.map((graph) => `${name}/${graph}`), ...detector]);
      const graphs = Object.fromEntries(GRAPHS.map((graph) => [graph, found[`${name}/${graph}`]]));
      const part = this.tables.parts[name];
      const parser = new Parser(this.tables, part.boxes, this.prompts, this.strings);
      const seen = ood && new Detector(found[`${name}/ood.bin`], ood);
      this.parts.set(name, new Pali(graphs, part, this.tokenizers[part.tokenizer], parser, this.tables.numbers, seen));
    }
    return this.parts.get(name);
  }

  /** Pixels of an image; those of the last one are kept, so that it is seen once. */
  async pixels({ key, blob }) {
    if (this.image.key !== key) this.image = { key, pixels: await decode(blob) };
    return this.image.pixels;
  }
}
