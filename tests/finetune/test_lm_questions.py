"""The generated world, its text and the eight question-answer datasets."""

import numpy as np
import pytest

from benchmarks.finetuning_lm.questions import (
    LENGTH,
    MAX_TRAIN,
    NUM_HELD_OUT,
    SKILLS,
    as_arrays,
    make_questions,
)
from benchmarks.finetuning_lm.world import (
    PEOPLE,
    VOCABULARY,
    decode,
    encode,
    make_text,
    make_world,
)

WORLD = make_world(0)
ALL = {name: make_questions(name, 0) for name in SKILLS}


GOLDEN = {
    "lookup": ("where does wyn live ?", "accra"),
    "multi_hop": ("where does the friend of ivy live ?", "lima"),
    "arithmetic": ("what is 3 9 plus 1 9", "5 8"),
    "copying": ("please repeat a a n e ?", "a a n e"),
    "sorting": ("please order 0 5 2 9 ?", "0 2 5 9"),
    "formats": ("( yan , paris , 5 2 )", "yan ; paris ; 5 2"),
    "paraphrase": ("which food does hon like ?", "nuts"),
    "distractors": ("the pet of cat is rat ; which animal does oda keep ?", "cow"),
}
RELATIONS = {"live": "city", "do": "job", "keep": "pet"}


def pairs(name):
    return [*ALL[name].train, *ALL[name].held_out]


def test_each_dataset_is_whole_and_fits_its_arrays():
    for name, questions in ALL.items():
        assert 0 < len(questions.train) <= MAX_TRAIN
        assert len(questions.held_out) == NUM_HELD_OUT
        asked = [q for q, _ in questions.train]
        assert not {q for q, _ in questions.held_out} & set(asked), name
        assert len(set(asked)) == len(asked)
        rows = as_arrays(questions.train, MAX_TRAIN)
        assert rows["tokens"].shape == (MAX_TRAIN, LENGTH)
        question, answer = questions.train[0]
        assert decode(rows["tokens"][0]) == f"{question} => {answer} ."
        told = rows["tokens"][0] * rows["is_answer"][0].astype(int)
        assert decode(told[told > 0]) == f"{answer} ."
        assert rows["is_text"][len(asked) :].sum() == 0


def test_sums_are_right():
    for question, answer in pairs("arithmetic"):
        words = question.removeprefix("what is ").split(" plus ")
        a, b = (int(word.replace(" ", "")) for word in words)
        assert int(answer.replace(" ", "")) == a + b


def test_copies_and_orders_are_right():
    for question, answer in pairs("copying"):
        assert question == f"please repeat {answer} ?"
    for question, answer in pairs("sorting"):
        digits = question.removeprefix("please order ").removesuffix(" ?").split()
        assert answer.split() == sorted(digits) and len(set(digits)) == len(digits)


def test_facts_are_those_of_the_world():
    person_of = {word: word for word in PEOPLE}
    for question, answer in pairs("lookup"):
        (person,) = {person_of[w] for w in question.split() if w in person_of}
        assert answer == WORLD.facts[RELATIONS[question.split()[-2]]][person]
    for question, answer in pairs("multi_hop"):
        friend = WORLD.facts["friend"][question.split()[-3]]
        relation = {"live": "city", "do": "job", "eat": "food"}
        assert answer == WORLD.facts[relation[question.split()[-2]]][friend]
    for question, answer in pairs("paraphrase"):
        (person,) = {w for w in question.split() if w in person_of}
        assert answer == WORLD.facts["food"][person]


def test_paraphrases_hold_out_wordings():
    def wordings(rows):
        return {" ".join(w for w in q.split() if w not in PEOPLE) for q, _ in rows}

    questions = ALL["paraphrase"]
    assert len(wordings(questions.held_out)) == 3
    assert not wordings(questions.held_out) & wordings(questions.train)


def test_distractors_are_true_and_beside_the_question():
    for question, answer in pairs("distractors"):
        told, asked = question.split(" ; ")
        (person,) = {w for w in asked.split() if w in PEOPLE}
        assert answer == WORLD.facts[RELATIONS[asked.split()[-2]]][person]
        (other,) = {w for w in told.split() if w in PEOPLE}
        facts = {WORLD.facts[relation][other] for relation in RELATIONS.values()}
        assert facts & set(told.split())


def test_formats_keep_what_they_rewrite():
    for question, answer in pairs("formats"):
        assert question == f"( {answer.replace(' ; ', ' , ')} )"


def test_golden_questions():
    """The seed decides everything, on any platform."""
    assert {name: q.train[0] for name, q in ALL.items()} == GOLDEN
    assert ALL["lookup"].train == make_questions("lookup", 0).train
    assert ALL["lookup"].train != make_questions("lookup", 1).train


def test_friends_form_one_circle():
    person, seen = PEOPLE[0], []
    while person not in seen:
        seen.append(person)
        person = WORLD.facts["friend"][person]
    assert len(seen) == len(PEOPLE)


def test_text_states_facts_and_asks_none_of_the_questions():
    text = make_text(0, 3000, 16)
    assert text.shape == (3000, 16) and text.dtype == np.uint8
    assert text.max() < len(VOCABULARY)
    lines = "\n".join(decode(row) for row in text)
    person = PEOPLE[0]
    assert f"{person} lives in {WORLD.facts['city'][person]}" in lines
    for questions in ALL.values():
        assert not any(question in lines for question, _ in questions.held_out)
    for first, second in (("repeat", "then"), ("order", "is")):
        for line in lines.split("\n"):
            for part in line.split(" . "):
                if part.startswith(first) and line.endswith(" .") and second in part:
                    left, right = part.removeprefix(f"{first} ").split(f" {second} ")
                    right = right.removesuffix(" .").split()
                    wanted = left.split()
                    assert right == (sorted(wanted) if first == "order" else wanted)
    np.testing.assert_array_equal(text[:5], make_text(0, 5, 16))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="got 'paris-dakar'"):
        encode("ann lives in paris-dakar")
    with pytest.raises(ValueError, match=r"name must be one of .* got 'poetry'"):
        make_questions("poetry", 0)
    with pytest.raises(ValueError, match="num_rows must be 2 or more, got 1"):
        as_arrays([("what is red ?", "a_ colour")] * 2, 1)
    with pytest.raises(ValueError, match="length must be 8 or more, got 7"):
        as_arrays([("what is red ?", "a_ colour")], 1, 7)
