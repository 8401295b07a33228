"""How near written texts come to wanted ones, and how much they repeat themselves.

ROUGE-L (Lin 2004, section 3.2) and chrF (Popović 2015) come from their reference implementations,
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

from presspool.common.base.extras import not_here

# Chinese and Japanese have no spaces: there a character is a word. (`rouge-score` alone knows ASCII
# only and finds nothing in other scripts.)
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


class Words:
    """A text's words, lower case, as `rouge-score` asks for them."""

    def tokenize(self, text: str) -> list[str]:
        """In their order."""
        return _WORD.findall(text.lower())


def rouge_l(written: Sequence[str], wanted: Sequence[str]) -> float:
    """Mean F1 of the longest common subsequence of words, 0 to 1.

    Raises:
        InputError: the extra `llm` is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise not_here("llm", error, "no rouge-score here") from None
    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    found = [scorer.score(want, got)["rougeL"] for got, want in zip(written, wanted, strict=True)]
    return sum(float(one.fmeasure) for one in found) / len(found)


def chrf(written: Sequence[str], wanted: Sequence[str]) -> float:
    """F2 of character n-grams up to six over the whole corpus, 0 to 1.

    Raises:
        InputError: the extra `llm` is not installed.
    """
    try:
        from sacrebleu import corpus_chrf
    except ImportError as error:
        raise not_here("llm", error, "no sacrebleu here") from None
    return float(corpus_chrf(list(written), [list(wanted)]).score) / 100


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
    same = [got.split() == want.split() for got, want in zip(written, wanted, strict=True)]
    return sum(same) / len(same)
