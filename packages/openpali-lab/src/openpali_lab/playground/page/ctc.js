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
    const part = sure >= numbers.sure ? greedy(some) : search(some, language, context, numbers, cuts.length > 2);
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

/** What a part of a line says: the best of texts that are held as {blank, other, prior, context, letters}. */
function search(rows, language, context, numbers, mayBeEmpty) {
  let beams = new Map([["", { blank: 1, other: 0, prior: 1, context, letters: [] }]]);
  rows.forEach((row, column) => {
    const sure = row[0] >= numbers.blank;
    const tried = sure ? [] : triedIn(row, numbers);
    if (tried.length || [...beams.values()].some(({ other }) => other)) {
      beams = best(step(beams, column, row, tried, language, numbers), numbers);
    }
  });
  const found = [...beams.values()];
  const texts = found.filter(({ letters }) => mayBeEmpty || letters.length);
  const first = (texts.length ? texts : found).reduce((one, other) => (score(other) > score(one) ? other : one));
  const share = score(first) / found.reduce((all, beam) => all + score(beam), 0);
  return first.letters.map(({ number, column }, i, { length }) => {
    const end = Math.max(first.letters[i + 1]?.column ?? rows.length, column + 1);
    const seen = Math.max(...rows.slice(column, end).map((row) => row[number]));
    return { number, column, probability: seen * share ** (1 / length) };
  });
}

/** The characters that are tried in a column, the likeliest first. */
function triedIn(row, { least, choices }) {
  const found = [];
  for (let number = 1; number < row.length; number++) if (row[number] >= least) found.push(number);
  return found.sort((a, b) => row[b] - row[a]).slice(0, choices);
}

/** The texts after one more column. */
function step(beams, column, row, tried, language, { weight, bonus }) {
  const after = new Map();
  const add = (text, blank, other, { prior, context, letters }) => {
    const old = after.get(text);
    if (!old) return after.set(text, { blank, other, prior, context, letters });
    if (blank + other > old.blank + old.other) old.letters = letters;
    old.blank += blank;
    old.other += other;
  };
  for (const [text, beam] of beams) {
    const { blank, other, prior, context, letters } = beam;
    add(text, (blank + other) * Math.max(row[0], 1e-9), 0, beam); // of 0 no way would be left
    for (const number of tried) {
      let ways = blank + other;
      if (number === letters.at(-1)?.number) {
        add(text, 0, other * row[number], beam);
        ways = blank; // a letter comes twice only if something was between
      }
      if (!ways) continue;
      const grown = { context: language.extended(context, number), letters: [...letters, { number, column }] };
      grown.prior = prior * Math.exp(weight * language.logProb(context, number) + bonus);
      add(text + String.fromCharCode(number), 0, ways * row[number], grown);
    }
  }
  return after;
}

/** The best texts but those far behind, with probabilities in relation to the first's, which would become 0 in long lines. */
function best(texts, { beams, far }) {
  const ranked = [...texts].sort(([, one], [, other]) => score(other) - score(one)).slice(0, beams);
  const [[, first]] = ranked;
  const { blank, other } = first;
  const kept = ranked.filter(([, beam]) => score(beam) >= far * score(first));
  return new Map(kept.map(([text, beam]) => [text, { ...beam, blank: beam.blank / (blank + other), other: beam.other / (blank + other) }]));
}

const score = ({ blank, other, prior }) => (blank + other) * prior;
