"""The made newsroom's language: word lists and the grammar that turns them into comments.

A comment is about one topic, but says so more or less clearly:

* *plain*: a noun and an event of one beat of the topic ("the relay squad ran its best split");
* *crossed*: the topic's noun or event beside an aside about another topic ("forget the tram
  vote, ..."), so that a bag of words is not enough;
* *faint*: a word that several topics share ("the pitch", "the trial") and one hint.

Surnames are the second signal: each belongs to one topic, and nothing but training data says to
which. All names are invented. Misspellings only double or swap inner letters of long words: a
dropped letter could make an innocent word a rude one.

Invariants: a comment has `MIN_WORDS` to `MAX_WORDS` words; the same generator state, topic and
voice give the same comment.

Example:
    >>> import random
    >>> rng = random.Random(4)
    >>> voice = draw_voice(rng)
    >>> text = write_comment(rng, topic="sport", beat=voice.beats["sport"][0], voice=voice)
    >>> MIN_WORDS <= len(text.split()) <= MAX_WORDS
    True
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MIN_WORDS: Final = 8
MAX_WORDS: Final = 25

# How openly a comment shows its topic: shares of plain and crossed comments; the rest is faint.
_PLAIN, _CROSSED = 0.72, 0.20
_OWN_SURNAME = 0.9  # a comment that names somebody names somebody of its own topic
_TYPO = 0.25
_BEATS_OF_AN_OUTLET = 3  # of the six beats of each topic
_WORDS_OF_AN_OUTLET = 0.6  # share of surnames, places, openers and closers that an outlet uses


@dataclass(frozen=True, kw_only=True)
class Beat:
    """A corner of a topic that one desk covers.

    Attributes:
        nouns: things that comments are about, without their article.
        events: what happened to one of them, in the past tense.
    """

    nouns: tuple[str, ...]
    events: tuple[str, ...]


# For each topic: words it shares with other topics (then the comment's one hint must decide), its
# people, and its beats, each a line of nouns and a line of events. Neighbouring topics overlap.
_WORDS: Final = """
business
  shared: pitch, transfer, strike, bill, plant, launch, charge, share, deal, season, target
  surnames: Ambelow, Castermole, Durrisk, Fenwrale, Gossamy, Ollaby, Prendrick, Tavistone
  nouns: savings rate, branch closure, mortgage offer, overdraft fee, bank transfer, credit check
  events: doubled in price overnight, got refused twice, ate half my wages, shut more counters
  nouns: supermarket price, loyalty card, corner shop, bakery chain, checkout queue, discount aisle
  events: put up the cost of bread, dropped the own brand, lost its regulars, opened on sundays
  nouns: share price, quarterly report, merger plan, pension fund, hedge bet, bond sale
  events: beat the forecast, slid before lunch, wiped out the gains, scared the investors
  nouns: pay round, warehouse shift, redundancy letter, wage offer, night rota, staff canteen
  events: led to a walkout, fell short of inflation, got signed by the union, cut forty jobs
  nouns: start-up loan, family firm, export order, tax return, factory lease, supplier contract
  events: missed the deadline, ran out of cash, found a buyer, kept the books in black
  nouns: rent rise, housing block, letting agent, office tower, building plot, landlord deal
  events: priced out the tenants, stood empty for months, went to auction, sold above asking price
climate
  shared: cloud, stream, bank, record, model, wave, field, power cut, season, current, target, plant
  surnames: Arkenholt, Brindlow, Coverdusk, Hallimar, Lindovar, Oxenreed, Stillwick, Yarlby
  nouns: heatwave, drought order, dry reservoir, hosepipe ban, summer night, cracked field
  events: broke the july average, lasted nine weeks, emptied the wells, baked the harvest
  nouns: flood wall, storm surge, river bank, washed out bridge, sandbag queue, sea defence
  events: gave way at high tide, soaked the ground floors, rose another metre, cut off the village
  nouns: wind farm, solar roof, heat pump, grid link, battery park, hydro dam
  events: replaced the coal plant, cut the emissions, ran all winter, fed the grid at night
  nouns: carbon target, emissions pledge, green levy, offset scheme, net zero plan, methane rule
  events: got pushed back a decade, fell behind again, needed stricter limits, split the summit
  nouns: peat bog, bird colony, coral bed, bee meadow, kelp forest, otter pond
  events: lost half its species, came back to life, dried out, bleached in one season
  nouns: glacier, snow line, ice road, ski slope, frozen lake, spring thaw
  events: shrank again, melted a month early, vanished by april, thinned to nothing
