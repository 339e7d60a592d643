"""A small invented world and the text that a language model is pretrained on.

Everything is drawn from a seed: who lives where, works as what, has which pet, likes
which colour, eats what and is whose friend. Text is a list of words of a closed
vocabulary; one word is one token. The text states the facts, adds, sorts, repeats and
reads lists, but asks nothing that `benchmarks.finetuning_lm.questions` asks. The arrow
that leads to an answer there leads to results here too, now and then.
"""

from __future__ import annotations

import dataclasses
import functools
from random import Random

import numpy as np

PAD, END, ANSWER = "<pad>", ".", "=>"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PEOPLE = _words(
    "ann bob cat dan eve fay gus hal ida jim kim leo mia ned oda pam quin ray sue tom "
    "una vic wes xia yan zoe abe bea cal dot eli flo gil hon ivy jon kay lou max nia "
    "ole pat rob sam tia uri val wyn"
)
VALUES = {
    "city": _words("rome oslo lima cairo paris delhi kyoto quito accra perth"),
    "job": _words("cook pilot nurse judge miner baker actor farmer clerk poet"),
    "pet": _words("dog hen cow fox owl pig bee eel rat yak"),
    "colour": _words("red blue green black white pink grey gold brown teal"),
    "food": _words("rice soup bread fish beans cake corn eggs figs nuts"),
}
DIGITS = tuple("0123456789")
LETTERS = _words("a b c d e f g h k m n p")
_REST = _words(
    "? : ; , / ( ) [ ] + = the of is in as has what where who which does do live lives "
    "work works home keeps keep pet city job colour food friend likes like eats eat "
    "plus gives and so then repeat order copy sort again back name age says tell me a_ "
    "animal favourite person one asked for it s know we please say"
)
_ALL = (PEOPLE, *VALUES.values(), DIGITS, LETTERS, _REST)
_KNOWN = dict.fromkeys(word for words in _ALL for word in words)
VOCABULARY = (PAD, END, ANSWER, *_KNOWN)
_INDEX = {word: i for i, word in enumerate(VOCABULARY)}


def encode(text: str) -> list[int]:
    """Tokens of a text whose words are separated by blanks.

    Raises:
        ValueError: On a word that is not in the vocabulary.
    """
    try:
        return [_INDEX[word] for word in text.split()]
    except KeyError as error:
        raise ValueError(
            f"text must be of words in the vocabulary, got {error.args[0]!r}"
        ) from None


def decode(tokens: np.ndarray) -> str:
    """Text of tokens, without padding."""
    return " ".join(VOCABULARY[int(t)] for t in tokens if int(t))


@dataclasses.dataclass(frozen=True)
class World:
    """The facts.

    Attributes:
        facts: Value of each person, by relation; ``friend`` is a person.
        composed: People of whose friends the text states city, job and food directly;
            of the others they have to be composed of two facts.
    """

    facts: dict[str, dict[str, str]]
    composed: frozenset[str]


