"""People who type what the guides say, in folders of their own, with this installation's commands.

What a guide can only show as an example they replace by what they have before them: an address, a
run's id, and fingerprints, which they hear by telephone: each is the one that the named outlet's
own command has last asked its operator to read out.

Example: ``with People(tmp_path, {"guest": ["guest"]}) as people: people.follow(steps)``.
"""

from __future__ import annotations

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.conftest import AS_TYPED, REPOSITORY
from tests.journeys.guides import Step

LONGEST_WAIT = 1500.0  # seconds; a machine may be slow, and nothing here measures it
FINGERPRINT = r"[A-Z2-7]{4}(?:-[A-Z2-7]{4}){3}"
_HEARD = re.compile(rf"(admit |--peer |peers approve )([a-z-]+)([ =]){FINGERPRINT}")
_READ_OUT = re.compile(rf"(admit |--peer |peers approve )([a-z-]+)[ =]({FINGERPRINT})")
_RUN = re.compile(r"\b[a-z-]+-[0-9a-f]{12}\b")
_SHAPES = (FINGERPRINT, _RUN.pattern, r"[0-9a-f]{64}", r"\d[\d,]*(?:\.\d+)?")
_SHAPE = re.compile("|".join(f"({shape})" for shape in _SHAPES))


def first_records() -> list[dict[str, str]]:
    """Of the examples' records each reader's first: all readers, and a journey of seconds."""
    with (REPOSITORY / "examples" / "readers.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return list({row["reader"]: row for row in reversed(rows)}.values())


class People:
    """Everybody of a journey.

    Args:
        folder: where each person's own folder is made.
        roles: what a guide calls them, to their names; each of several types by itself.
        stands_for: what stands in the guides, to what it is here.
        answers: a word of a command that asks questions, to what the person then types.

    Attributes:
        typed: commands of PressPool that were typed so far.
    """

    def __init__(
        self,
        folder: Path,
        roles: Mapping[str, Sequence[str]],
        stands_for: Mapping[str, str] | None = None,
        answers: Mapping[str, str] | None = None,
    ) -> None:
        self._answers = dict(answers or {})
        self._folder, self._roles, self._stands_for = folder, roles, dict(stands_for or {})
        self._waiting: dict[str, _Terminal] = {}
        self._terminals: list[_Terminal] = []
        self._said: dict[str, str] = {}
        self._heard: dict[tuple[str, str], str] = {}
        self.typed: list[str] = []
        for name in (name for names in roles.values() for name in names):
            self.home(name).mkdir(parents=True, exist_ok=True)
        shim = folder / "bin" / "presspool"
        shim.parent.mkdir()
        shim.write_text(f'#!/bin/sh\nexec {shlex.join(AS_TYPED)} "$@"\n')
        shim.chmod(0o755)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for terminal in reversed(self._terminals):
            terminal.close()

    def home(self, name: str) -> Path:
        """A person's folder."""
        return self._folder / name

    def follow(self, steps: Sequence[Step]) -> None:
        """Type steps, each by everybody whose it is."""
        for step in steps:
            names = self._roles[step.who]
            for name in () if step.shows else names:
                self._come_back(name)
            for name in names:
                self._type(step, name)

    def _type(self, step: Step, name: str) -> None:
        """One person's part of a step."""
        if step.shows:
            self._compare(step, name)
            return
        text = self._here(step.text, name, self._roles[step.who])
        if step.file:
            (self.home(name) / step.file).write_text(text)
        elif step.how == "again":
            self._again(step, name, text)
        else:
            self._once(step, name, text)
        for file, whom in step.hands:
            (self.home(whom) / file).write_bytes((self.home(name) / file).read_bytes())

    def _once(self, step: Step, name: str, text: str) -> None:
        self.typed += [line for line in step.commands if line.startswith("presspool ")]
        terminal = self._open(name, text)
        if step.how:
            terminal.wait_for(step.until)
            if step.how == "waits":
                self._waiting[name] = terminal
        else:
            terminal.end(step.exit)
        self._listen(name, terminal)

    def _again(self, step: Step, name: str, text: str) -> None:
        until = time.monotonic() + LONGEST_WAIT
        while True:
            terminal = self._open(name, text)
            terminal.end(step.exit)
            self._listen(name, terminal)
            if step.until in terminal.said:
                return
            others = "\n".join(other.said[-2000:] for other in self._terminals[:-1])
            assert time.monotonic() < until, (terminal.said, others)
            self._terminals.remove(terminal)
            time.sleep(2)

    def _come_back(self, name: str) -> None:
        terminal = self._waiting.pop(name, None)
        if terminal is not None:
            terminal.end(0)
            self._listen(name, terminal)

    def _open(self, name: str, text: str) -> _Terminal:
        log = self._folder / f"{len(self._terminals)}-{name}.log"
        said = "".join(said for word, said in self._answers.items() if word in text)
        terminal = _Terminal(text, self.home(name), log, path=self._folder / "bin", answers=said)
        self._terminals.append(terminal)
        return terminal

    def _listen(self, name: str, terminal: _Terminal) -> None:
        self._said[name] = terminal.said
        for verb, outlet, said in _READ_OUT.findall(terminal.said):
            self._heard[_purpose(verb), outlet] = said
        for run in _RUN.findall(terminal.said):
            self._stands_for[f"{run.rpartition('-')[0]}-0a1b2c3d4e5f"] = run

    def _here(self, text: str, name: str, fellows: Sequence[str]) -> str:
        """A block as this person types it."""
        for example, real in self._stands_for.items():
            text = text.replace(example, real)
        if name != fellows[0]:  # the guide speaks to the first of them, who has the other as a peer
            swap = {fellows[0]: name, name: fellows[0]}
            text = re.sub("|".join(swap), lambda found: swap[found[0]], text)
        return _HEARD.sub(lambda m: m[1] + m[2] + m[3] + self._heard[_purpose(m[1]), m[2]], text)

    def _compare(self, step: Step, name: str) -> None:
        text = self._here(step.text, name, self._roles[step.who])
        for line in filter(None, text.splitlines()):
            pattern = _pattern(" ".join(line.split()))
            said = [" ".join(line.split()) for line in self._said[name].splitlines()]
            assert any(re.fullmatch(pattern, one) for one in said), (line, self._said[name])


class _Terminal:
    """A shell that has been given a block, and what it says."""

    def __init__(self, text: str, folder: Path, log: Path, *, path: Path, answers: str) -> None:
        self._log, self._text = log, text
        typed = log.with_suffix(".typed")
        typed.write_text(answers)
        found = (str(path), str(Path(sys.executable).parent), os.environ["PATH"])
        environment = os.environ | {
            "PATH": os.pathsep.join(found),
            "PYTHONPATH": str(REPOSITORY / "src"),
            "COLUMNS": "200",
        }
        with log.open("wb") as stream, typed.open("rb") as keys:
            self._process = subprocess.Popen(
                ["bash", "-c", f"set -eu\n{text}"],
                cwd=folder,
                env=environment,
                stdin=keys,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait_for(self, words: str) -> None:
        """Until it has said something."""
        until = time.monotonic() + LONGEST_WAIT
        while words not in self.said:
            assert self._process.poll() is None, (self._text, self.said)
            assert time.monotonic() < until, (self._text, self.said)
            time.sleep(0.2)

    def end(self, code: int) -> None:
        """Until it has ended with an exit code."""
        assert self._process.wait(LONGEST_WAIT) == code, (self._text, self.said)

    def close(self) -> None:
        """End it, and whatever it has started."""
        for kind in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self._process.pid, kind)
                try:
                    self._process.wait(20)
                except subprocess.TimeoutExpired:
                    continue


def _purpose(verb: str) -> str:
    return "admit" if verb.startswith("admit") else "peer"


def _pattern(line: str) -> str:
    """Matches the line, and any other that differs in its fingerprints, ids and numbers alone."""
    made, at = "", 0
    for found in _SHAPE.finditer(line):
        made += re.escape(line[at : found.start()]) + _SHAPES[(found.lastindex or 1) - 1]
        at = found.end()
    return made + re.escape(line[at:])
