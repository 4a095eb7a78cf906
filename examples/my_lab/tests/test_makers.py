"""What Repetition makes of token ids."""

from random import Random

from my_lab.makers import Repetition


def test_tokens_are_repeated_in_their_place() -> None:
    ids = list(range(100, 110))
    for seed in range(50):
        changed = Repetition(0.5)(ids, Random(seed))
        assert sorted(set(changed)) == ids  # no token is lost, and none is new
        assert changed == sorted(changed)  # the order stays
        assert 10 <= len(changed) <= 15


def test_the_generator_decides_every_draw() -> None:
    first, second = (Repetition(0.5)(list(range(20)), Random(7)) for _ in range(2))
    assert first == second
