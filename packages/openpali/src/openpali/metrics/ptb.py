"""Penn Treebank words of a caption, as pycocoevalcap's Java ``PTBTokenizer -preserveLines -lowerCase`` gives them.

Reproduces that program (Stanford CoreNLP 3.4.1) from its observed output on every character of the basic
multilingual plane and on captions in some seventy languages; it uses none of its code. At each position, the rule
with the longest match makes the token; then words are lower-cased and pycocoevalcap's punctuation is removed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

# pycocoevalcap's list. The Java program lower-cases brackets ("-lrb-"), so they are not in the list and stay in the
# caption, also here.
PUNCTUATION = frozenset(
    ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";")
)


def tokenize(text: str) -> list[str]:
    """Lower-case words of one caption, without punctuation.

    ``"A dog's bowl (red), isn't it?"`` -> ``a dog 's bowl -lrb- red -rrb- is n't it``, as a list.

    Each caption is tokenized separately. The Java program reads all captions as one text: a caption that ends in
    initials ("the letter A.") loses their full stop if the next one starts with a word like "The", and a line
    separator within a caption shifts all later ones. This function does neither. It also keeps letters that were
    added in Unicode 6 or later; the Java program drops them.
    """
    return [token for token in _tokens(text) if token not in PUNCTUATION]


# --- Characters -------------------------------------------------------------------------------------------------
# Non-ASCII characters are first mapped to letters, marks, digits, hyphens, runs and the apostrophe, for the rules.


def _ranges(text: str) -> list[range]:
    pairs = (part.partition("-") for part in text.split())
    return [range(int(first, 16), int(last or first, 16) + 1) for first, _, last in pairs]


# Combining marks and similar characters that are part of words. All other marks end a word and are dropped.
_MARKS = _ranges(
    "2c2-2c5 2d2-2df 2e5-2eb 2ed 2ef-36f 375 378-379 384-385 3f6 483-487 55a-55f 591-5bd 5bf 5c1-5c2 5c4-5c5 "
    "5c7 615-61a 64b-65e 670 6d6-6e4 6e7-6ed 6fd-6fe 70f 711 730-74c 7a6-7b0 7eb-7f3 900-903 93c 93e-94e "
    "951-955 962-963 981-983 9bc 9be-9c4 9c7-9c8 9cb-9cd 9d7 9e2-9e3 a01-a03 a3c a3e-a4f a81-a83 abc abe-acf "
    "b82 bbe-bc2 bc6-bc8 bca-bcd c01-c03 c3e-c56 d3e-d44 d46-d48 e31 e34-e3a e47-e4e eb1 eb4-ebc ec8-ecd"
)
# Symbols that are a token each. Unlisted symbols are dropped.
_SYMBOLS = _ranges(
    "a1 a5-a9 ac ae-b1 b4 b6-b8 bf d7 f7 37e 387 589 5be 5c0 5c3 5c6 5f3-5f4 600-603 606-60c 614 61b 61e-61f "
    "66a 66d 6d4 700-70d 7f6-7f8 964-965 e3f e4f 1fbd 2016-2017 2020-2023 2030-2038 203b 203e-2042 207a-207e "
    "208a-208e 20a4 2100-2101 2103-2106 2108-2109 2114 2116-2118 211e-2123 2125 2127 2129 212e 213a-213b "
    "2140-2144 214a-214d 214f 2155-215e 2190-2bff 3001-3002 3012 30fb ff01-ff0f ff1a-ff20 ff3b-ff40 ff5b-ff65 "
    "ffe0-ffe1 ffe5-ffe6"
)
# Superscripts and low quotes: one token per run.
_RUNS = _ranges("b2-b3 b9 201a 201e-201f 2070 2074-2079 2080-2089")

_REPLACED = {
    ord(char): text
    for chars, text in (
        ("\u0092\u2019\u203a", "\u2019"),
        ("\u0091\u2018\u201b\u2039", "`"),
        ("\u0093\u0094\u201c\u201d\u00ab\u00bb", '"'),
        ("\u0096\u0097\u2013\u2014\u2015", " -- "),
        ("\u0080\u00a4\u20a0\u20ac", " $ "),
        ("\u0085\u2026", " ... "),
        ("\u00ad", ""),  # soft hyphen
        ("\u00a2", " cents "),
        ("\u00a3", " # "),
        # Two spaces, because a number, one space and a fraction are one token.
        ("\u00bc", "  1/4 "),
        ("\u00bd", "  1/2 "),
        ("\u00be", "  3/4 "),
        ("\u2153", "  1/3 "),
        ("\u2154", "  2/3 "),
    )
    for char in chars
}


class _Characters(dict[int, str]):
    """Table for ``str.translate``: each character becomes itself, a replacement, or a space."""

    def __missing__(self, code: int) -> str:
        self[code] = text = self._replacement(code)
        return text

    @staticmethod
    def _replacement(code: int) -> str:
        char = chr(code)
        if code in _REPLACED:
            return _REPLACED[code]
        if code < 0x80:
            return char if char.isprintable() else " "
        if code > 0xFFFF:
            return " "  # the Java program drops characters beyond the basic plane
        if any(code in part for part in _SYMBOLS):
            return f" {char} "
        if any(code in part for part in (*_MARKS, *_RUNS, _HYPHENS)):
            return char
        return char if char.isalpha() or unicodedata.category(char) == "Nd" else " "


_HYPHENS = range(0x2010, 0x2012)
_CHARACTERS = _Characters()


# --- Rules ------------------------------------------------------------------------------------------------------


def _class(ranges: list[range]) -> str:
    return "".join(f"{chr(part[0])}-{chr(part[-1])}" for part in ranges)


_Q = "['\u2019]"
_H = "[-_\u2010\u2011]"
_RUN = f"[{_class(_RUNS)}]"
# A letter or a mark: an ASCII letter, or a non-ASCII character of no other class.
_L = rf"(?:(?![\d\u2019\u2010\u2011]|{_RUN})[A-Za-z\u0080-\uffff])"
_A = rf"(?:{_L}|\d)"
_J = rf"(?:(?![{_class(_MARKS)}]){_A})"  # without marks: characters that hyphens join
_NAME = r"[A-Za-z][\w:.-]*"
_ACRONYM = r"(?:[A-Za-z](?:\.[A-Za-z])+)"
_NUMBER = r"(?:\d+(?:[.:,]\d+)*|(?:[.:,]\d+)+)"
_END = r"(?![A-Za-z])"  # end of a word, for rules that apply to English only
_CLITIC = rf"{_Q}(?:[msdMSD]|ll|LL|re|RE|ve|VE){_END}"
_PART = rf"(?:(?:[dDoOlL]{_Q}{_J})?{_J}+)"

_ABBREVIATIONS = (
    "adj adm adv al ala alex apr ariz assn assoc asst aug ave bhd bldg blvd brig bros calif capt cf cie cmdr "
    "co col conn corp cos cpl ct dak dec dept det dr drs ens esq est etc ext feb fla fri ft ga gen gov hon "
    "inc ind insp intl jan jos jr jul jun kan ky lt ltd maj mar md messrs mfg mich minn mme mo mon mont mr "
    "mrs ms mt mtg natl neb nev nov oct okla penn pfc ph plc pres prof profs pte pty pvt rd rep reps rev rt "
    "sen sens sep sept seq sfc sgt spc sq sr st ste supt sys tel tenn thu thurs tue tues univ va vs vt wed "
    "wis wisc wm wyo"
)
_CAPITALISED_ABBREVIATIONS = "Ark Az Del Ill La Mass Ore Pa Tex Wash Miss"
_BEFORE_NUMBER = "no nos fig figs pp op ca art prop"
# Before one of these words, a single letter and its full stop end a sentence ("the letter B. The"); otherwise the
# letter is an initial.
_SENTENCE_STARTS = (
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More "
    "Now Once One Other Our She Since So Some Such That The Their Then There These They This We What When "
    "While Yet You Mr. Ms."
)
_STARTERS = "|".join(re.escape(word) + "|" + re.escape(word.upper()) for word in _SENTENCE_STARTS.split())


def _alternatives(words: str) -> str:
    return "|".join(words.split())


def _whole(token: str) -> list[str]:
    return [token]


def _spaceless(token: str) -> list[str]:
    return [token.replace(" ", "\u00a0")]  # the Java program keeps such a token together with no-break spaces


def _phone(token: str) -> list[str]:
    return ["".join(_brackets(token)).replace(" ", "\u00a0")]


def _cut(token: str, at: int) -> list[str]:
    return [token[:at], token[at:]]


def _straight(token: str) -> str:
    return token.replace("\u2019", "'")


def _cut_clitic(token: str) -> list[str]:
    token = _straight(token)
    return _cut(token, token.index("'"))


_SPLIT_WORDS = frozenset(("cannot", "gonna", "gotta", "lemme", "gimme", "wanna"))  # all after three letters

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", "&apos;": "'", "&nbsp;": ""}


def _brackets(token: str) -> list[str]:
    return ["".join(_BRACKETS.get(char, char) for char in token)]


Action = Callable[[str], list[str]]

_RULES: list[tuple[re.Pattern[str], Action]] = [
    (re.compile(pattern), action)
    for pattern, action in (
        # words that are cut
        (rf"(?i:{_alternatives(' '.join(_SPLIT_WORDS))})(?!{_A})", lambda token: _cut(token, 3)),
        (rf"[A-Za-z]+[nN]{_Q}[tT]{_END}", lambda token: _cut(_straight(token), len(token) - 3)),
        (rf"{_L}{_A}*{_CLITIC}", _cut_clitic),
        # words
        (rf"{_L}{_A}*(?:[.!?]{_L}{_A}*)*", _whole),
        (rf"{_PART}(?:{_H}(?:{_PART}|{_ACRONYM}\.))*", _whole),
        (rf"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:[A-Za-z0-9]+|{_ACRONYM}\.))+", _whole),
        (r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}", _whole),
        # apostrophes
        (rf"[nN]{_Q}[tT]{_END}", lambda token: [_straight(token)]),
        (_CLITIC, lambda token: [_straight(token)]),
        (rf"'[nN](?:'|(?!{_A}))|\u2019[nN]\u2019?", _whole),
        (rf"[dDjJlL]{_Q}|[yY]{_Q}(?={_A})", _whole),
        (rf"[oO][lL]{_Q}", _whole),
        (rf"{_Q}(?:em|till?|cause|\d\ds?(?!\d)){_END}", _whole),
        (rf"[A-HJ-XZn]{_Q}{_L}{{2,}}|c{_Q}est{_END}", _whole),
        (rf"{_L}+[aeiouyAEIOUY]{_Q}[aeiouA-Z]{_L}*", _whole),
        (rf"{_Q}(?:[tT]is|[tT]was){_END}", lambda token: _cut(token, 2)),
        (rf"(?i:more{_Q}n){_END}", lambda token: _cut(token, 4)),
        # abbreviations
        (rf"(?i:{_alternatives(_ABBREVIATIONS)})\.", _whole),
        (rf"(?:{_alternatives(_CAPITALISED_ABBREVIATIONS)})\.", _whole),
        (rf"(?i:{_alternatives(_BEFORE_NUMBER)})\.(?= ?\d)", _whole),
        (rf"{_ACRONYM}\.|Ph\.D\.|[A-Za-z]\.(?! +(?:{_STARTERS}) )", _whole),
        (rf"{_L}{_A}*\.(?=[,;:\u3001])", _whole),  # a full stop inside a sentence
        # numbers
        (rf"[-+]?{_NUMBER}", _whole),
        (r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}", _whole),
        (r"(?:\d{1,4}[- ])?\d{1,4}/\d{1,4}", _spaceless),
        (r"(?:\(\d{2,3}\) ?|(?:\+{1,2})?(?:\d{2,4}[- ])?\d{2,4}[- ])\d{3,4}[- ]?\d{3,5}", _phone),
        (r"(?:US|HK|A|C|NZ)\$", _whole),
        # addresses, tags, mark-up
        (r"(?i:https?)://[^\s<>\"`(){}\[\]]+[^\s<>\"`(){}\[\].,;!?]", _whole),
        (r"<?[A-Za-z0-9][\w.+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*>?", _whole),
        (r"@[A-Za-z_][A-Za-z0-9_]*", _whole),
        (r"#[A-Za-z]+", _whole),
        (rf"</?{_NAME}(?: +{_NAME}(?:=(?:\"[^\"]*\"|'[^']*'))?)* ?/?>|<[!?][^<>]*>", _spaceless),
        (r"[A-Z]+&[A-Z]+|[CcFf]#|[Cc]\+\+", _whole),
        # punctuation
        (r"[!?]+|-{4,}|#+|_+|\*+|<{1,2}|>{1,2}|@+", _whole),
        (r"''|``", _whole),
        (r"\.{3,}", lambda token: ["..."]),
        (r"-{2,3}", lambda token: ["--"]),
        (rf"(?:[:;=]-?|:')[()DdPp]{_END}", _brackets),
        (rf"{_RUN}+", _whole),
        (r"&(?:amp|lt|gt|quot|apos|nbsp);", lambda token: [_ENTITIES[token]]),
    )
]
_PLAIN = re.compile(r"[A-Za-z]+(?= |$)")


def _tokens(text: str) -> list[str]:
    text = text.translate(_CHARACTERS)
    tokens: list[str] = []
    position = 0
    while position < len(text):
        if text[position] == " ":
            position += 1
            continue
        plain = _PLAIN.match(text, position)
        if plain:
            word = plain[0]
            tokens += _cut(word, 3) if word.lower() in _SPLIT_WORDS else [word]
            position = plain.end()
            continue
        end = position + 1
        action: Action = _single
        for pattern, rule_action in _RULES:
            match = pattern.match(text, position)
            if (match and match.end() > end) or (match and match.end() == end and action is _single):
                end, action = match.end(), rule_action
        tokens += action(text[position:end])
        position = end
    return [token.lower() for token in tokens if token]


def _single(char: str) -> list[str]:
    return [_BRACKETS.get(char, "'" if char in '"\u2019' else char)]
