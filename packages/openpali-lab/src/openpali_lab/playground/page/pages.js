// Pages: the finder says where lines are, the reader what they say.

import { readColumns } from "./ctc.js";
import { median } from "./order.js";
import { confidence } from "./parse.js";
import { scaled, view } from "./pixels.js";
import { round } from "./strings.js";

const BATCH = 8; // lines that the reader sees at once: between two, a question can be stopped

// The first pass

/** What the finder says of every cell of an image: {rows, columns, text, up, down}; text is a probability. */
export async function cellsOf(image, find, { tile: [high, wide], shared: [sharedRows, sharedColumns] }, { cell }) {
  const starts = (side, tile, shared) => {
    const found = [0];
    for (let at = tile - shared; at < side - shared; at += tile - shared) found.push(at);
    return found;
  };
  const [rows, columns] = [image.height, image.width].map((side) => Math.ceil(side / cell));
  const found = { rows, columns };
  for (const name of ["text", "up", "down"]) found[name] = new Float32Array(rows * columns);
  for (const top of starts(image.height, high, sharedRows)) {
    for (const left of starts(image.width, wide, sharedColumns)) {
      const said = await find(tileOf(image, top, left, high, wide));
      const [skipRows, skipColumns] = [top && sharedRows, left && sharedColumns].map((side) => Math.floor(side / 2 / cell));
      for (let y = skipRows; y < high / cell && top / cell + y < rows; y++) {
        for (let x = skipColumns; x < wide / cell && left / cell + x < columns; x++) {
          const [to, from] = [(top / cell + y) * columns + left / cell + x, (y * wide) / cell + x];
          found.text[to] = 1 / (1 + Math.exp(-said.logits[from]));
          found.up[to] = said.up[from];
          found.down[to] = said.down[from];
        }
      }
    }
  }
  return found;
}

/** A part of an image, in the colours of its edge where it reaches beyond that. */
function tileOf(image, top, left, height, width) {
  const data = new Uint8Array(3 * height * width);
  for (let y = 0, at = 0; y < height; y++) {
    const row = Math.min(top + y, image.height - 1) * image.width;
    for (let x = 0; x < width; x++, at += 3) {
      const from = 3 * (row + Math.min(left + x, image.width - 1));
      data[at] = image.data[from];
      data[at + 1] = image.data[from + 1];
      data[at + 2] = image.data[from + 2];
    }
  }
  return { width, height, data };
}

/** Boxes of lines from cells: runs of a row that touch, or nearly so, and agree on the height of their line. */
export function linesOf(cells, { cell, gap, same, least, reach, surest, likely, ends }) {
  const runs = [];
  const groups = new Groups();
  const agree = (one, other) => {
    const both = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
    return both >= same * (Math.max(one.bottom, other.bottom) - Math.min(one.top, other.top));
  };
  let before = [];
  for (let row = 0; row < cells.rows; row++) {
    const now = runsOf(cells, row, cell, likely, ends).map((run) => {
      runs.push(run);
      return groups.add();
    });
    for (let i = 0; i + 1 < now.length; i++) {
      const [left, right] = [runs[now[i]], runs[now[i + 1]]];
      const near = (right.first - left.last) * cell <= gap * (left.bottom - left.top);
      if (near && agree(left, right)) groups.join(now[i], now[i + 1]);
    }
    for (const above of before) {
      for (const run of now) {
        const touch = runs[above].first < runs[run].last && runs[run].first < runs[above].last;
        if (touch && agree(runs[above], runs[run])) groups.join(above, run);
      }
    }
    before = now;
  }
  const found = [];
  for (const members of groups.all()) {
    const some = members.map((i) => runs[i]);
    const count = some.reduce((all, run) => all + run.last - run.first, 0);
    const mean = (edge) => some.reduce((all, run) => all + run[edge] * (run.last - run.first), 0) / count;
    const [top, bottom] = [mean("top"), mean("bottom")];
    const more = reach * (bottom - top);
    const xmin = Math.max(0, Math.min(...some.map((run) => run.first)) * cell - more);
    const xmax = Math.min(cells.columns * cell, Math.max(...some.map((run) => run.last)) * cell + more);
    const sure = Math.max(...some.map((run) => run.sure));
    if (bottom - top >= least && sure >= surest) found.push([top, xmin, bottom, xmax]);
  }
  return found;
}

