// A model that takes an image and a prompt and writes text: encoders, and a decoder that adds a token at a time.

import { integers, tensor } from "./models.js";
import { confidence } from "./parse.js";
import { preprocess, scaled } from "./pixels.js";
import { GrowingText } from "./tokenizer.js";

export const GRAPHS = ["image", "prompt", "decoder"];

export class Pali {
  /** `graphs` are sessions by name, `part` the tables of this part; `detector` may be null. */
  constructor(graphs, part, tokenizer, parser, numbers, detector) {
    Object.assign(this, { graphs, part, tokenizer, parser, numbers, detector, seen: new WeakMap() });
  }

  /** Answer a prompt of a task about an image: {text, objects, confidence, score, finish, odd}. */
  async answer(image, prompt, task, most, { onText, check }) {
    const ids = this.tokenizer.encode(prompt);
    if (ids.length > this.part.most) {
      throw new Error(`The prompt has ${ids.length} tokens, this model takes ${this.part.most}: shorten it.`);
    }
    const growing = new GrowingText(this.tokenizer, onText);
    const { visual, odd } = await this.look(image);
    const written = await this.write(visual, ids, Math.max(most, this.part.longest), (some) => growing.add(some), check);
    const text = this.tokenizer.decode(written.ids);
    if (text.startsWith(growing.shown)) onText(text.slice(growing.shown.length));
    return { ...this.read(task, prompt, text, written, [image.height, image.width]), prompt, finish: written.finish, odd };
  }

  /** What the tokens of an answer say. */
  read(asked, prompt, text, written, size) {
    const task = this.parser.reader(asked, text);
    const about = task === asked ? prompt : "";
    const answer = { ...this.parser.parse(task, text, size, about), confidence: null };
    for (const object of answer.objects) object.confidence = null;
    const score = written.logs.reduce((all, log) => all + log, 0);
    const fit = this.part.calibration[task];
    if (fit && written.finish === "eos") {
      const claims = this.parser.claims(task, written, this.tokenizer, about);
      const sure = claims.map((log) => confidence(log, fit, this.numbers.calibration));
      if (task === "detect" || task === "refseg") answer.objects.forEach((object, i) => (object.confidence = sure[i]));
      else answer.confidence = sure[0];
    }
    return { ...answer, score };
  }

  /** Visual tokens of an image, and how odd it is; those of an image that was seen before are kept. */
  async look(image) {
    if (!this.seen.has(image)) {
      const small = preprocess(image, this.part.preprocess);
      const pixels = tensor(scaled([small]), [1, small.height, small.width, 3]);
      const { visual, patches } = await this.graphs.image.run({ pixels });
      this.seen.set(image, { visual, odd: this.detector && this.detector.score(patches) });
    }
    return this.seen.get(image);
  }

  /** The likeliest tokens, one after another: {ids, logs, finish}; `logs` has that of the end, too. */
  async write(visual, prompt, most, onToken, check) {
    const { eos } = this.tokenizer;
    const encoded = await this.graphs.prompt.run({ visual, prompt: integers(prompt, [1, prompt.length]) });
    const names = Object.keys(encoded).filter((name) => name.startsWith("memory_")).map((name) => name.slice("memory_".length));
    const [, heads, , size] = encoded[`memory_${names[0]}`].dims;
    const memory = Object.fromEntries(names.map((name) => [`memory_${name}`, encoded[`memory_${name}`]]));
    let past = Object.fromEntries(names.map((name) => [`past_${name}`, tensor(new Float32Array(0), [1, heads, 0, size])]));
    const written = { ids: [], logs: [], finish: "length" };
    let token = this.part.first;
    while (written.ids.length < most) {
      await check();
      const step = await this.graphs.decoder.run({ ids: integers([token], [1, 1]), real: encoded.real, ...memory, ...past });
      past = Object.fromEntries(names.map((name) => [`past_${name}`, step[`next_${name}`]]));
      const { best, log } = likeliest(step.logits.data);
      written.logs.push(log);
      if (best === eos) return { ...written, finish: "eos" };
      written.ids.push((token = best));
      onToken(written.ids);
      if (loops(written.ids, this.numbers.generation)) return { ...written, finish: "repetition" };
    }
    return written;
  }
}

/** The likeliest token, and its log-probability. */
function likeliest(logits) {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  let all = 0;
  for (const each of logits) all += Math.exp(each - logits[best]);
  return { best, log: -Math.log(all) };
}

/** Whether a text ends in the same few tokens again and again. */
export function loops(ids, { repeats, longest, shortest }) {
  for (let n = 1; n <= longest; n++) {
    const tail = ids.slice(-n * Math.max(repeats, Math.ceil(shortest / n)));
    if (tail.length < n * Math.max(repeats, Math.ceil(shortest / n))) continue;
    if (tail.every((id, i) => i < n || id === tail[i - n])) return true;
  }
  return false;
}
