// A language model of characters: how likely a character is after those before it.

const KEPT = 65536; // probabilities that are not looked up again

export class LanguageModel {
  /**
   * `values` holds `ngrams` increasing n-grams as doubles, then log-probabilities, then the weights of contexts. An
   * n-gram is a number with `bits` bits for each character, the last one lowest.
   */
  constructor(values, { ngrams, order, bits }) {
    this.size = 2 ** bits;
    this.keys = new Float64Array(values.buffer, 0, ngrams);
    [this.logProbs, this.backoffs] = [2, 3].map((at) => values.subarray(at * ngrams, (at + 1) * ngrams));
    this.longest = this.size ** (order - 1);
    this.known = new Map();
  }

  /** The logarithm of the probability of the character `number` after a context. */
  logProb(context, number) {
    const whole = context * this.size + number;
    if (this.known.size > KEPT) this.known.clear();
    if (!this.known.has(whole)) this.known.set(whole, this.find(context, number));
    return this.known.get(whole);
  }

  find(context, number) {
    const place = this.place(context * this.size + number);
    if (place >= 0) return this.logProbs[place];
    const own = this.place(context);
    return (own < 0 ? 0 : this.backoffs[own]) + this.logProb(this.shortened(context), number);
  }

  place(ngram) {
    let [low, high] = [0, this.keys.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.keys[middle] < ngram) low = middle + 1;
      else high = middle;
    }
    return this.keys[low] === ngram ? low : -1;
  }

  /** The context of the character after `number`. */
  extended(context, number) {
    return (context * this.size + number) % this.longest;
  }

  /** An n-gram without its first character. */
  shortened(ngram) {
    let first = 1;
    while (first * this.size <= ngram) first *= this.size;
    return ngram % first;
  }
}
