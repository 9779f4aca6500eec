"""What can be read of a tensor: its first elements, its numbers, and whether float16 has lost them."""

from __future__ import annotations

import torch

from gradcheck_lint.runtime.reading import PIECE, beginning, equal, local, lost_bits, piece, piece_of_gradient, plain


def test_pieces_are_the_first_elements_in_any_layout() -> None:
    image = torch.arange(16 * 8 * 3 * 3, dtype=torch.float32).view(16, 8, 3, 3)
    other = image.to(memory_format=torch.channels_last)
    assert piece(image).tolist() == piece(other).tolist() == list(map(float, range(PIECE)))
    assert piece(torch.tensor(3.0)).tolist() == [3.0]
    assert piece(torch.zeros(2, dtype=torch.complex64)).shape == (4,)
    assert piece(image[4:]).tolist() == piece(other[4:]).tolist() == [float(4 * 72 + number) for number in range(PIECE)]


def test_piece_of_a_gradient_is_where_the_piece_of_its_parameter_is() -> None:
    weight = torch.zeros(20, 30, requires_grad=True)
    like = piece(weight.detach())
    assert piece_of_gradient(weight, like).tolist() == [0.0] * PIECE
    weight.grad = torch.arange(600.0).view(20, 30)
    assert piece_of_gradient(weight, like).tolist() == list(map(float, range(PIECE)))
    assert piece_of_gradient(weight, like.half()).dtype is torch.float16
    weight.grad = weight.grad.to_sparse()
    assert piece_of_gradient(weight, like).tolist() == [0.0] * PIECE


def test_local_has_each_place_of_a_sparse_tensor_once() -> None:
    twice = torch.sparse_coo_tensor(torch.tensor([[1, 1]]), torch.tensor([2.0, 3.0]), (4,), check_invariants=True)
    assert local(twice).tolist() == [5.0]
    values = plain(twice)
    assert values is not None
    assert values.tolist() == [2.0, 3.0]
    assert not local(torch.ones(2, requires_grad=True)).requires_grad


def test_plain_has_nothing_of_what_has_no_values() -> None:
    assert plain(torch.zeros(3, device="meta")) is None
    assert plain(torch.zeros(0)) is None
    assert plain(torch.zeros(3, dtype=torch.int64)) is None
    sparse = plain(torch.eye(3).to_sparse())
    assert sparse is not None
    assert sparse.tolist() == [1.0, 1.0, 1.0]


def test_what_has_no_memory_any_more_is_not_read() -> None:
    """FSDP leaves such tensors behind; to read one ends the process."""
    weight = torch.nn.Parameter(torch.ones(4, 3))
    part = weight.detach()[1:]
    weight.untyped_storage().resize_(0)
    assert plain(weight) is None
    assert plain(part) is None
    assert local(weight).numel() == 0
    assert beginning(weight, 5).tolist() == []
    assert not equal(beginning(weight, 5), torch.ones(5))
    weight.untyped_storage().resize_(4 * 3 * 4)
    assert plain(weight) is not None
    assert beginning(weight, 5).numel() == 5


def test_lost_bits_are_seen_on_the_grid_of_float16_alone() -> None:
    small = torch.randn(64) * 1e-7
    assert lost_bits(small) is None
    zeros = lost_bits(small.half())
    assert zeros is not None
    assert 0.1 < zeros < 0.6
    assert lost_bits(small.half().float()) == zeros
    assert lost_bits(torch.zeros(64).half()) is None
    assert lost_bits(torch.randn(64).half()) is None
