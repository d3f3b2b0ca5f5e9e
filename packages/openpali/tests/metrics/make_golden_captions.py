"""Makes the golden files of the caption metrics with pycocoevalcap itself: its Java tokenizer, then its scorers.

    pip install pycocoevalcap     # and a Java runtime, as Debian's default-jre-headless
    python packages/openpali/tests/metrics/make_golden_captions.py
    python packages/openpali/tests/metrics/make_golden_captions.py captions_val2014_fakecap_results.json

It compares OpenPaLI with what comes out, on the stamps' captions as they are (``openpali data build stamps``),
and says what differs. What it writes holds no caption of the stamps: in ``golden_scripts.json`` their words are
replaced by others in the letters of the same language, so that lengths, cases, marks and punctuation stay.
With a file it compares on its captions and writes nothing.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from openpali.home import data_folder
from openpali.metrics import caption, ptb

HERE = Path(__file__).parent
NAMES = ("cider", "bleu1", "bleu2", "bleu3", "bleu4", "rouge_l")
CAPTIONS = 2000
DIGITS = 9


def official(samples: Sequence[tuple[str, Sequence[str]]]) -> tuple[list[list[str]], dict, dict]:
    """pycocoevalcap's tokenized texts (prediction first) of each sample, summary and per-sample scores."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenizer = PTBTokenizer()
    references = tokenizer.tokenize({i: [{"caption": t} for t in texts] for i, (_, texts) in enumerate(samples)})
    predictions = tokenizer.tokenize({i: [{"caption": text}] for i, (text, _) in enumerate(samples)})
    summary, per_sample = {}, {}
    for scorer, names, factor in ((Cider(), NAMES[:1], 100), (Bleu(4), NAMES[1:5], 1), (Rouge(), NAMES[5:], 1)):
        total, each = scorer.compute_score(references, predictions)
        totals, rows = (total, each) if len(names) > 1 else ([total], [each])
        for name, value, values in zip(names, totals, rows, strict=True):
            summary[name] = factor * float(value)
            per_sample[name] = [factor * float(one) for one in values]
    return [[*predictions[i], *references[i]] for i in range(len(samples))], summary, per_sample


def compare(samples: Sequence[tuple[str, Sequence[str]]], what: str) -> tuple[list[list[str]], dict, dict]:
    """Score by both, print the largest differences, and return the official result."""
    tokens, summary, per_sample = official(samples)
    ours = caption.caption([p for p, _ in samples], [r for _, r in samples])
    wrong = sum(
        " ".join(ptb.tokenize(text)) != line
        for (prediction, references), lines in zip(samples, tokens, strict=True)
        for text, line in zip((prediction, *references), lines, strict=True)
    )
    texts = sum(1 + len(references) for _, references in samples)
    print(f"{what}: {len(samples)} samples, {texts} texts, {wrong} tokenized otherwise")
    for name in NAMES:
        worst = max(abs(a - b) for a, b in zip(ours.per_sample[name], per_sample[name], strict=True))
        print(
            f"  {name:8} {summary[name]:.9f}  corpus {ours.summary[name] - summary[name]:+.1e}  worst {worst:.1e}"
        )
    return tokens, summary, per_sample


def stamps() -> dict[str, list[tuple[str, str]]]:
    """Language -> (category, caption) of every stamp that has one, in order."""
    captions: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path in sorted(data_folder("stamps").glob("stamps-*.tar")):
        with tarfile.open(path) as shard:
            members = [member for member in shard if member.name.endswith(".json")]
            described = [json.load(shard.extractfile(member)) for member in members]  # type: ignore[arg-type]
        for facts in described:
            for lang, text in facts["captions"].items():
                captions[lang].append((facts["category"], text))
    return captions


