// Text <-> token ids: SentencePiece's unigram model (Viterbi over pieces), for vocabularies that keep texts as they are.

const [NORMAL, UNKNOWN, CONTROL, SPECIAL, BYTE] = [1, 2, 3, 4, 6]; // types of pieces
const SPACE = "▁";
const UNLIKELY = 10; // by how much an unknown character is below the least likely piece
const TINY = 2 ** -126; // where SentencePiece begins to look for the greatest score: special tokens are all but certain
const BROKEN = "\ufffd";

export class Tokenizer {
  constructor({ pieces, scores, types, unknown, eos, unk }) {
    Object.assign(this, { pieces, types, unknown, eos, unk });
    const normal = scores.filter((_, id) => types[id] === NORMAL);
    const most = Math.max(TINY, ...normal);
    this.least = Math.fround(Math.min(...normal) - UNLIKELY);
    this.scores = scores.map((score, id) =>
      types[id] === SPECIAL ? Math.fround(bytesOf(pieces[id]).length * most) - 0.1 : score,
    );
    this.ids = new Map();
    this.bytes = new Map();
    this.longest = 1;
    pieces.forEach((piece, id) => {
      if (types[id] === BYTE) this.bytes.set(parseInt(piece.slice(3, 5), 16), id);
      if (types[id] !== NORMAL && types[id] !== SPECIAL) return;
      this.ids.set(piece, id);
      this.longest = Math.max(this.longest, [...piece].length);
    });
  }

  /** Token ids of a text, without end token. */
  encode(text) {
    if (!text.isWellFormed?.() && /\p{Surrogate}/u.test(text)) throw new Error("This is not valid Unicode text.");
    // this character cannot be told from a space: write it as bytes
    const [head, ...tail] = text.split(SPACE);
    const ids = head ? this.likeliest(SPACE + head) : [];
    for (const part of tail) ids.push(...this.bytesOf(SPACE), ...this.likeliest(part));
    return ids;
  }

  /** The likeliest pieces of a text, which has no space in front of it. */
  likeliest(text) {
    const characters = [...text.replaceAll(" ", SPACE)];
    const best = [{ score: 0 }];
    characters.forEach((character, start) => {
      const before = best[start].score;
      const offer = (end, id, score) => {
        if (best[end] === undefined || score > best[end].score) best[end] = { score: Math.fround(score), id, start };
      };
      let [piece, single] = ["", false];
      for (let end = start + 1; end <= Math.min(characters.length, start + this.longest); end++) {
        piece += characters[end - 1];
        const id = this.ids.get(piece);
        if (id === undefined) continue;
        offer(end, id, this.scores[id] + before);
        single ||= end === start + 1;
      }
      if (!single) offer(start + 1, this.unk, this.least + before);
    });
    const ids = [];
    for (let end = characters.length; end; end = best[end].start) {
      const { id, start } = best[end];
      ids.unshift(...(id === this.unk ? this.bytesOf(characters[start]) : [id]));
    }
    return ids;
  }

  bytesOf(character) {
    return bytesOf(character).map((byte) => this.bytes.get(byte) ?? this.unk);
  }

  /** The text of token ids; pad, end and ids outside the vocabulary are skipped. */
  decode(ids) {
    let [text, bytes, first, dropped] = ["", [], true, false];
    for (const id of ids) {
      if (!(id in this.pieces) || this.types[id] === CONTROL) continue;
      if (this.types[id] === BYTE) {
        bytes.push(parseInt(this.pieces[id].slice(3, 5), 16));
        continue;
      }
      text += characters(bytes);
      bytes = [];
      if (dropped || text) first = false;
      let piece = this.types[id] === UNKNOWN ? this.unknown : this.pieces[id];
      dropped = first && piece.startsWith(SPACE);
      if (dropped) piece = piece.slice(1);
      text += piece.replaceAll(SPACE, " ");
    }
    return text + characters(bytes);
  }
}

/** The text of ids to which others are added, piece by piece; a character whose bytes are not all there waits. */
export class GrowingText {
  constructor(tokenizer, show) {
    Object.assign(this, { tokenizer, show, shown: "" });
  }

  add(ids) {
    const text = this.tokenizer.decode(ids);
    if (text.endsWith(BROKEN) || !text.startsWith(this.shown)) return;
    this.show(text.slice(this.shown.length));
    this.shown = text;
  }
}

function bytesOf(text) {
  return [...new TextEncoder().encode(text)];
}

/** Bytes of UTF-8 as text; each byte that is of no character is a sign of its own. */
function characters(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const lead = bytes[at];
    const size = lead < 0x80 ? 1 : lead >> 5 === 6 ? 2 : lead >> 4 === 14 ? 3 : lead >> 3 === 30 ? 4 : 0;
    const some = Uint8Array.from(bytes.slice(at, at + size));
    const one = size && some.length === size ? new TextDecoder("utf-8", { ignoreBOM: true }).decode(some) : BROKEN;
    const whole = [...one].length === 1 && (one !== BROKEN || (size === 3 && some[0] === 0xef));
    text += whole ? one : BROKEN;
    at += whole ? size : 1;
  }
  return text;
}