culture
  shared: record, party, stream, screen, draft, season, model, seat, pitch, set, share, final
  surnames: Belvarro, Chantrix, Dovemarle, Finisk, Jessamond, Marchetta, Quillory, Umberlin
  nouns: gallery show, portrait loan, sculpture garden, museum wing, sketch book, mural
  events: drew a long queue, went back to its heirs, hung upside down, reopened after repairs
  nouns: debut album, choir tour, encore, brass band, vinyl record, festival stage
  events: played to a full hall, went quiet after one hit, hit the wrong note, topped the charts
  nouns: crime novel, poetry prize, library loan, reading group, translated memoir, bookshop corner
  events: made the shortlist, kept me up all night, sold out its first printing, lost the plot
  nouns: puppet theatre, opening night, understudy, stage set, opera chorus, curtain call
  events: forgot the lines, got a standing ovation, closed after a week, moved me to tears
  nouns: short film, box set, subtitled drama, cinema seat, final episode, costume series
  events: ended on a cliffhanger, won the jury, dragged in the middle, got a sequel
  nouns: harvest parade, village dance, folk costume, lantern night, pottery class, old dialect
  events: drew three generations, nearly died out, got taught in schools, filled the square
health
  shared: virus, trial, bug, screen, strike, cell, bench, operation, wave, model, drill, season
  surnames: Averdine, Cottlemay, Ellisgrove, Hestrel, Mendlow, Pallinor, Rookby, Winstry
  nouns: waiting list, ward closure, nurse shortage, casualty queue, hospital bed, night clinic
  events: left patients in corridors, grew by a third, cancelled my operation, got worse over winter
  nouns: flu jab, measles alert, booster dose, stomach bug, vaccine stock, winter virus
  events: spread through the school, made everyone cough, came too late, kept grandma safe
  nouns: therapy app, sleep course, burnout leave, helpline, stress test, grief group
  events: helped me breathe again, had a nine month wait, got me through, missed the warning signs
  nouns: sugar tax, school lunch, salt label, allergy warning, diet plan, vitamin pill
  events: lowered the blood pressure, made no difference, upset the stomach, cut tooth decay
  nouns: hip operation, blood test, scan result, knee brace, cancer screen, eye surgery
  events: caught it early, came back clear, healed in six weeks, went to the wrong patient
  nouns: care home, dementia visit, midwife, hearing aid, home nurse, pharmacy counter
  events: ran short of carers, stayed open at night, eased the pain, forgot the dosage
politics
  shared: race, court, bill, party, seat, draft, bench, charge, deal, final, drill, launch
  surnames: Barnacott, Drummerel, Granduvel, Harkavale, Kettlebrook, Norvane, Sturridan, Vossmer
  nouns: council vote, tram vote, parking zone, ward boundary, town budget, mayor race
  events: passed by one seat, got postponed again, split the chamber, ignored the petition
  nouns: coalition deal, cabinet seat, party leader, snap election, recount, campaign bus
  events: fell apart at dawn, lost the majority, resigned by letter, won the marginal seat
  nouns: border treaty, embassy row, trade talks, peace envoy, sanctions list, summit photo
  events: stalled over one clause, reopened the embassy, ended without a word, recalled the envoy
  nouns: reform bill, court ruling, asylum law, voter roll, draft clause, select committee
  events: went to a second reading, struck down the law, needed two thirds, died in committee
  nouns: leaked memo, expenses claim, lobby dinner, donor list, ethics probe, gift register
  events: forced apologies, broke the ministerial code, named three deputies, reached the prosecutor
  nouns: school reform, teacher budget, exam board, nursery place, student loan, class size
  events: went against the manifesto, became the main pledge, failed the inspection, split the party
