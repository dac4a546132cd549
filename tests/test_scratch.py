"""Memory that is used again: by key, by thread, in any mode, and never by a copy of a model."""

import copy
import threading

import pytest
import torch
from enumerable import small_stack

from harness.blocks.scratch import Scratch

CPU = torch.device("cpu")


def test_a_key_keeps_its_memory():
    scratch = Scratch()
    first = scratch.take("a", 10, 3, torch.float32, CPU)
    assert first.shape == (10, 3)
    assert scratch.take("a", 10, 3, torch.float32, CPU) is first
    fewer = scratch.take("a", 4, 3, torch.float32, CPU)
    assert fewer.shape == (4, 3)
    assert fewer.data_ptr() == first.data_ptr()
    assert scratch.take("a", 11, 3, torch.float32, CPU).shape == (11, 3)


def test_parts_lie_in_the_whole_one_after_the_other():
    scratch = Scratch()
    whole, parts = scratch.take_parts("a", 4, 5, 3, torch.float32, CPU)
    assert torch.equal(whole.copy_(torch.arange(60.0).view(20, 3)), torch.cat(parts))
    again = scratch.take_parts("a", 4, 5, 3, torch.float32, CPU)
    assert again[0] is whole
    assert all(one is other for one, other in zip(again[1], parts, strict=True))
    for n_parts, n_rows in ((4, 2), (2, 5), (4, 9), (4, 5)):  # fewer, and more than there was room for
        whole, parts = scratch.take_parts("a", n_parts, n_rows, 3, torch.float32, CPU)
        assert [part.shape for part in parts] == [(n_rows, 3)] * n_parts
        assert torch.equal(whole.fill_(n_rows), torch.cat(parts))
        assert whole.data_ptr() == scratch.take("a", 1, 3, torch.float32, CPU).data_ptr()


def test_keys_shapes_and_types_do_not_share():
    scratch = Scratch()
    taken = [
        scratch.take("a", 10, 3, torch.float32, CPU),
        scratch.take("b", 10, 3, torch.float32, CPU),
        scratch.take("a", 10, 4, torch.float32, CPU),
        scratch.take("a", 10, 3, torch.bfloat16, CPU),
    ]
    assert len({tensor.data_ptr() for tensor in taken}) == len(taken)


def test_threads_do_not_share():
    scratch = Scratch()
    pointers = [scratch.take("a", 10, 3, torch.float32, CPU).data_ptr()]
    other = threading.Thread(target=lambda: pointers.append(scratch.take("a", 10, 3, torch.float32, CPU).data_ptr()))
    other.start()
    other.join()
    assert pointers[0] != pointers[1]


def test_memory_from_inference_mode_can_be_written_later():
    scratch = Scratch()
    with torch.inference_mode():
        scratch.take("a", 2, 2, torch.float32, CPU).zero_()
    assert scratch.take("a", 2, 2, torch.float32, CPU).add_(1.0).sum() == 4


@pytest.fixture
def new_memory_is_not_a_number():
    """PyTorch fills what it allocates, which otherwise may or may not be zero."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def kept(inferred):
    """The bytes of all that was inferred in memory that is used again; some of them are never written."""
    n = inferred.n_single
    found = [*inferred.h[:n], *(scored.product for scored in (*inferred.q[:n], *inferred.p[:n])), inferred.upper.work]
    return [tensor.contiguous().view(torch.uint8) for tensor in found]


def test_a_copied_model_has_memory_of_its_own(new_memory_is_not_a_number):
    """Inferring with a copy leaves what the original inferred as it was."""
    model = small_stack("bihm").float()
    x = torch.ones(4, 5)
    inferred = model.infer(x, 3, torch.Generator().manual_seed(0))
    before = [tensor.clone() for tensor in kept(inferred)]
    copy.deepcopy(model).infer(1 - x, 3, torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(before, kept(inferred), strict=True))


def test_repeated_inference_does_not_depend_on_what_the_memory_held(new_memory_is_not_a_number):
    model = small_stack("bihm").float()
    x = torch.ones(4, 5)
    first = model.log_weights(x, 3, torch.Generator().manual_seed(2)).clone()
    model.log_weights(1 - x, 7, torch.Generator().manual_seed(3))
    assert torch.equal(model.log_weights(x, 3, torch.Generator().manual_seed(2)), first)