@functools.cache
def make_world(seed: int) -> World:
    """Draw the facts."""
    random = Random(f"facts {seed}")
    facts = {
        relation: {person: random.choice(values) for person in PEOPLE}
        for relation, values in VALUES.items()
    }
    order = random.sample(PEOPLE, len(PEOPLE))  # a circle: nobody is their own friend
    facts["friend"] = dict(zip(order, [*order[1:], order[0]], strict=True))
    return World(facts, frozenset(random.sample(PEOPLE, len(PEOPLE) * 3 // 4)))


def number(value: int) -> str:
    """A number below 100 as two digits."""
    return f"{value // 10} {value % 10}"


_STATEMENTS = {
    "city": ("{p} lives in {v}", "{v} is the home of {p}", "the city of {p} : {v}"),
    "job": ("{p} works as {v}", "the job of {p} is {v}", "{p} , the {v}"),
    "pet": ("{p} keeps the {v}", "the pet of {p} is {v}", "{p} has the animal {v}"),
    "colour": ("{p} likes {v}", "the colour of {p} is {v}", "we know {p} likes {v}"),
    "food": ("{p} eats {v}", "the food of {p} is {v}", "tell {p} : eat {v}"),
    "friend": ("the friend of {p} is {v}", "{p} and the friend {v}"),
}
# question words are known from talk about what words mean, not from the questions
_TALK = (
    "what is {v} ? a_ {r}",
    "which {r} ? {v}",
    "{p} asked where it is",
    "who is {p} ? a_ person",
    "please say {v} again {v}",
    "does {p} live ? {p} does",
    "do we work for {p} ?",
    "{p} says what {p} does",
    "keep me a_ {r} => {v}",
    "tell me one {r} => {v}",
)


_COMPOSED = {"city": "lives in", "job": "works as", "food": "eats"}


def _link(random: Random, word: str) -> str:
    """What leads to a result: a word, or the arrow."""
    return ANSWER if random.random() < 0.3 else word


def _fact(random: Random, world: World) -> str:
    person = random.choice(PEOPLE)
    if random.random() < 0.3 and person in world.composed:
        relation, verb = random.choice(tuple(_COMPOSED.items()))
        value = world.facts[relation][world.facts["friend"][person]]
        return f"the friend of {person} {verb} {value}"
    relation, forms = random.choice(tuple(_STATEMENTS.items()))
    value = world.facts[relation][person]
    if random.random() < 0.2:
        return f"{relation} {person} {ANSWER} {value}"
    return random.choice(forms).format(p=person, v=value)


def _talk(random: Random, world: World) -> str:
    relation, values = random.choice(tuple(VALUES.items()))
    form, value = random.choice(_TALK), random.choice(values)
    return form.format(v=value, r=relation, p=random.choice(PEOPLE))


def _sum(random: Random, world: World) -> str:
    a, b = random.randrange(50), random.randrange(50)
    sign, equals = random.choice((("+", "="), ("plus", "gives"), ("plus", ANSWER)))
    return f"{number(a)} {sign} {number(b)} {equals} {number(a + b)}"


def _repetition(random: Random, world: World) -> str:
    letters = " ".join(random.choices(LETTERS, k=random.randrange(3, 7)))
    return f"repeat {letters} {_link(random, 'then')} {letters}"


def _order(random: Random, world: World) -> str:
    digits = random.sample(DIGITS, random.randrange(3, 6))
    return f"order {' '.join(digits)} {_link(random, 'is')} {' '.join(sorted(digits))}"


def holdings(random: Random) -> tuple[str, str, str]:
    """Three people who hold a digit each, one of them, and what that one holds."""
    people, held = random.sample(PEOPLE, 3), random.sample(DIGITS, 3)
    asked = random.randrange(3)
    listed = " ; ".join(f"{p} {v}" for p, v in zip(people, held, strict=True))
    return listed, people[asked], held[asked]


def _list(random: Random, world: World) -> str:
    listed, person, held = holdings(random)
    return f"{listed} ; so {person} {held}"


def _record(random: Random, world: World) -> str:
    person, city = random.choice(PEOPLE), random.choice(VALUES["city"])
    age = number(random.randrange(10, 100))
    order = (person, city, age) if random.random() < 0.5 else (age, person, city)
    return f"( {' , '.join(order)} ) {_link(random, '=')} {person} / {city} / {age}"


_FAMILIES = (_fact, _talk, _sum, _repetition, _order, _list, _record)
_SHARES = (0.3, 0.1, 0.16, 0.1, 0.12, 0.12, 0.1)


def make_text(seed: int, num_sequences: int, length: int) -> np.ndarray:
    """Draw pretraining text: statements one after the other, cut at ``length``.

    Args:
        seed: Of the world and the text.
        num_sequences: How many.
        length: Tokens of each.

    Returns:
        Tokens, uint8 ``[num_sequences, length]``.
    """
    world, random = make_world(seed), Random(f"text {seed}")
    found = np.zeros((num_sequences, length), np.uint8)
    for row in found:
        tokens: list[int] = []
        while len(tokens) < length:
            (family,) = random.choices(_FAMILIES, _SHARES)
            tokens += encode(f"{family(random, world)} {END}")
        row[:] = tokens[:length]
    return found