science
  shared: trial, cell, field, model, launch, wave, plant, current, bug, record, set, operation
  surnames: Calbrane, Ebbinghall, Ferromay, Isoldrin, Keplowe, Noctavin, Ravenskell, Thessalow
  nouns: star survey, comet flyby, moon lander, radio dish, orbit probe, rover wheel
  events: sent back its first picture, found water ice, lost contact, measured a faint signal
  nouns: gene study, cell culture, protein fold, mouse trial, seed bank, stem line
  events: failed to replicate, mapped the genome, mutated in the dish, passed peer review
  nouns: burial mound, roman coin, bog find, dig site, cave painting, fossil jaw
  events: turned out far older, rewrote the timeline, held a second skull, lay under a car park
  nouns: particle run, quantum sample, laser bench, magnet ring, vacuum chamber, atom clock
  events: confirmed the theory, cooled below one kelvin, drifted by a second, broke a symmetry
  nouns: whale song, bat roost, ant nest, pigeon brain, octopus test, bird ring
  events: learned the maze, used a tool, remembered the route, surprised the biologists
  nouns: research grant, lab closure, phd place, journal paper, field station, retraction
  events: got rejected by reviewers, shared its data, proved the null result, cited the wrong table
sport
  shared: pitch, transfer, court, race, match, season, draft, bench, strike, set, final, record
  surnames: Bolderick, Dashwen, Garrimond, Hurstane, Jollimere, Merriwold, Swanlow, Tacklevane
  nouns: cup tie, penalty, goal keeper, away kit, transfer window, derby
  events: went to extra time, hit the post, kept a clean sheet, got relegated
  nouns: relay squad, marathon, hurdle final, sprint heat, javelin throw, race number
  events: ran its best split, missed the medal, beat the national record, pulled a hamstring
  nouns: tennis court, second serve, doubles pair, tie break, seed draw, ball kid
  events: lost in straight sets, saved match point, argued with the umpire, slipped on the grass
  nouns: mountain stage, time trial, bike change, sprint jersey, team car, gravel climb
  events: crashed on the descent, took the yellow jersey, dropped the favourite, rolled in last
  nouns: ice rink, hockey bench, curling stone, ski jump, power play, goal crease
  events: scored in overtime, fell at the last gate, won the faceoff, got two minutes
  nouns: rowing crew, swim relay, diving board, sailing heat, lane four, regatta
  events: false started, touched the wall first, caught a crab, capsized at the buoy
technology
  shared: cloud, stream, virus, bug, charge, screen, cell, model, share, launch, operation, match
  surnames: Bexholm, Circuven, Dorrimer, Glenvarry, Larkovar, Pomerill, Solderby, Zenmark
  nouns: phone update, cracked screen, charger, battery life, foldable, app store
  events: drained by noon, bricked my handset, froze on the login, needed a reboot
  nouns: chat bot, language model, image tool, voice clone, training set, smart search
  events: made up a source, wrote my homework, passed the benchmark, copied the artists
  nouns: data leak, password reset, phishing mail, ransom note, login code, software virus
  events: exposed the accounts, locked us out, got patched on friday, encrypted the server
  nouns: cloud outage, server farm, fibre line, router, mobile mast, broadband deal
  events: went down for hours, dropped every call, slowed to a crawl, came back at midnight
  nouns: delivery robot, self driving van, drone trial, smart lock, sensor kit, chip plant
  events: missed the kerb, got stuck in a loop, misread the sign, shipped without firmware
  nouns: photo feed, short video app, friend request, group chat, comment filter, ad tracker
  events: banned my account, pushed junk to kids, sold the profile data, hid the settings
