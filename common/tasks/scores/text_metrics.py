"""How near written texts come to wanted ones, and how much they repeat themselves.

ROUGE (Lin 2004; L: section 3.2) and chrF (Popović 2015) come from their reference implementations,
`rouge-score` and `sacrebleu`; the extra `llm` has both. Neither says whether a text is true.

Example:
    >>> exact_match(["Cup  final ", "Vote"], ["Cup final", "Votes"])
    0.5
    >>> distinct_2(["a b a b", "a b"])
    0.3333333333333333
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from presspool.common.base.extras import from_extra

# Chinese and Japanese have no spaces: there a character is a word. (`rouge-score` alone knows ASCII
# only and finds nothing in other scripts.)
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")

_SENTENCE = re.compile(r"[^\n]+?(?:[.!?](?=\s|$)|[\u3002\uff01\uff1f]|(?=\n)|$)")


class Words:
    """A text's words, lower case, as `rouge-score` asks for them."""

    def tokenize(self, text: str) -> list[str]:
        """In their order."""
        return _WORD.findall(text.lower())


def rouge(written: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """Mean F1 of words, of pairs of words, and of the longest common subsequence, 0 to 1.

    Returns:
        "rouge_1", "rouge_2" (Lin 2004, section 2) and "rouge_l".

    Raises:
        InputError: the extra `llm` is not installed.
    """
    names = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
    found = _rouge(written, wanted, *names.values())
    return {key: sum(one[name] for one in found) / len(found) for key, name in names.items()}


def rouge_l_each(written: Sequence[str], wanted: Sequence[str]) -> list[float]:
    """ROUGE-L of each text alone; raises as `rouge`."""
    return [one["rougeL"] for one in _rouge(written, wanted, "rougeL")]


def _rouge(written: Sequence[str], wanted: Sequence[str], *names: str) -> list[dict[str, float]]:
    with from_extra("llm", "no rouge-score here"):
        from rouge_score.rouge_scorer import RougeScorer
    scorer = RougeScorer(list(names), tokenizer=Words())
    found = [scorer.score(want, got) for got, want in zip(written, wanted, strict=True)]
    return [{name: float(one[name].fmeasure) for name in names} for one in found]


def chrf(written: Sequence[str], wanted: Sequence[str]) -> float:
    """F2 of character n-grams up to six over the whole corpus, 0 to 1.

    Raises:
        InputError: the extra `llm` is not installed.
    """
    with from_extra("llm", "no sacrebleu here"):
        from sacrebleu import corpus_chrf
    return min(1.0, float(corpus_chrf(list(written), [list(wanted)]).score) / 100)


def distinct_2(written: Sequence[str]) -> float | None:
    """Different pairs of neighbouring words over all words (Li et al. 2016, section 5.2).

    None where no word was written.
    """
    texts = [Words().tokenize(text) for text in written]
    pairs = {pair for text in texts for pair in pairwise(text)}
    words = sum(map(len, texts))
    return len(pairs) / words if words else None


def exact_match(written: Sequence[str], wanted: Sequence[str]) -> float:
    """The share that is the same but for white space."""
    return sum(same := exact_each(written, wanted)) / len(same)


def exact_each(written: Sequence[str], wanted: Sequence[str]) -> list[bool]:
    """Whether each text is the same but for white space."""
    return [got.split() == want.split() for got, want in zip(written, wanted, strict=True)]


def first_sentence(text: str) -> str:
    """A text up to its first full stop, question or exclamation mark, or the end of its first line.

    A mark ends a sentence where white space or nothing follows; a Chinese one always does. So
    "Mr. Smith" ends after "Mr.".

    >>> first_sentence("Shares fell 3.5 points. Nobody knows why."), first_sentence("Rain")
    ('Shares fell 3.5 points.', 'Rain')
    """
    found = _SENTENCE.match(text.strip())
    return found[0].strip() if found else ""
