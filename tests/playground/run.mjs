// Run functions of the page's modules: the folder of the modules and a file {tables, calls: [[name, ...arguments]]}
// come as arguments, the results go to standard output as JSON.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, file] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${folder}/${name}.js`));
const { tables, calls } = JSON.parse(readFileSync(file, "utf-8"));
const [{ Strings }, { Tokenizer }, { Prompts }] = await Promise.all(["strings", "tokenizer", "prompts"].map(load));
const [{ Parser, confidence }, pixels, { paste }] = await Promise.all(["parse", "pixels", "masks"].map(load));
const [{ readingOrder }, pages] = await Promise.all(["order", "pages"].map(load));
const [{ readColumns }, { LanguageModel }] = await Promise.all(["ctc", "language"].map(load));

const strings = new Strings(tables);
const prompts = new Prompts(tables, strings);
const tokenizers = tables.tokenizers.map((each) => new Tokenizer(each));
const parserOf = (boxes) => new Parser(tables, boxes, prompts, strings);
const image = (width, height, data) => ({ width, height, data: Uint8Array.from(data) });

/** Probabilities of three characters, of an image whose first pixel is so light: the lighter, the surer. */
const doubting = (light) => [1 - light, 0.9 * light, 0.1 * light];

const FUNCTIONS = {
  encode: (text) => {
    const ids = tokenizers[0].encode(text);
    return { ids, text: tokenizers[0].decode(ids) };
  },
  decode: (ids) => tokenizers[0].decode(ids),
  ask: (task, text, lang) => prompts.ask(task, text, lang),
  recognise: (prompt) => ({ task: prompts.recognise(prompt), names: prompts.names(prompt) }),
  answer: (boxes, asked, text, size, prompt, logs, fit) => {
    const parser = parserOf(boxes);
    const task = parser.reader(asked, text);
    const about = task === asked ? prompt : "";
    const written = { ids: tokenizers[0].encode(text), logs };
    const claims = parser.claims(task, written, tokenizers[0], about);
    const { text: said, objects } = parser.parse(task, text, size, about);
    return { task, text: said, objects, sure: claims.map((log) => confidence(log, fit, tables.numbers.calibration)) };
  },
  preprocess: (width, height, data, how) => [...pixels.preprocess(image(width, height, data), how).data],
  view: (width, height, data, seen, wide, high) => [...pixels.view(image(width, height, data), seen, wide, high).data],
  viewOfLine: (box, height, most) => pages.viewOfLine(box, height, most, tables.numbers.pages.margin, tables.numbers.pages.patch),
  pieces: (width, height, data, box, high, widest) => pages.piecesOf(image(width, height, data), box, high, widest, tables.numbers),
  paste: (values, side, box, size) => paste({ values, side }, box, size).counts,
  order: (boxes) => readingOrder(boxes, tables.numbers.order),
  columns: (several, { ngrams, logProbs, backoffs, order, bits }) => {
    const values = new Float32Array(4 * ngrams.length);
    new Float64Array(values.buffer, 0, ngrams.length).set(ngrams);
    values.set([...logProbs, ...backoffs], 2 * ngrams.length);
    const language = new LanguageModel(values, { ngrams: ngrams.length, order, bits });
    return several.map((rows) => readColumns(rows.map((row) => Float32Array.from(row)), language, tables.numbers.ctc));
  },
  twice: (width, height, several, columns, steps) => {
    const { numbers } = tables;
    const look = (seen, own) =>
      seen.map(({ data }, i) => Array.from({ length: own[i] * steps }, () => doubting(data[0] / 255)));
    return pages.lookTwice(several.map((data) => image(width, height, data)), columns, look, numbers.pages);
  },
  within: pages.within,
  calibrated: (lines, fit) => {
    const { calibration, routing } = tables.numbers;
    return pages.calibrated(lines, fit, calibration, pages.leastIn(lines, routing));
  },
  lines: (rows, columns, text, up, down) => {
    const cells = Object.entries({ text, up, down }).map(([name, values]) => [name, Float32Array.from(values)]);
    return pages.linesOf({ rows, columns, ...Object.fromEntries(cells) }, tables.numbers.pages);
  },
};

console.log(JSON.stringify(await Promise.all(calls.map(([name, ...given]) => FUNCTIONS[name](...given)))));
