"""Answers on paraphrases: whether an answer stays when its text is said in other words.

The policy's model writes one paraphrase of each of some public texts. What it writes counts only
where it is one: other words and no piece of the text, the text's own numbers, and a meaning that is
near. Near is the cosine of both texts' mean states under an encoder that the policy names: the
adapter's own base is its author's choice. How many texts are as near to the next one is
measured beside it: a limit that does not tell them apart judges nothing.

Invariants:
    * What is a paraphrase hangs on the texts and the policy's models alone, never on the adapter; a
      text to which it has no answer is none of those that are counted.
    * A share is held against its floor by its lower bound.

Example:
    >>> fault_of("Gold rose 2 percent.", "GOLD ROSE - 2 percent", 0.99, nearness=0.75)
    'same words'
    >>> fault_of("Gold rose 2 percent.", "The price of gold went up 2 percent", 0.9, nearness=0.75)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Final, Literal, get_args
from unicodedata import normalize

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from presspool.common.base.console import progress
from presspool.common.base.errors import InputError
from presspool.common.contract.contract import Contract
from presspool.common.contract.contract_schema import UNSURE, Model
from presspool.common.models.base_model import BaseModelFolder
from presspool.common.models.models import HeadedModel, base
from presspool.common.released.adapter_model import AdapterModel
from presspool.common.tasks.scores.share_bounds import share_at_least
from presspool.server.gate.finding import Figure, Finding, finding
from presspool.server.gate.gate_case import GateCase
from presspool.server.gate.paraphraser import Paraphraser
from presspool.server.gate.release_policy import Paraphrases
from presspool.server.rounds.evaluation import spread

SHOWN: Final = 3
"""Pairs on the page: those whose answers differ first, and the least near ones first."""
LETTERS: Final = 400
"""Of a text on the page, at most."""
STRANGERS: Final = 0.05
"""How many texts may be as near to the next one as a paraphrase must be."""
Fault = Literal["unfinished", "same words", "other numbers", "other meaning", "no answer"]
_finding = partial(finding, "robustness", "paraphrase")
_AT_ONCE = 64
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def paraphrased(case: GateCase, rows: pa.Table) -> Finding:
    """What it finds of public rows; without a model that writes, that nothing was tried."""
    asked = case.policy.robustness.paraphrases if case.policy.robustness else None
    if asked is None:
        return _finding("not tried: nothing here writes texts anew", judged=False)
    model = case.candidate.model
    if not model.task.options:
        said = f"answers of the task {model.contract.task.kind!r} are no labels of one text"
        return _finding(said, "leave [robustness.paraphrases] out of this task's policy")
    texts = list(dict.fromkeys(rows[model.task.inputs[0]].to_pylist()))
    texts = [texts[place] for place in spread(len(texts), asked.texts).tolist()]
    files = asked.files(case.beside)
    for name, found in files.items():
        if found.manifest != case.inputs.get(name, found.manifest):
            raise InputError("changed while the gate was at work", where=str(found.path))
    with progress("paraphrasing", total=len(texts)) as advance:
        written = Paraphraser(files["paraphraser"], asked.model).written(texts, advance)
    return judged(model, texts, written, asked, files["encoder"])


# --- What is one ----------------------------------------------------------------------------------


def fault_of(text: str, said: str | None, near: float, *, nearness: float) -> Fault | None:
    """Why what was written is no paraphrase; None where it is one.

    Args:
        text: the original.
        said: what was written of it; None where it came to no end.
        near: cosine of both.
        nearness: how near they must be.
    """
    if said is None:
        return "unfinished"
    one, other = _plain(text), _plain(said)
    if one in other or other in one:  # a piece of it, or nothing, is no other wording either
        return "same words"
    if numbers(text) != numbers(said):
        return "other numbers"
    return None if near >= nearness else "other meaning"


def numbers(text: str) -> list[str]:
    """All that stand there in digits, in any order; 1,000 is 1000."""
    return sorted(_NUMBER.findall(_THOUSANDS.sub("", normalize("NFKC", text))))


def _plain(text: str) -> str:
    """Letters and digits alone."""
    return "".join(filter(str.isalnum, normalize("NFKC", text).casefold()))


def meanings(encoder: BaseModelFolder, like: Contract, texts: Sequence[str]) -> NDArray[np.float64]:
    """Mean states of length one, (texts, hidden).

    Args:
        encoder: whose.
        like: says how texts are read.
        texts: any.

    Raises:
        InputError: no encoder.
    """
    import torch

    bare, found = _bare(encoder, like), list[NDArray[np.float64]]()
    device = next(bare.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(texts), _AT_ONCE):
            batch = bare.task.encode(list(texts[start : start + _AT_ONCE]))
            states = bare.features(**{name: ids.to(device) for name, ids in batch.items()})
            found.append(states.double().cpu().numpy())
    return np.concatenate(found)


def _bare(encoder: BaseModelFolder, like: Contract) -> HeadedModel:
    import torch

    spec = Model(id=str(encoder.path), **encoder.pins)
    try:
        bare = base(like.model_copy(update={"model": spec}))
        assert bare.task.tokenizer is not None  # it is read when it is asked for
    except Exception as error:  # noqa: BLE001  files of others fail in as many ways
        raise InputError(
            "not a model by which texts are near",
            where=f"[robustness.paraphrases] encoder = {str(encoder.path)!a}",
            expected="a text encoder",
            got=str(error)[:300],
        ) from None
    return bare.to("cuda" if torch.cuda.is_available() else "cpu").eval()


# --- What they show -------------------------------------------------------------------------------


def judged(
    model: AdapterModel,
    texts: Sequence[str],
    written: Sequence[str | None],
    asked: Paraphrases,
    encoder: BaseModelFolder,
) -> Finding:
    """What paraphrases show of an adapter; raises as `meanings`.

    Args:
        model: the adapter, of a task whose answers are labels.
        texts: different ones.
        written: what was written of each; None for nothing.
        asked: the policy's.
        encoder: its files.
    """
    count = len(texts)
    filled = [said or text for text, said in zip(texts, written, strict=True)]
    own, other = np.split(meanings(encoder, model.contract, [*texts, *filled]), 2)
    near: list[float] = (own * other).sum(1).tolist()
    before = [one.answer for one in model.predict(list(texts))]
    fault = partial(fault_of, nearness=asked.nearness)
    faults = [
        "no answer" if answer == UNSURE else found  # what says nothing cannot say the same again
        for answer, found in zip(before, map(fault, texts, written, near), strict=True)
    ]
    kept = [place for place in range(count) if faults[place] is None]
    lines = _lines(model, [(texts[i], before[i], filled[i], near[i]) for i in kept])
    same = sum(_stays(line) for line in lines)
    least = share_at_least(same, len(kept), 1 - asked.confidence)
    pairs = (own[1:] * own[:-1]).sum(1)
    strangers = float((pairs >= asked.nearness).mean()) if len(pairs) else 0.0
    thrown = {name: faults.count(name) for name in get_args(Fault)}
    told = ", ".join(f"{name} {many}" for name, many in thrown.items() if many) or "none"
    said = (
        f"{len(kept)} of {count} paraphrases by {asked.model} are kept (thrown away: {told}); "
        f"{same} of these keep their text's answer: at least {least:.1%} with "
        f"{100 * asked.confidence:g} % confidence, {asked.floor:.1%} asked"
    )
    figures: dict[str, Figure] = {"texts": count, "kept": len(kept), "same": same}
    figures |= thrown | {"unlike_as_near": strangers, "value": least, "least": asked.floor}
    advice = _advice(asked, kept=len(kept), strangers=strangers, least=least)
    return _finding(said, advice, figures, rows=tuple(lines[:SHOWN]))


def _advice(asked: Paraphrases, *, kept: int, strangers: float, least: float) -> str:
    if strangers > STRANGERS:
        return (
            f"set nearness higher: {strangers:.1%} of texts are as near to the next one, to the "
            f"encoder, and {STRANGERS:.1%} at most can be"
        )
    if kept < asked.fewest:
        return (
            f"{asked.fewest} are asked for: give more public texts, or a model that writes better"
        )
    return "" if least >= asked.floor else "train on texts in more than one wording"


def _lines(
    model: AdapterModel, pairs: Sequence[tuple[str, str, str, float]]
) -> list[dict[str, Figure]]:
    """Pairs as rows of the page: text, answer, paraphrase, nearness."""
    after = model.predict([said for *_, said, _ in pairs])
    lines: list[dict[str, Figure]] = [
        {
            "text": text[:LETTERS],
            "answer": answer,
            "paraphrase": said[:LETTERS],
            "answer_then": other.answer,
            "nearness": near,
        }
        for (text, answer, said, near), other in zip(pairs, after, strict=True)
    ]
    return sorted(lines, key=lambda line: (_stays(line), float(line["nearness"] or 0)))


def _stays(line: dict[str, Figure]) -> bool:
    return line["answer"] == line["answer_then"]