/** Neighbouring cells of a row with text, and at both ends those that are less probable: the first, the one behind the last,
 * and top and bottom of their line. */
function runsOf({ columns, text, up, down }, row, cell, likely, ends) {
  const found = [];
  const [start, centre] = [row * columns, row * cell + cell / 2];
  const isText = (column) => text[start + column] > likely;
  const isEnd = (column) => text[start + column] > ends && !isText(column);
  for (let column = 0; column < columns; column++) {
    if (!isText(column)) continue;
    let [first, last] = [column, column];
    while (last < columns && isText(last)) last++;
    column = last;
    const [above, below] = [up, down].map((each) => Math.fround(median(each.slice(start + first, start + last))));
    while (first > 0 && isEnd(first - 1)) first--;
    while (last < columns && isEnd(last)) last++;
    const sure = Math.max(...text.slice(start + first, start + last));
    found.push({ first, last, top: Math.fround(centre - above), bottom: Math.fround(centre + below), sure });
  }
  return found;
}

/** Numbers that are joined to groups (union-find). */
class Groups {
  parents = [];

  add() {
    return this.parents.push(this.parents.length) - 1;
  }

  root(number) {
    while (this.parents[number] !== number) number = this.parents[number];
    return number;
  }

  join(one, other) {
    this.parents[this.root(one)] = this.root(other);
  }

  all() {
    const members = new Map();
    this.parents.forEach((_, number) => {
      const root = this.root(number);
      members.set(root, [...(members.get(root) ?? []), number]);
    });
    return members.values();
  }
}

// The second pass

/** The words of lines, by their boxes: for each line [{text, box, confidence}]. Without a language model, null. */
export async function readLines(image, boxes, read, reader, language, numbers) {
  const { patch, widths } = numbers.pages;
  const [height, widest] = reader.size;
  const look = async (images, columns) => {
    const logits = await read(scaled(images), [images.length, height, images[0].width, 3], columns);
    const size = logits.length / images.length;
    const classes = reader.characters.length + 1;
    return columns.map((own, i) => probabilities(logits.subarray(i * size, i * size + own * reader.steps * classes), classes));
  };
  const pieces = boxes.flatMap((box, line) => piecesOf(image, box, height, widest, numbers).map((own) => ({ line, ...own })));
  const order = pieces.map((_, i) => i).sort((a, b) => pieces[a].columns - pieces[b].columns);
  for (let first = 0; first < order.length; first += BATCH) {
    const some = order.slice(first, first + BATCH).map((i) => pieces[i]);
    const most = Math.max(...some.map(({ columns }) => columns)) * patch;
    const wide = Math.min(Math.ceil(most / widths) * widths, widest);
    const seen = some.map((piece) => padded(endAt(view(image, piece.view, piece.columns * patch, height), piece.shown), wide));
    const said = await lookTwice(seen, some.map(({ columns }) => columns), look, numbers.pages);
    some.forEach((piece, i) => {
      const box = boxes[piece.line];
      piece.words = wordsOf(said[i], patch / reader.steps, reader.characters, language, numbers.ctc, piece.view, box);
    });
  }
  return boxes.map((_, line) => {
    const words = [];
    for (const piece of pieces.filter((each) => each.line === line)) {
      const [first, ...others] = piece.words;
      if (piece.goesOn && words.length && first) words.push(oneWord(words.pop(), first), ...others);
      else words.push(...piece.words);
    }
    return words;
  });
}

/** The smallest box around some. */
export function around(boxes) {
  const [tops, lefts, bottoms, rights] = [0, 1, 2, 3].map((edge) => boxes.map((box) => box[edge]));
  return [Math.min(...tops), Math.min(...lefts), Math.max(...bottoms), Math.max(...rights)];
}

/** Two parts of a word of a line as one. */
const oneWord = (start, end) => ({
  text: start.text + end.text,
  box: around([start.box, end.box]),
  confidence: start.confidence * end.confidence,
});