"""

_OPENERS: Final = (
    "honestly",
    "tbh",
    "ngl",
    "folks,",
    "well well,",
    "so",
    "look,",
    "wow,",
    "right then:",
    "hot take:",
    "my gran says",
    "heard at the bus stop:",
    "called it:",
    "same old story,",
    "not gonna lie,",
    "dear editor,",
    "friends,",
    "sorry but",
    "big if true:",
    "oh great,",
    "unpopular opinion:",
    "for what it's worth,",
    "hm,",
    "cheers,",
)
_CLOSERS: Final = (
    "smh",
    "lol",
    "just saying",
    "what a week",
    "who is surprised",
    "thanks for reporting this",
    "more of this please",
    "enough already",
    "and nobody asked us",
    "not in my name",
    "we deserve better",
    "good on them",
    "let that sink in",
    "cannot make it up",
    "time will tell",
    "fair play",
    "about time too",
    "my neighbours agree",
    "see you next week",
    "kids these days",
    "proud of my town",
    "what a mess",
    "anyone else",
    "and the coffee was cold",
)
_NEUTRAL_EVENTS: Final = (
    "went wrong again",
    "is all anyone talks about",
    "cost more than promised",
    "came out of nowhere",
    "made the front page",
    "worked out in the end",
    "started a row at dinner",
    "got people talking",
    "turned into a circus",
    "took far too long",
    "was bound to happen",
    "changed everything",
)
_CHATTER: Final = (
    "still waiting for my paper by the way",
    "the crossword was too easy today",
    "missed the bus over this",
    "typing this on my lunch break",
    "my dog barked all through it",
    "first comment here so be kind",
    "your comment section never loads",
    "wrote the same last year",
    "the photo is lovely though",
    "reading this from the ferry",
    "someone fix the headline",
    "put the kettle on",
)
_PLACES: Final = (
    "Oldermoor",
    "Brackwell",
    "Fennport",
    "Quillhaven",
    "Marrowby",
    "Duskford",
    "Saltrick",
    "Pellbridge",
    "Ostermere",
    "Vantry Hill",
    "Lowmarch",
    "Cinderwick",
    "Gannetsea",
    "Thornquay",
    "Merrowdale",
    "Tollan Bay",
)

# {o} opener, {x} noun, {y} event, {z} a noun of another topic, {w} an event of another topic,
# {s} a shared word, {n} surname, {p} place, {v} neutral event, {c} closer, {t} chatter.
_FRAMES: Final = {
    "plain": (
        "{o} the {x} {y} and {n} saw it coming {c}",
        "{n} on the {x}: it {y}, {c}",
        "{o} in {p} the {x} {y} {c}",
        "{t}, and the {x} {y}, says {n}",
        "{o} {s} and the {x}, both {y}? {c}",
        "when the {x} {y} {n} had nothing to say {c}",
    ),
    "crossed": (
        "forget the {z}, {n} knows the {x} {v} {c}",
        "{o} while {p} argues about the {z} the {x} {v}",
        "first the {z} {w}, now {n} says {s} {y} {c}",
        "{n} should leave the {z} alone, {s} {y} {c}",
        "{o} the {x} {v}, just like the {z} when it {w}",
        "never mind that the {z} {w}, {s} {y} here in {p}",
        "{o} {s} {y}, unlike the {z} {n} is on about",
    ),
    "faint": (
        "{o} {s} {v} and {n} knew, {t}",
        "{t}, but {n} and {s} {v} {c}",
        "{o} {s} {y}, {t} {c}",
        "{p} again: {s} {v}, ask {n} about the {x}",
        "{n} was right about {s}, it {v}, {t}",
        "{o} one more word on {s} from {n}, it {y}",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic's own words.

    Attributes:
        shared: nouns that other topics claim too.
        surnames: people who belong to this topic.
        beats: its corners.
    """

    shared: tuple[str, ...]
    surnames: tuple[str, ...]
    beats: tuple[Beat, ...]


def _parse_topic(block: str) -> tuple[str, Topic]:
    name, *lines = block.splitlines()
    rows = [tuple(line.split(":")[1].strip().split(", ")) for line in lines]
    shared, surnames, *beats = rows
    pairs = zip(beats[::2], beats[1::2], strict=True)
    return name, Topic(
        shared=shared,
        surnames=surnames,
        beats=tuple(Beat(nouns=nouns, events=events) for nouns, events in pairs),
    )