def draw(captions: dict[str, list[tuple[str, str]]]) -> list[tuple[str, list[str], str]]:
    """2,000 predictions over all languages: a stamp's caption against one to three of its category, half of
    the time its own among them."""
    rng, languages, samples = random.Random(0), sorted(captions), []
    while len(samples) < CAPTIONS:
        lang = languages[len(samples) % len(languages)]
        category, text = rng.choice(captions[lang])
        near = [other for kind, other in captions[lang] if kind == category]
        references = [rng.choice(near) for _ in range(rng.randint(1, 3))]
        if rng.random() < 0.5:
            references[0] = text
        samples.append((text, references, lang))
    return samples


def disguise(samples: Sequence[tuple[str, list[str], str]]) -> list[tuple[str, list[str], str]]:
    """The same samples in words that mean nothing; a word becomes the same one wherever its language has it.

    Letters next to an apostrophe, a full stop or a digit stay: the tokenizer's rules look at them.
    """
    letters: dict[str, dict[tuple[bool, int], list[str]]] = {}
    texts: dict[str, set[str]] = defaultdict(set)
    for text, references, lang in samples:
        texts[lang].update(text, *references)
    for lang, found in texts.items():
        alphabet: dict[tuple[bool, int], list[str]] = defaultdict(list)
        for char in sorted(found):
            if char.isalpha():
                alphabet[char.isupper(), ord(char) >> 8].append(char)
        letters[lang] = alphabet

    def word(text: str, lang: str) -> str:
        seed = int.from_bytes(hashlib.sha256(f"{lang}/{text.lower()}".encode()).digest()[:8], "big")
        rng = random.Random(seed)
        out = ""
        for i, char in enumerate(text):
            around = text[max(0, i - 2) : i + 3]
            choices = letters[lang].get((char.isupper(), ord(char) >> 8))
            keep = not char.isalpha() or any(not c.isalpha() and ord(c) < 0x2030 for c in around)
            out += char if keep or not choices else choices[rng.randrange(10**6) % len(choices)]
        return out

    def scramble(text: str, lang: str) -> str:
        return " ".join(word(part, lang) for part in text.split(" "))

    return [(scramble(text, lang), [scramble(r, lang) for r in refs], lang) for text, refs, lang in samples]


def pairs(samples: Iterable[tuple[str, list[str], str]]) -> list[tuple[str, list[str]]]:
    return [(text, references) for text, references, _ in samples]


def rounded(values: Iterable[float]) -> list[float]:
    return [round(value, DIGITS) for value in values]


def example(path: Path) -> list[tuple[str, list[str]]]:
    """The captions of pycocoevalcap's example, each against the five that follow it."""
    captions = [row["caption"] for row in json.loads(path.read_text("utf-8"))]
    return [(text, [captions[(i + k) % len(captions)] for k in range(1, 6)]) for i, text in enumerate(captions)]


def main() -> None:
    if sys.argv[1:]:
        compare(example(Path(sys.argv[1])), "the captions of pycocoevalcap's example, against one another")
        return
    ours = json.loads((HERE / "golden_captions.json").read_text("utf-8"))
    compare(list(zip(ours["predictions"], ours["references"], strict=True)), "our own sentences")
    captions = stamps()
    everything = [(text, [text]) for lang in sorted(captions) for _, text in captions[lang]]
    compare(everything, "every caption of the stamps, against itself")
    drawn = draw(captions)
    compare(pairs(drawn), "captions of the stamps, against other captions of their category")
    disguised = disguise(drawn)
    tokens, summary, per_sample = compare(pairs(disguised), "the same in meaningless words")
    golden = {
        "predictions": [text for text, _, _ in disguised],
        "references": [references for _, references, _ in disguised],
        "languages": [lang for _, _, lang in disguised],
        "tokens": [hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12] for lines in tokens],
        "summary": summary,
        "per_sample": {name: rounded(per_sample[name]) for name in ("cider", "bleu4", "rouge_l")},
    }
    path = HERE / "golden_scripts.json"
    path.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB", file=sys.stderr)


if __name__ == "__main__":
    main()