/** What is said of images; those that are light on dark and not surely read are seen in negative, too, and both averaged. */
export async function lookTwice(images, columns, look, { patch, sure, light }) {
  const said = await look(images, columns);
  const again = [...images.keys()].filter((i) => pathOf(said[i]) < sure && lightOf(images[i], columns[i] * patch) < light);
  if (!again.length) return said;
  const negatives = again.map((i) => ({ ...images[i], data: images[i].data.map((value) => 255 - value) }));
  const second = await look(negatives, again.map((i) => columns[i]));
  again.forEach((i, k) => {
    said[i] = said[i].map((own, step) => own.map((each, c) => (each + second[k][step][c]) / 2));
  });
  return said;
}

/** The probability of the likeliest path through the steps of a line. */
const pathOf = (steps) => steps.reduce((all, own) => all * Math.max(...own), 1);

/** The mean of the pixels of an image, 0..255, up to a column. */
function lightOf({ height, width, data }, columns) {
  let sum = 0;
  for (let row = 0; row < height; row++)
    for (let i = 3 * row * width; i < 3 * (row * width + columns); i++) sum += data[i];
  return sum / (3 * height * columns);
}

function padded({ height, width, data }, wide) {
  const found = new Uint8Array(3 * height * wide);
  for (let row = 0; row < height; row++) found.set(data.subarray(3 * row * width, 3 * (row + 1) * width), 3 * row * wide);
  return { height, width: wide, data: found };
}

/** A view without what it shows from a column on, which belongs to another piece. */
function endAt({ height, width, data }, column) {
  for (let row = 0; row < height; row++) {
    const start = 3 * (row * width + column);
    for (let i = start; i < 3 * (row + 1) * width; i++) data[i] = data[i - 3];
  }
  return { height, width, data };
}

/**
 * Parts of a line that the reader can see at once, cut where nothing is written: {view, columns, shown, goesOn}, the last
 * of which says whether the line is cut within a word before it.
 */
export function piecesOf(image, box, height, widest, { pages: { margin, patch, space } }) {
  const [ymin, xmin, ymax, xmax] = box;
  const room = margin * (ymax - ymin);
  const most = (widest / height) * (ymax - ymin + 2 * room);
  const parts = [];
  let [left, goesOn] = [xmin, false];
  while (left - room + most < xmax + room) {
    const [cut, gap] = cutOf(image, box, left - room + 0.35 * most, left - room + most);
    parts.push([left, cut - room, goesOn]);
    [left, goesOn] = [cut + room, gap < space * (ymax - ymin)];
  }
  return [...parts, [left, xmax, goesOn]].map(([start, end, within]) => {
    const { view: seen, width } = viewOfLine([ymin, start, ymax, end], height, widest, margin, patch);
    const shown = end === xmax ? width : Math.trunc((end + room - seen.left) * seen.right);
    return { view: seen, columns: width / patch, shown, goesOn: within };
  });
}

/** How the reader sees a line: its box with a margin, and its width in pixels, a multiple of a patch. */
export function viewOfLine([ymin, xmin, ymax, xmax], height, most, margin, patch) {
  const tall = ymax - ymin;
  const [top, bottom] = [ymin - margin * tall, ymax + margin * tall];
  const [left, right] = [xmin - margin * tall, xmax + margin * tall];
  const down = height / (bottom - top);
  const width = Math.min(most, Math.max(patch, -Math.floor(-Math.trunc((right - left) * down) / patch) * patch));
  return { view: { top, left, down, right: Math.min(down, width / (right - left)) }, width };
}

