"""VQAv2's scores equal a loop that leaves each annotator out; answers that mean the same are compared as the same."""

from random import Random

import pytest

from flip.transfer.answers import normal, soft_scores


def by_loop(answer: str, answers: list[str]) -> float:
    found = []
    for left_out in range(len(answers)):
        others = [one for place, one in enumerate(answers) if place != left_out]
        found.append(min(sum(one == answer for one in others) / 3, 1))
    return sum(found) / len(found)


def test_scores_equal_a_loop_that_leaves_each_annotator_out():
    random = Random(0)
    for annotators in (2, 3, 5, 10):
        for _ in range(20):
            answers = [random.choice(("red", "blue", "green", "dark red")) for _ in range(annotators)]
            found = soft_scores(answers)
            assert found == pytest.approx({answer: by_loop(answer, answers) for answer in set(answers)})


def test_of_ten_annotators_four_make_an_answer_right():
    worth = [soft_scores(["red"] * count + ["blue"] * (10 - count))["red"] for count in range(1, 11)]
    assert worth == pytest.approx([0.3, 0.6, 0.9] + [1] * 7)
    assert soft_scores(["no"]) == {"no": 1}


@pytest.mark.parametrize(
    ("said", "compared"),
    [
        (" The Red\tball ", "red ball"),
        ("an apple, a pear", "apple pear"),
        ("two", "2"),
        ("none", "0"),
        ("1,000", "1000"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("t-shirt", "t shirt"),
        ("yes!", "yes"),
        ("u.s.a.", "usa"),
        ("2.5", "2.5"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("it's 5 o'clock", "it's 5 o'clock"),
        ("oclock", "o'clock"),
        ("well", "well"),
    ],
)
def test_answers_are_made_alike(said, compared):
    assert normal(said) == compared
