"""Personal data that nobody has: numbers with right check digits, names and places, in sentences.

Example: `list(made("IBAN_CODE", 3))` are texts, each with what is to be masked in it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from phonenumbers import PhoneNumberFormat, example_number, format_number
from phonenumbers.geodata import GEOCODE_DATA

FIRST = (  # noqa: SIM905  read as a table
    "Aisha Anna Babak Bjorn Carmen Chidi Clara Dmitri Elif Emeka Fatima Femi Giulia Grace "
    "Hana Hugo Ines Ivan Jamal Joanna Kenji Khadija Lars Leila Magnus Mariam Mei Miguel Nadia "
    "Ngozi Olga Omar Paolo Petra Priya Quentin Rahul Rosa Samir Sean Sofia Sven Tariq Teresa "
    "Thabo Uma Vera Viktor Wei Wendy Xavier Yara Yusuf Zanele Zoe "
).split()
LAST = (  # noqa: SIM905  read as a table
    "Abebe Adeyemi Bauer Bianchi Blake Bondarenko Campbell Chen Dahl Dlamini Dubois Eriksen "
    "Fernando Flores Garcia Gupta Haddad Hughes Ibrahim Ivanova Jansen Johnson Kamau Kim "
    "Kowalski Larsen Lopez MacDonald Mbeki Mensah Moreau Nakamura Nguyen Novak Okafor Olsen "
    "Papadopoulos Park Petrov Quispe Raghunathan Rossi Saito Santos Schmidt Silva Singh "
    "Svensson Tanaka Thompson Ueda Varga Wagner Walsh Williams Yilmaz Zhang Zielinski "
).split()
SAID = {  # those on which the rules were tried, and those on which they were not
    "tried": (
        "My name is {p} and I live in {l}.",
        "Dear editor, I am {p} from {l} and I disagree with your article.",
        "{p} wrote to us from {l} about the new bus lane.",
        "Please call {p}, my neighbour in {l}, before you print this.",
        "Yesterday {p} told me that the school in {l} will close.",
        "Regards, {p}, {l}",
        "I met {p} at the station in {l} last week.",
        "The comment by {p} is wrong, said a reader in {l}.",
        "My doctor {p} in {l} refused to see me.",
        "Can {p} please stop writing about {l}?",
    ),
    "held out": (
        "As {p} knows, nobody in {l} has had clean water since May.",
        "We moved to {l} in 2019 and our landlord, {p}, still owes us money.",
        "I was at school with {p}, who now runs a shop near {l}.",
        "This is {p}; I drive a bus between {l} and the coast.",
        "Why does your paper never report from {l}? asks {p}.",
        "According to {p}, the fire near {l} started in a kitchen.",
        "My sister married {p} and they left for {l}.",
        "Please take my photo off your page. Thanks, {p}",
        "The council of {l} sent {p} a letter that made no sense.",
        "Our coach {p} grew up in {l} and never left.",
    ),
}
FOUND = (
    "Write to me: {x} is best.",
    "You can use {x} until Friday",
    "({x})",
    "my details are {x}, thank you",
    "{x}",
)
FOUND_IN_CHINESE = ("我的号码是{x}，谢谢", "请联系{x}。", "编号：{x}", "{x}是我的")
COUNTRIES = ("US GB DE FR IT ES CN IN BR AU JP NL SE PL ZA ").split()  # noqa: SIM905


def _digits(rng: random.Random, number: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(number))


def _luhn(body: str) -> str:
    """A body with its last digit: the one for which the sum over all is a multiple of ten."""
    for last in "0123456789":
        total = 0
        for place, digit in enumerate(reversed(body + last)):
            value = int(digit) * (2 if place % 2 else 1)
            total += value - 9 if value > 9 else value
        if total % 10 == 0:
            return body + last
    raise AssertionError


def _email(rng: random.Random) -> str:
    first, last = rng.choice(FIRST).lower(), rng.choice(LAST).lower()
    form = rng.choice(["{f}.{l}@{h}", "{f}{n}@{h}", "{f}_{l}+news@{h}", "{l}-{n}@mail.{h}"])
    host = rng.choice(["example.org", "example.co.uk", "beispiel.de", "example.com.cn"])
    return form.format(f=first, l=last, n=rng.randrange(100), h=host)


def _phone(rng: random.Random) -> str:
    number = example_number(rng.choice(COUNTRIES))
    assert number is not None
    form = rng.choice([PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.E164])
    return format_number(number, form)[:-2] + _digits(rng, 2)


def _iban(rng: random.Random) -> str:
    land, body = rng.choice(
        [
            ("DE", _digits(rng, 18)),
            ("GB", "NWBK" + _digits(rng, 14)),
            ("FR", _digits(rng, 23)),
            ("NL", "ABNA" + _digits(rng, 10)),
            ("ES", _digits(rng, 20)),
        ]
    )
    check = 98 - int("".join(str(int(c, 36)) for c in f"{body}{land}00")) % 97
    whole = f"{land}{check:02d}{body}"
    spaced = " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))
    return rng.choice([whole, spaced])


def _card(rng: random.Random) -> str:
    number = _luhn(rng.choice(["4", "51", "55", "4929"]).ljust(15, "x").replace("x", ""))
    number = _luhn((number[:-1] + _digits(rng, 15))[:15])
    return rng.choice([number, "-".join(number[i : i + 4] for i in range(0, 16, 4))])


def _mobile(rng: random.Random) -> str:
    number = rng.choice(["13", "15", "17", "18", "19"]) + _digits(rng, 9)
    spaced = f"{number[:3]} {number[3:7]} {number[7:]}"
    return rng.choice([number, "+86 " + number, spaced, spaced.replace(" ", "-")])


def _identity(rng: random.Random) -> str:
    area = rng.choice(["110105", "310104", "440305", "510107", "330106"])
    born = f"{rng.randrange(1940, 2010)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}"
    body = area + born + _digits(rng, 3)
    # ISO 7064: the weights are powers of two, and the whole is 1 modulo 11.
    total = sum(int(digit) * pow(2, 17 - at, 11) for at, digit in enumerate(body))
    return body + "0123456789X"[(12 - total % 11) % 11]


def _bank(rng: random.Random) -> str:
    start = rng.choice(["622202", "621700", "622848", "625912"])
    number = _luhn(start + _digits(rng, rng.choice([9, 12])))
    return rng.choice([number, " ".join(number[i : i + 4] for i in range(0, len(number), 4))])


NUMBERS: dict[str, Callable[[random.Random], str]] = {
    "EMAIL_ADDRESS": _email,
    "PHONE_NUMBER": _phone,
    "IBAN_CODE": _iban,
    "CREDIT_CARD": _card,
    "CN_MOBILE_NUMBER": _mobile,
    "CN_ID_CARD": _identity,
    "CN_BANK_CARD": _bank,
}


def made(kind: str, count: int) -> Iterator[tuple[str, str]]:
    """Texts with a number or address of a kind, and that."""
    rng = random.Random(kind)
    frames = (*FOUND_IN_CHINESE, *FOUND[-2:]) if kind.startswith("CN_") else FOUND
    for number in range(count):
        found = NUMBERS[kind](rng)
        yield frames[number % len(frames)].format(x=found), found


def places() -> list[str]:
    """Cities, towns and villages all over the world, of one or two words."""
    found = {(said.get("en") or "").split(",")[0] for said in GEOCODE_DATA.values()}
    return sorted(one for one in found if one.replace(" ", "").isalpha() and one.count(" ") < 2)


def named(frames: str, count: int) -> Iterator[tuple[str, str, str]]:
    """Texts, and the person and the place in each; "" where it has none."""
    rng, there = random.Random(frames), places()
    for number in range(count):
        frame = SAID[frames][number % len(SAID[frames])]
        person = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
        place = rng.choice(there) if "{l}" in frame else ""
        yield frame.format(p=person, l=place), person, place