/** Where a line is best cut, in the middle of the widest place without ink, and how wide that is. */
function cutOf(image, [ymin, , ymax], first, last) {
  const [start, end] = [Math.trunc(first), Math.min(Math.trunc(last), image.width)];
  const top = Math.min(Math.max(0, round(ymin)), image.height - 1); // beyond the page all is black
  const bottom = Math.max(top + 1, Math.min(image.height, round(ymax)));
  const grey = (y, x) => {
    if (y < 0 || y >= image.height || x < 0 || x >= image.width) return 0;
    const at = 3 * (y * image.width + x);
    return (19595 * image.data[at] + 38470 * image.data[at + 1] + 7471 * image.data[at + 2] + 0x8000) >> 16;
  };
  const ranges = [];
  let [darkest, lightest] = [255, 0];
  for (let x = start; x < end; x++) {
    let [low, high] = [255, 0];
    for (let y = top; y < bottom; y++) [low, high] = [Math.min(low, grey(y, x)), Math.max(high, grey(y, x))];
    ranges.push(high - low);
    [darkest, lightest] = [Math.min(darkest, low), Math.max(lightest, high)];
  }
  const ink = 0.25 * Math.max(1, lightest - darkest);
  let best = null;
  for (let x = 0; x < ranges.length; x++) {
    if (ranges[x] > ink) continue;
    let stop = x;
    while (stop < ranges.length && ranges[stop] <= ink) stop++;
    if (!best || stop - x > best[1] - best[0]) best = [x, stop];
    x = stop;
  }
  return best ? [start + (best[0] + best[1]) / 2, best[1] - best[0]] : [last, 0];
}

/** The words of a line from the probabilities of each column, of some pixels; a box ends with its characters. */
function wordsOf(said, step, characters, language, numbers, seen, [ymin, xmin, ymax, xmax]) {
  const grow = 0.2 * (ymax - ymin);
  const words = [];
  let word = [];
  for (const letter of [...readColumns(said, language, numbers), null]) {
    const character = letter ? characters[letter.number - 1] : " ";
    if (character !== " ") {
      word.push({ ...letter, character });
      continue;
    }
    if (!word.length) continue;
    const [left, right] = [word[0].column, word.at(-1).column + 1].map((at) => seen.left + (at * step) / seen.right);
    const box = [ymin, Math.max(xmin, left - grow), ymax, Math.min(xmax, right + grow)];
    const confidence = word.reduce((all, { probability }) => all * probability, 1);
    if (box[1] < box[3]) words.push({ text: word.map((each) => each.character).join(""), box, confidence });
    word = [];
  }
  return words;
}

/** Logits to the probabilities of each column. */
function probabilities(logits, size) {
  return Array.from({ length: logits.length / size }, (_, column) => {
    const own = logits.subarray(column * size, (column + 1) * size);
    const most = own.reduce((one, other) => Math.max(one, other));
    const found = own.map((each) => Math.exp(each - most));
    const all = found.reduce((sum, each) => sum + each, 0);
    return found.map((each) => each / all);
  });
}

// What is said

/** A line with boxes that end where its page does: cells and the height of a line may reach beyond. */
export function within({ height, width }, { words, box, ...rest }) {
  const part = (edges) => edges.map((edge, i) => Math.min(Math.max(0, edge), i % 2 ? width : height));
  return { words: words.map((word) => ({ ...word, box: part(word.box) })), box: part(box), ...rest };
}

/** The least confidence of the words of each line of a page: a lone letter is often an icon, a digit in a row is not. */
export function leastIn(lines, { least, least_alone }) {
  const rows = new Map();
  for (const { row } of lines) rows.set(row, (rows.get(row) ?? 0) + 1);
  return (text, row) => {
    const isNumber = /^[0-9]+$/.test(text) && (text.length > 1 || rows.get(row) > 1);
    return isNumber ? least : (least_alone[[...text].length] ?? least);
  };
}

/** Lines with calibrated confidence, if there is a fit, without words of less than the least for their text. */
export function calibrated(lines, fit, numbers, least) {
  const sure = (word) => (fit ? confidence(Math.log(Math.max(word.confidence, numbers.tiny)), fit, numbers) : word.confidence);
  return lines
    .map((line) => {
      const words = line.words.map((word) => ({ ...word, confidence: sure(word) }));
      const from = least(words.map(({ text }) => text).join(" "), line.row);
      const own = fit ? words.filter((word) => word.confidence >= from) : words;
      const box = around([line.box, ...line.words.map((word) => word.box)]);
      const both = own.reduce((all, word) => all * word.confidence, 1);
      return { text: own.map(({ text }) => text).join(" "), block: line.block, row: line.row, box, confidence: both, words: own };
    })
    .filter((line) => line.words.length || !fit);
}
