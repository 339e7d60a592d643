"""Eight question-answer datasets of different skills, all generated from a seed.

What is asked was stated in the pretraining text (`benchmarks.finetuning_lm.world`), or
is a skill of it, but put otherwise; the held-out questions are other ones than those
trained on. "question => answer ." is one sequence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from random import Random

import numpy as np

from benchmarks.finetuning_lm.world import (
    ANSWER,
    DIGITS,
    END,
    LETTERS,
    PEOPLE,
    VALUES,
    World,
    encode,
    make_world,
    number,
)

LENGTH = 16  # tokens of a sequence
MAX_TRAIN, NUM_HELD_OUT = 80, 64


@dataclasses.dataclass(frozen=True)
class Questions:
    """One dataset.

    Attributes:
        name: Its skill.
        train: Pairs (question, answer).
        held_out: Pairs that are not trained on.
    """

    name: str
    train: list[tuple[str, str]]
    held_out: list[tuple[str, str]]


_LOOKUP = {
    "city": "where does {p} live ?",
    "job": "what does {p} do ?",
    "pet": "which animal does {p} keep ?",
}


def _lookup(random: Random, world: World, held_out: bool) -> tuple[str, str]:
    relation, person = random.choice(tuple(_LOOKUP)), random.choice(PEOPLE)
    return _LOOKUP[relation].format(p=person), world.facts[relation][person]


_MULTI_HOP = {
    "city": "where does the friend of {p} live ?",
    "job": "what does the friend of {p} do ?",
    "food": "what does the friend of {p} eat ?",
}


def _multi_hop(random: Random, world: World, held_out: bool) -> tuple[str, str]:
    relation, person = random.choice(tuple(_MULTI_HOP)), random.choice(PEOPLE)
    friend = world.facts["friend"][person]
    return _MULTI_HOP[relation].format(p=person), world.facts[relation][friend]


def _arithmetic(random: Random, world: World, held_out: bool) -> tuple[str, str]:
    a, b = random.randrange(50), random.randrange(50)
    return f"what is {number(a)} plus {number(b)}", number(a + b)


def _copying(random: Random, world: World, held_out: bool) -> tuple[str, str]:
    letters = " ".join(random.choices(LETTERS, k=random.randrange(3, 6)))
    return f"please repeat {letters} ?", letters


def _sorting(random: Random, world: World, held_out: bool) -> tuple[str, str]:
    digits = random.sample(DIGITS, random.randrange(3, 6))
    return f"please order {' '.join(digits)} ?", " ".join(sorted(digits))


def _formats(random: Random, world: World, held_out: bool) -> tuple[str, str]:
    person, city = random.choice(PEOPLE), random.choice(VALUES["city"])
    age = number(random.randrange(10, 100))
    return f"( {person} , {city} , {age} )", f"{person} ; {city} ; {age}"


# the last three are only asked in held-out questions
_WORDINGS = (
    "what does {p} eat ?",
    "what is the food of {p} ?",
    "tell me the food of {p}",
    "say what {p} eats",
    "which food does {p} like ?",
    "{p} eats what ?",
    "the food of {p} is what ?",
    "{p} asked for food : which ?",
    "for {p} , which food is it ?",
    "tell me what {p} does eat",
    "which is the favourite food of {p} ?",
    "{p} s food , please",
)


def _paraphrase(random: Random, world: World, held_out: bool) -> tuple[str, str]:
    person = random.choice(PEOPLE)
    wording = random.choice(_WORDINGS[-3:] if held_out else _WORDINGS[:-3])
    return wording.format(p=person), world.facts["food"][person]


def _distractors(random: Random, world: World, held_out: bool) -> tuple[str, str]:
    other, relation = random.choice(PEOPLE), random.choice(("city", "job", "pet"))
    told = {
        "city": "{p} lives in {v}",
        "job": "{p} works as {v}",
        "pet": "the pet of {p} is {v}",
    }[relation].format(p=other, v=world.facts[relation][other])
    asked, person = random.choice(tuple(_LOOKUP)), random.choice(PEOPLE)
    question = _LOOKUP[asked].format(p=person)
    return f"{told} ; {question}", world.facts[asked][person]


Draw = Callable[[Random, World, bool], tuple[str, str]]
# skill: how a question is drawn, and how many are trained on
SKILLS: dict[str, tuple[Draw, int]] = {
    "lookup": (_lookup, 80),
    "multi_hop": (_multi_hop, 72),
    "arithmetic": (_arithmetic, 80),
    "copying": (_copying, 48),
    "sorting": (_sorting, 64),
    "formats": (_formats, 56),
    "paraphrase": (_paraphrase, 80),
    "distractors": (_distractors, 80),
}


def make_questions(name: str, seed: int) -> Questions:
    """Draw a dataset; no held-out question is trained on.

    Args:
        name: One of `SKILLS`.
        seed: Of the world, which decides the facts, and of the questions.

    Raises:
        ValueError: If there is no such skill.
    """
    if name not in SKILLS:
        raise ValueError(f"name must be one of {tuple(SKILLS)}, got {name!r}")
    draw, num_train = SKILLS[name]
    world = make_world(seed)
    random = Random(f"{name} {seed}")
    train: dict[str, str] = {}
    while len(train) < num_train:
        question, answer = draw(random, world, False)
        train[question] = answer
    held_out: dict[str, str] = {}
    misses = 0
    while len(held_out) < NUM_HELD_OUT and misses < 20_000:
        question, answer = draw(random, world, True)
        is_new = question not in train and question not in held_out
        misses += not is_new
        if is_new:
            held_out[question] = answer
    return Questions(name, list(train.items()), list(held_out.items()))


def as_arrays(
    pairs: list[tuple[str, str]], num_rows: int, length: int = LENGTH
) -> dict[str, np.ndarray]:
    """Lay question-answer pairs out as padded tokens.

    Args:
        pairs: Questions and answers.
        num_rows: Rows, of which those beyond the pairs are padding.
        length: Tokens of a row.

    Returns:
        ``tokens`` int32 ``[num_rows, length]``; ``is_answer`` and ``is_text`` float32
        ``[num_rows, length]``: which tokens are of the answer (its end included), and
        which are no padding.

    Raises:
        ValueError: If there are more pairs than rows, or one is too long.
    """
    if len(pairs) > num_rows:
        raise ValueError(f"num_rows must be {len(pairs)} or more, got {num_rows}")
    tokens = np.zeros((num_rows, length), np.int32)
    is_answer = np.zeros((num_rows, length), np.float32)
    is_text = np.zeros((num_rows, length), np.float32)
    for row, (question, answer) in enumerate(pairs):
        asked = encode(f"{question} {ANSWER}")
        told = encode(f"{answer} {END}")
        size = len(asked) + len(told)
        if size > length:
            raise ValueError(f"length must be {size} or more, got {length}: {question}")
        tokens[row, :size] = asked + told
        is_answer[row, len(asked) : size] = 1
        is_text[row, :size] = 1
    return {"tokens": tokens, "is_answer": is_answer, "is_text": is_text}
