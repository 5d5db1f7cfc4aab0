import pytest
import torch
from helpers import make_cubes, make_recognizer, seeded

from attnrec.models.recurrence import BatchShare, dropout_mask


def test_a_mask_is_zero_as_often_as_asked_and_keeps_the_mean():
    mask = dropout_mask((200, 300), 0.25, torch.zeros(1), seeded(0))
    assert mask.unique().tolist() == pytest.approx([0, 4 / 3])
    assert mask.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("batch_dim", [0, 1])
def test_shares_of_a_batch_are_rows_of_its_mask(batch_dim):
    shape = [5, 5, 7]
    whole = dropout_mask(tuple(shape), 0.5, torch.zeros(1), seeded(3))
    for first, rows in ((0, 2), (2, 3), (4, 1)):
        shape[batch_dim] = rows
        share = BatchShare(seeded(3), 5, first)
        mask = dropout_mask(tuple(shape), 0.5, torch.zeros(1), share, batch_dim=batch_dim)
        assert torch.equal(mask, whole.narrow(batch_dim, first, rows))


@pytest.mark.parametrize("kind", ["location", "content", "avg", "max"])
def test_processes_that_share_a_batch_drop_what_one_would(kind):
    model, cubes = make_recognizer(kind, dropout=0.5).train(), make_cubes(B=5)
    whole = model(cubes, seeded(1)).frame_logits
    parts = [model(cubes[a:b], BatchShare(seeded(1), 5, a)).frame_logits for a, b in ((0, 2), (2, 5))]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert not torch.allclose(model(cubes[2:], seeded(1)).frame_logits, whole[2:])
