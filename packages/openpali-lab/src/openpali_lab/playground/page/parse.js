// Answers: boxes, codes of masks, and the log-probability of each.

import { length } from "./strings.js";

/** Boxes as text, "ymin xmin ymax xmax", and back to pixels. */
export class Locations {
  constructor({ bins, style }, joiner, strings) {
    Object.assign(this, { bins, style, joiner: strings.strip(joiner), strings });
    this.coordinate = style === "text" ? /^([0-9]{1,5})$/ : /^<loc([0-9]{4})>$/;
    this.token = new RegExp(`<loc[0-9]{4}>|(?:(?!<loc[0-9]{4}>)[^${strings.spaces}])+`, "gu");
  }

  words(text) {
    return this.style === "text" ? this.strings.split(text) : (text.match(this.token) ?? []);
  }

  /** Each object {box, name, first, last}, with the range of its words; what is malformed is left out. */
  named(text, size) {
    const words = this.words(text);
    const starts = [...this.starts(words), words.length];
    const found = [];
    for (let i = 0; i + 1 < starts.length; i++) {
      let [first, last] = [starts[i], starts[i + 1]];
      const box = this.box(words.slice(first, first + 4), size);
      if (this.style === "token") while (last > first + 4 && this.bin(words[last - 1]) !== null) last -= 1; // of a box that was cut off
      if (this.joiner && words[last - 1] === this.joiner) last -= 1;
      let name = words.slice(first + 4, last).join(" ");
      if (this.joiner && name.endsWith(this.joiner)) name = name.slice(0, -this.joiner.length);
      if (box && name) found.push({ box, name, first, last });
    }
    return found;
  }

  bin(word) {
    const match = this.coordinate.exec(word);
    return match ? Number(match[1]) : null;
  }

  /** Four words as a box in pixels; null if they are none. */
  box(words, [height, width]) {
    const bins = words.map((word) => this.bin(word));
    if (bins.length !== 4 || bins.some((bin) => bin === null || bin >= this.bins)) return null;
    const box = bins.map((bin, i) => (bin / (this.bins - 1)) * (i % 2 ? width : height));
    return box[2] > box[0] && box[3] > box[1] ? box : null;
  }

  /** Where boxes start: the last four of each run of at least four coordinates. */
  starts(words) {
    const found = [];
    let run = 0;
    [...words, ""].forEach((word, at) => {
      if (this.bin(word) !== null) return void (run += 1);
      if (run >= 4) found.push(at - 4);
      run = 0;
    });
    return found;
  }
}

export class Parser {
  constructor(tables, boxes, prompts, strings) {
    Object.assign(this, { tables, prompts, strings });
    const { name, digits, codes } = tables.masks;
    this.masks = new RegExp(`(?:${name}[0-9]{${digits},3}>[${strings.spaces}]*){${codes}}`, "gu");
    this.code = new RegExp(`${name}([0-9]{${digits},3})>`, "g");
    this.detect = new Locations(boxes.detect, tables.objects_joiner, strings);
    this.refseg = new Locations(boxes.refseg, " ", strings);
  }

  /** The task that reads an answer: where detection and segmentation ask alike, its mask tokens tell. */
  reader(task, text) {
    if (task !== "detect" && task !== "refseg") return task;
    return text.includes(this.tables.masks.name) ? "refseg" : "detect";
  }

  /** An answer about an image of a size: {text, objects}; objects have a name and a box, or also codes of a mask. */
  parse(task, text, size, prompt = "") {
    const said = this.strings.strip(text);
    if (task === "refseg") return { text: said, objects: this.segments(text, size) };
    if (task !== "detect" || said === this.tables.nothing) return { text: said, objects: [] };
    const wanted = this.prompts.wanted(prompt);
    const found = this.detect.named(text, size).filter(({ name }) => wanted(name));
    return { text: said, objects: found.map(({ name, box }) => ({ name, box })) };
  }

  /** The log-probability of each claim of an answer: of the whole text, or of each object. */
  claims(task, { ids, logs }, tokenizer, prompt = "") {
    const text = tokenizer.decode(ids);
    if (task === "refseg") {
      const places = this.segments(text, [1, 1]).map(({ place }) => place);
      return partLogs(ids, logs, tokenizer, places).map(sum);
    }
    if (task !== "detect") return [sum(logs)];
    const places = [];
    let at = 0;
    for (const word of this.detect.words(text)) {
      const end = text.indexOf(word, at) + word.length;
      places.push([length(text.slice(0, at)), length(text.slice(0, end))]);
      at = end;
    }
    const of = partLogs(ids, logs, tokenizer, places);
    const wanted = this.prompts.wanted(prompt);
    const found = this.detect.named(text, [1, 1]).filter(({ name }) => wanted(name));
    return found.map(({ first, last }) => sum(of.slice(first, last).flat()));
  }

  segments(text, size) {
    const found = [];
    let end = 0;
    for (const match of text.matchAll(this.masks)) {
      const place = [length(text.slice(0, end)), length(text.slice(0, match.index))];
      const words = this.lastFour(text.slice(end, match.index));
      end = match.index + match[0].length;
      const box = this.refseg.box(this.refseg.words(words.join(" ")), size);
      const codes = [...match[0].matchAll(this.code)].map(([, code]) => Number(code));
      if (box && codes.every((code) => code < this.tables.masks.most)) found.push({ name: "", box, codes, place });
    }
    return found;
  }

  lastFour(text) {
    const words = this.refseg.style === "token" ? (text.match(/<loc[0-9]{4}>/g) ?? []) : this.strings.split(text);
    return words.slice(-4);
  }
}

/** The log-probabilities of the tokens that end in each part of an answer, from its start up to its end. */
function partLogs(ids, logs, tokenizer, parts) {
  const ends = ids.map((_, i) => length(tokenizer.decode(ids.slice(0, i + 1))));
  return parts.map(([start, stop]) => logs.filter((_, i) => i < ends.length && start < ends[i] && ends[i] <= stop));
}

/** The probability that what has a log-probability is right, by a calibration [temperature, offset]. */
export function confidence(log, [temperature, offset], { largest }) {
  const least = Math.min(log, -1e-9);
  const odds = Math.min(Math.max(least - Math.log(-Math.expm1(least)), -largest), largest);
  return 0.5 * (1 + Math.tanh((odds / temperature + offset) / 2));
}

export function sum(values) {
  return values.reduce((all, each) => all + each, 0);
}
