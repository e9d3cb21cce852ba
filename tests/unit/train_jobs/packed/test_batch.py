"""What goes into a mixed batch comes out again, whatever the conversations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train_jobs.packed.batch import MixedBatch, best_fit, collate
from train_jobs.qlora.data import IGNORED, EncodedRow

torch = pytest.importorskip("torch")


@st.composite
def rows(draw: st.DrawFn) -> EncodedRow:
    tokens = draw(st.lists(st.integers(1, 99), min_size=2, max_size=9))
    learned = draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
    return EncodedRow([], tokens, [token if keep else IGNORED for token, keep in zip(tokens, learned, strict=True)])


SHARES = st.lists(st.lists(rows(), min_size=1, max_size=5), min_size=1, max_size=4)


@given(st.lists(st.integers(1, 20), max_size=30), st.integers(20, 50))
def test_bins_hold_everything_once_and_no_two_fit_into_one(lengths: list[int], capacity: int) -> None:
    bins = best_fit(lengths, capacity)
    assert sorted(index for found in bins for index in found) == list(range(len(lengths)))
    loads = [sum(lengths[index] for index in found) for found in bins]
    assert max(loads, default=0) <= capacity
    assert all(one + other > capacity for at, one in enumerate(loads) for other in loads[at + 1 :])


def test_the_tightest_bin_is_taken() -> None:
    assert best_fit([7, 5, 3, 4], 10) == [[0, 2], [1, 3]]


def conversations(batch: MixedBatch, slot: int) -> list[tuple[int, list[int]]]:
    """The number of its first token, and the tokens, of each conversation in a slot, as positions tell them apart."""
    found: list[tuple[int, list[int]]] = []
    span = batch.spans[slot]
    flat = zip(
        batch.input_ids.flatten()[span].tolist(),
        batch.position_ids.flatten()[span].tolist(),
        batch.order[span].tolist(),
        strict=True,
    )
    for token, position, number in flat:
        if position == 0:
            found.append((number, []))
        found[-1][1].append(token)
    return found


@given(SHARES, st.booleans())
def test_each_slot_finds_its_conversations_in_its_span(shares: list[list[EncodedRow]], flat: bool) -> None:
    batch = collate(shares, flat=flat)
    assert batch.token_counts == tuple(sum(len(row.input_ids) for row in share) for share in shares)
    for slot, share in enumerate(shares):
        expected, number = [], 0
        for row in share:
            expected.append((number, row.input_ids))
            number += len(row.input_ids)
        found = sorted(conversations(batch, slot))
        # Padding (token 0, which no row has) follows the last conversation of a sequence.
        assert [(first, [token for token in tokens if token]) for first, tokens in found] == expected


@given(SHARES, st.booleans())
def test_targets_are_the_tokens_before_what_is_learned(shares: list[list[EncodedRow]], flat: bool) -> None:
    batch = collate(shares, flat=flat)
    starts = [sum(batch.target_counts[:slot]) for slot in range(len(shares) + 1)]
    ids, order = batch.input_ids.flatten(), batch.order
    for slot, share in enumerate(shares):
        mine = slice(starts[slot], starts[slot + 1])
        places, labels = batch.targets[mine], batch.labels[mine].tolist()
        assert all(batch.spans[slot].start <= place < batch.spans[slot].stop for place in places.tolist())
        assert ids[places + 1].tolist() == labels
        text = [label for row in share for label in [IGNORED, *row.labels[1:]]]
        numbers = [number for number, label in enumerate(text) if label != IGNORED]
        assert sorted((order[places] + 1).tolist()) == numbers


@given(SHARES)
def test_a_batch_is_as_wide_as_its_longest_conversation(shares: list[list[EncodedRow]]) -> None:
    batch = collate(shares)
    assert batch.input_ids.shape == batch.position_ids.shape
    assert batch.input_ids.shape[1] == max(len(row.input_ids) for share in shares for row in share)
    assert [span.start for span in batch.spans[1:]] == [span.stop for span in batch.spans[:-1]]
    assert batch.spans[-1].stop == batch.input_ids.numel() == len(batch.order)


@given(SHARES)
def test_the_flat_layout_has_no_padding(shares: list[list[EncodedRow]]) -> None:
    batch = collate(shares, flat=True)
    assert batch.input_ids.shape == (1, sum(batch.token_counts))
