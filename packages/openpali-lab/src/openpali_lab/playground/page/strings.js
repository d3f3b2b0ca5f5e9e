// Strings as Python sees them: what is a space, and letters whatever their case.

export class Strings {
  constructor({ spaces, folds }) {
    const some = [...spaces].map((each) => `\\u{${each.codePointAt(0).toString(16)}}`).join("");
    this.spaces = some;
    this.between = new RegExp(`[${some}]+`, "u");
    this.start = new RegExp(`^[${some}]+`, "u");
    this.end = new RegExp(`[${some}]+$`, "u");
    this.folds = new Map(Object.entries(folds));
  }

  strip(text) {
    return this.rstrip(text.replace(this.start, ""));
  }

  rstrip(text) {
    return text.replace(this.end, "");
  }

  split(text) {
    return text.split(this.between).filter(Boolean);
  }

  casefold(text) {
    return [...text].map((each) => this.folds.get(each) ?? each).join("");
  }

  /** Whether two names are the same, or one is a part of the other: "cup", "cup of coffee". */
  alike(name, other) {
    const [one, two] = [name, other].map((each) => ` ${this.split(this.casefold(each)).join(" ")} `);
    return one.includes(two) || two.includes(one);
  }
}

/** The number of characters of a text, each of one code point. */
export function length(text) {
  return [...text].length;
}

/** A number without its fraction, a half to the even side. */
export function round(value) {
  const whole = Math.floor(value);
  const rest = value - whole;
  if (rest !== 0.5) return Math.round(value);
  return whole % 2 ? whole + 1 : whole;
}
