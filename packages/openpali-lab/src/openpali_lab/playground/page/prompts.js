// Prompts: how a task asks, and which task a prompt is for.

const SLOTS = {
  "{lang}": "(?<lang>[\\p{L}\\p{N}_-]+)",
  "{position}": "(?<position>[0-9]+)",
  "{text} ": "(?:(?<text>.+) )?",
  "{text}": "(?<text>.+)",
};
const ANY = /(\{lang\}|\{position\}|\{text\} |\{text\})/;

export class Template {
  constructor(pattern, strings) {
    this.pattern = pattern;
    this.strings = strings;
    const parts = pattern.split(ANY).map((part) => SLOTS[part] ?? literal(part));
    this.whole = new RegExp(`^${parts.join("")}$`, "su");
    const beginning = strings.rstrip(pattern.split("{")[0]);
    const end = /[\p{L}\p{N}]$/u.test(beginning) ? "(?![\\p{L}\\p{N}_])" : "";
    this.beginning = beginning && new RegExp(`^${literal(beginning)}${end}`, "u");
  }

  render({ text = "", lang = "en", position = 0 }) {
    const pattern = text ? this.pattern : this.pattern.replaceAll("{text} ", "").replaceAll("{text}", "");
    const values = { text, lang, position };
    return pattern.replace(/\{(text|lang|position)\}/g, (_, name) => values[name]);
  }

  /** Slot -> its text; null for any other prompt. */
  read(prompt) {
    const match = this.whole.exec(this.strings.rstrip(prompt));
    return match && Object.fromEntries(Object.entries(match.groups ?? {}).map(([name, value]) => [name, value ?? ""]));
  }

  begins(prompt) {
    return Boolean(this.beginning) && this.beginning.test(prompt);
  }
}

export class Prompts {
  constructor(tables, strings) {
    this.tables = tables;
    this.strings = strings;
    this.templates = tables.templates.map(([form, pattern]) => [form, new Template(pattern, strings)]);
    this.tasks = Object.fromEntries(
      Object.entries(tables.tasks).map(([name, { prompt }]) => [name, prompt && new Template(prompt, strings)]),
    );
  }

  /** The prompt of a task. */
  ask(task, text, lang = "en") {
    return this.tasks[task].render({ text: this.strings.strip(text).normalize("NFC"), lang });
  }

  /** The task that a prompt is for. */
  recognise(prompt) {
    return this.templates.find(([, template]) => template.begins(prompt))?.[0] ?? this.tables.free_text;
  }

  /** The names of objects that a prompt of detection asks for. */
  names(prompt) {
    const asked = this.tasks.detect.read(prompt)?.text ?? "";
    return asked ? asked.split(this.tables.joiner) : [];
  }

  /** Whether a prompt of detection asks for a name: it, or one of which it is a part or that is a part of it. */
  wanted(prompt) {
    const asked = this.tasks.detect.read(prompt)?.text ?? "";
    const names = [asked, ...this.names(prompt)];
    return (name) => !asked || names.some((each) => this.strings.alike(name, each));
  }
}

function literal(text) {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
}
