"""The term passes the checks that every term must pass."""

from functools import partial

from my_lab.terms import Memory

from simcse_lit.testing import check_term


def test_memory() -> None:
    check_term(partial(Memory, size=10, temperature=0.05))  # 10 keys: the third batch of 4 overwrites the oldest