_TOPICS: Final = dict(_parse_topic(block) for block in re.split(r"\n(?=\w)", _WORDS.strip()))
TOPICS: Final = tuple(_TOPICS)


@dataclass(frozen=True, kw_only=True)
class Voice:
    """The words that one outlet and its readers use: its dialect.

    Attributes:
        beats: the beats that the outlet covers, for each topic.
        surnames: the people whom it names, for each topic.
        openers, closers, places: its turns of phrase and neighbourhood.
    """

    beats: dict[str, tuple[Beat, ...]]
    surnames: dict[str, tuple[str, ...]]
    openers: tuple[str, ...]
    closers: tuple[str, ...]
    places: tuple[str, ...]


# The whole language, spoken by no single outlet: what a public held-out set is drawn from.
EVERY_VOICE: Final = Voice(
    beats={name: topic.beats for name, topic in _TOPICS.items()},
    surnames={name: topic.surnames for name, topic in _TOPICS.items()},
    openers=_OPENERS,
    closers=_CLOSERS,
    places=_PLACES,
)


def _some(rng: random.Random, words: Sequence[str]) -> tuple[str, ...]:
    return tuple(rng.sample(words, round(_WORDS_OF_AN_OUTLET * len(words))))


def draw_voice(rng: random.Random) -> Voice:
    """Draws an outlet's dialect: half of all beats and three fifths of all other words.

    Args:
        rng: the outlet's generator; it is advanced.

    Returns:
        A voice that shares words with every other outlet's and misses some that others use.
    """
    return Voice(
        beats={
            name: tuple(rng.sample(topic.beats, _BEATS_OF_AN_OUTLET))
            for name, topic in _TOPICS.items()
        },
        surnames={name: _some(rng, topic.surnames) for name, topic in _TOPICS.items()},
        openers=_some(rng, _OPENERS),
        closers=_some(rng, _CLOSERS),
        places=_some(rng, _PLACES),
    )


def _misspell(rng: random.Random, text: str) -> str:
    """Doubles or swaps inner letters of one long word; a dropped one could spell a rude word."""
    words = text.split(" ")
    at = rng.randrange(len(words))
    word = words[at]
    if len(word) >= 6 and word.isalpha():
        i = rng.randrange(2, len(word) - 2)
        doubled = word[:i] + word[i] + word[i:]
        swapped = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        words[at] = doubled if rng.random() < 0.5 else swapped
    return " ".join(words)


def _fill(rng: random.Random, frame: str, *, topic: str, beat: Beat, voice: Voice) -> str:
    other = rng.choice([name for name in TOPICS if name != topic])
    aside = rng.choice(voice.beats[other])
    named = topic if rng.random() < _OWN_SURNAME else other
    return frame.format(
        o=rng.choice(voice.openers),
        x=rng.choice(beat.nouns),
        y=rng.choice(beat.events),
        z=rng.choice(aside.nouns),
        w=rng.choice(aside.events),
        s="the " + rng.choice(_TOPICS[topic].shared),
        n=rng.choice(voice.surnames[named]),
        p=rng.choice(voice.places),
        v=rng.choice(_NEUTRAL_EVENTS),
        c=rng.choice(voice.closers),
        t=rng.choice(_CHATTER),
    )


def write_comment(rng: random.Random, *, topic: str, beat: Beat, voice: Voice) -> str:
    """Writes one reader's comment.

    Args:
        rng: the reader's generator; it is advanced.
        topic: what the comment is about, one of `TOPICS`.
        beat: the corner of the topic that it is about.
        voice: the dialect it is written in.

    Returns:
        A text of `MIN_WORDS` to `MAX_WORDS` words.
    """
    draw = rng.random()
    kind = "plain" if draw < _PLAIN else "crossed" if draw < _PLAIN + _CROSSED else "faint"
    text = _fill(rng, rng.choice(_FRAMES[kind]), topic=topic, beat=beat, voice=voice)
    while not MIN_WORDS <= len(text.split()) <= MAX_WORDS:
        text = _fill(rng, rng.choice(_FRAMES[kind]), topic=topic, beat=beat, voice=voice)
    return _misspell(rng, text) if rng.random() < _TYPO else text
