// From the probabilities of characters in columns (CTC) to text. Where the columns are not sure, a prefix beam search
// with a language model decides.

const SPACE = 1; // the number of the space

/** The characters of a line: [{number, column, probability}]. `rows` are the probabilities of each column. */
export function readColumns(rows, language, numbers) {
  if (!language) return greedy(rows);
  const letters = [];
  let context = SPACE;
  const cuts = cutsOf(rows, numbers.cut);
  for (let i = 0; i + 1 < cuts.length; i++) {
    const some = rows.slice(cuts[i], cuts[i + 1]);
    const sure = some.reduce((all, row) => all * row.reduce((one, other) => Math.max(one, other)), 1);
    const part = sure >= numbers.sure ? greedy(some) : search(some, language, context, numbers);
    for (const { number, column, probability } of part) {
      letters.push({ number, column: cuts[i] + column, probability });
      context = language.extended(context, number);
    }
  }
  return letters;
}

/** The likeliest character of each column, once where it is the same in several. */
function greedy(rows) {
  const letters = [];
  let before = 0;
  rows.forEach((row, column) => {
    let number = 0;
    for (let i = 1; i < row.length; i++) if (row[i] > row[number]) number = i;
    if (number && number === before) letters.at(-1).probability = Math.max(letters.at(-1).probability, row[number]);
    else if (number) letters.push({ number, column, probability: row[number] });
    before = number;
  });
  return letters;
}

/** Columns where parts of a line begin: with a space that is sure; and its end. */
function cutsOf(rows, cut) {
  const found = [0];
  for (let i = 1; i < rows.length; i++) if (rows[i][SPACE] >= cut && !(rows[i - 1][SPACE] >= cut)) found.push(i);
  return [...found, rows.length];
}

/** What a part of a line says: the best of texts that are held as {closed, open, prior, context, letters}. */
function search(rows, language, context, numbers) {
  let beams = new Map([["", { closed: 0, open: -Infinity, prior: 0, context, letters: [] }]]);
  rows.forEach((row, column) => {
    if (row[0] >= numbers.nothing) for (const beam of beams.values()) Object.assign(beam, { closed: seen(beam), open: -Infinity });
    else beams = best(step(beams, column, row, language, numbers), numbers.beams);
  });
  const scores = [...beams.values()].map(score);
  const { letters } = [...beams.values()][scores.indexOf(Math.max(...scores))];
  const share = 1 / scores.reduce((all, each) => all + Math.exp(each - Math.max(...scores)), 0);
  return letters.map(({ number, column }, i) => {
    const end = Math.max(letters[i + 1]?.column ?? rows.length, column + 1);
    const sure = Math.max(...rows.slice(column, end).map((row) => row[number]));
    return { number, column, probability: sure * share ** (1 / letters.length) };
  });
}

/** The texts after one more column. */
function step(beams, column, row, language, { weight, bonus, choices, least }) {
  const likeliest = Array.from(row, (_, i) => i).slice(1).sort((a, b) => row[b] - row[a]).slice(0, choices);
  const tried = likeliest.filter((number) => row[number] >= least);
  const nothing = Math.log(Math.max(row[0], 1e-9));
  const after = new Map();
  const add = (text, beam) => after.set(text, after.has(text) ? joined(after.get(text), beam) : beam);
  for (const [text, beam] of beams) {
    add(text, { ...beam, closed: seen(beam) + nothing, open: -Infinity });
    for (const number of tried) {
      const probability = Math.log(row[number]);
      let ways = seen(beam);
      if (number === beam.letters.at(-1)?.number) {
        add(text, { ...beam, closed: -Infinity, open: beam.open + probability });
        ways = beam.closed; // a letter comes twice only if something was between
      }
      const prior = beam.prior + weight * language.logProb(beam.context, number) + bonus;
      const grown = { prior, context: language.extended(beam.context, number), letters: [...beam.letters, { number, column }] };
      add(text + String.fromCharCode(number), { closed: -Infinity, open: ways + probability, ...grown });
    }
  }
  return after;
}

/** Both, which are ways to one text. */
function joined(one, other) {
  const { letters } = seen(one) >= seen(other) ? one : other;
  return { ...one, closed: sum(one.closed, other.closed), open: sum(one.open, other.open), letters };
}

function best(beams, most) {
  return new Map([...beams].sort(([, one], [, other]) => score(other) - score(one)).slice(0, most));
}

const score = (beam) => seen(beam) + beam.prior;
const seen = ({ closed, open }) => sum(closed, open);

/** The logarithm of the sum of two probabilities. */
function sum(one, other) {
  const [high, low] = [Math.max(one, other), Math.min(one, other)];
  return low === -Infinity ? high : high + Math.log1p(Math.exp(low - high));
}
