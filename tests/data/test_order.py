"""The order of training: the same global batches for one process or many, and after a run was resumed."""

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from simcse_lit.data.order import RankBatches
from simcse_lit.text.corpus import EpochOrder


def batches(
    examples: int, batch_size: int, *, rank: int = 0, processes: int = 1, done: int = 0, drop_last: bool = False
) -> RankBatches:
    order = EpochOrder(examples, seed=3)
    return RankBatches(order, batch_size, drop_last=drop_last, rank=rank, processes=processes, done=done)


def epoch(loader: RankBatches, number: int) -> list[list[int]]:
    loader.sampler.set_epoch(number)
    return list(loader)


@given(share=st.integers(1, 5), processes=st.integers(1, 4), examples=st.integers(20, 70), drop_last=st.booleans())
def test_parts_of_all_ranks_make_the_batch_of_one_process(
    share: int, processes: int, examples: int, drop_last: bool
) -> None:
    size = share * processes
    whole = epoch(batches(examples, size, drop_last=drop_last), 1)
    loaders = [batches(examples, size, rank=r, processes=processes, drop_last=drop_last) for r in range(processes)]
    parts = [epoch(loader, 1) for loader in loaders]
    joined = [list(chain(*rows)) for rows in zip(*parts, strict=True)]
    assert [len(rank) for rank in parts] == [len(loaders[0])] * processes
    full = examples // size
    assert joined[:full] == whole[:full]
    assert all(len({len(part) for part in rows}) == 1 for rows in zip(*parts, strict=True))
    left_out = sum(map(len, whole)) - sum(map(len, joined))
    assert 0 <= left_out < processes
    assert sum(map(len, joined)) - full * size == loaders[0].rest


@given(done=st.integers(0, 30), drop_last=st.booleans())
def test_a_resumed_run_sees_the_batches_that_were_left(done: int, drop_last: bool) -> None:
    straight = [batch for number in range(9) for batch in epoch(batches(23, 4, drop_last=drop_last), number)]
    resumed = batches(23, 4, drop_last=drop_last, done=done)
    first = list(resumed)  # Lightning opens the first iterator before it says which epoch it is
    start = done // len(resumed)
    assert epoch(resumed, start) == first
    assert first + [batch for number in range(start + 1, 9) for batch in epoch(resumed, number)] == straight[done:]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(EpochOrder(50, seed, number)) for seed in range(3) for number in range(3)}
    assert len(orders) == 9 and all(sorted(order) == list(range(50)) for order in orders)
