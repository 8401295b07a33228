"""Numbers of China (mobile telephones, identity cards, bank cards), and IBANs among words.

An identity card's number has a check character (GB 11643-1999, ISO 7064 MOD 11-2) and a day of
birth, a bank card's (ISO/IEC 7812) a Luhn digit: what fails them is another number. An IBAN (ISO
13616) is Presidio's as well, whose pattern takes the word behind some into the number.

Invariant: the digits before and after decide, and not Unicode's borders of words, for a Chinese
character beside a digit is no such border.

Example:
    >>> is_identity_card("11010519491231002X"), is_identity_card("110105194912310021")
    (True, False)
    >>> is_bank_card("6222 0212 3456 7894"), is_bank_card("6222021234567890")
    (True, False)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any, Final

from presidio_analyzer import Pattern, PatternRecognizer

IBAN, MOBILE, IDENTITY, BANK = "IBAN_CODE", "CN_MOBILE_NUMBER", "CN_ID_CARD", "CN_BANK_CARD"
_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS: Final = "10X98765432"
_ALONE, _END = r"(?<![\w.+-])", r"(?![\w-])"
_FORMS: Final = {
    IBAN: r"[A-Z]{2}[0-9]{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)",
    MOBILE: r"(?:(?:\+|00)?86[ -]?)?1[3-9][0-9](?:[ -]?[0-9]{4}){2}",
    IDENTITY: r"[1-8][0-9]{5}(?:18|19|20)[0-9]{9}[0-9Xx]",
    BANK: r"[3-6][0-9]{3}(?:[ -]?[0-9]{4}){3}(?:[ -]?[0-9]{1,3})?",
}


def is_identity_card(typed: str) -> bool:
    """Whether 18 characters have a day of birth and the right check character."""
    try:
        date(int(typed[6:10]), int(typed[10:12]), int(typed[12:14]))
    except ValueError:
        return False
    total = sum(int(n) * w for n, w in zip(typed, _WEIGHTS, strict=False))
    return _CHECKS[total % 11] == typed[17].upper()


def is_bank_card(typed: str) -> bool:
    """Whether the last digit is Luhn's."""
    digits = [int(one) for one in reversed(re.sub(r"[ -]", "", typed))]
    doubled = [sum(divmod(2 * one, 10)) for one in digits[1::2]]
    return len(set(digits)) > 1 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def is_iban(typed: str) -> bool:
    """Whether it is 1 modulo 97, letters being 10 to 35."""
    whole = typed.replace(" ", "")
    return int("".join(str(int(one, 36)) for one in whole[4:] + whole[:4])) % 97 == 1


class _Checked(PatternRecognizer):  # type: ignore[misc]
    """A pattern and the check behind it."""

    def __init__(self, kind: str, language: str, check: Callable[[str], bool] | None) -> None:
        pattern = Pattern(kind.lower(), rf"{_ALONE}{_FORMS[kind]}{_END}", 0.6)
        super().__init__(
            kind,
            supported_language=language,
            patterns=[pattern],
            name=f"Checked{kind}",
            global_regex_flags=re.MULTILINE,  # and not IGNORECASE
        )
        self._check = check

    def validate_result(self, pattern_text: str) -> bool | None:
        """As Presidio has it: sure, wrong, or None for what has no check."""
        return None if self._check is None else self._check(pattern_text)


def checked_recognizers(language: str) -> list[Any]:
    """What finds them in texts of a language."""
    checks = {IBAN: is_iban, MOBILE: None, IDENTITY: is_identity_card, BANK: is_bank_card}
    return [_Checked(kind, language, check) for kind, check in checks.items()]
