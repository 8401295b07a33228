r"""What the pages tell people to type, as it stands there, in the order of their journeys.

A fenced block of a page belongs to a journey if an HTML comment, which no reader sees, stands right
above it::

    <!-- journey pool 4: outlets, waits until "fingerprint of its keys" -->

is step 4 of the journey "pool", typed by each of the outlets' operators. Pages may share a journey;
its steps are sorted by their numbers. What may follow the person:

    exit N               the block's last command ends with exit code N, not 0
    serves until "TEXT"  it runs on in a terminal of its own, once it has said so
    waits until "TEXT"   likewise; it has ended, with exit code 0, before the person types again
    again until "TEXT"   it is typed again until it says so
    shows                the block is output: each line of it was said by what was typed before
    file NAME            the block is a file that the person writes
    hands FILE to WHO    afterwards the person gives a file away

Example:
    >>> page = '<!-- journey pool 1: coordinator, exit 2 -->\n```sh\npresspool demo  # quick\n```\n'
    >>> [step] = steps_of(page)
    >>> step.number, step.who, step.exit, step.commands
    (1, 'coordinator', 2, ['presspool demo'])
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

GUIDES = REPOSITORY / "docs" / "guides"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_STEP = re.compile(
    r"<!-- journey (?P<journey>\w+) (?P<number>\d+): (?P<who>\w+)(?P<more>.*?) -->\n"
    + _FENCE.pattern.removeprefix("^"),
    re.MULTILINE | re.DOTALL,
)
_MORE = re.compile(
    r"exit (?P<exit>\d+)|(?P<how>serves|waits|again) until \"(?P<until>[^\"]+)\"|(?P<shows>shows)"
    r"|file (?P<file>\S+)|hands (?P<given>\S+) to (?P<to>\S+)"
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One block and who types it.

    Attributes:
        text: of the block.
        how: "serves", "waits", "again", or "" where the person just waits for its end.
        until: what is said then.
        file: what the block is written to; "" where it is typed.
        hands: file to the person who gets it.
    """

    journey: str
    number: int
    who: str
    text: str
    exit: int = 0
    how: str = ""
    until: str = ""
    shows: bool = False
    file: str = ""
    hands: tuple[tuple[str, str], ...] = ()

    @property
    def commands(self) -> list[str]:
        """What is typed, a line each, without comments."""
        return [] if self.file or self.shows else _lines(self.text)


def blocks(page: Path) -> list[str]:
    """Every command line in a page's sh blocks, with or without a journey."""
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [line for language, text in found if language == "sh" for line in _lines(text)]


def journey(name: str) -> list[Step]:
    """A journey's steps over all guides, in their order."""
    found = [step for page in sorted(GUIDES.glob("*.md")) for step in steps_of(page.read_text())]
    return sorted((step for step in found if step.journey == name), key=lambda step: step.number)


def steps_of(page: str) -> list[Step]:
    """The steps that a page holds; a comment that is none of the above is an error."""
    found = list(_STEP.finditer(page))
    assert len(found) == page.count("<!-- journey "), "a comment without its block"
    return [_step(match) for match in found]


def _step(match: re.Match[str]) -> Step:
    step = Step(
        journey=match["journey"], number=int(match["number"]), who=match["who"], text=match[6]
    )
    values: dict[str, object] = {}
    hands = []
    for part in filter(None, match["more"].split(", ")):
        said = _MORE.fullmatch(part)
        assert said, f"{part!r} of step {step.number} of {step.journey}"
        if said["given"]:
            hands.append((said["given"], said["to"]))
        words = {key: said[key] for key in ("how", "until", "file") if said[key]}
        values |= words | ({"exit": int(said["exit"])} if said["exit"] else {})
        values |= {"shows": True} if said["shows"] else {}
    return Step(**{**step.__dict__, **values, "hands": tuple(hands)})


def _lines(text: str) -> list[str]:
    lines = [line.partition("  #")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
