"""What AllButTheTop leaves of vectors."""

import torch
from my_lab.postprocess import AllButTheTop


def test_the_mean_and_the_largest_direction_are_gone() -> None:
    large_H = torch.nn.functional.normalize(torch.randn(8), dim=0)
    vectors_NH = torch.randn(50, 8) + 100 * torch.randn(50, 1) * large_H + 5
    moved_NH = AllButTheTop(directions=1)(vectors_NH)(vectors_NH)
    torch.testing.assert_close(moved_NH.mean(0), torch.zeros(8), rtol=0, atol=1e-3)
    assert (moved_NH @ large_H).abs().max() < 5
