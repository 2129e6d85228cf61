"""Which token stands for which: what people's sentences become, position by position."""

from __future__ import annotations

import torch

from erase_engine.closed_form.stand_ins import ITSELF, MOST_PADDING, read_tokens, stand_ins

A, RED, STAR, CIRCLE, ABOVE, LEFT, OF, START, CY, AN = range(10, 20)
LENGTH = 12


def becomes(concept: list[int], anchor: list[int], own: set[int], common=()) -> dict[int, int]:
    found = stand_ins(concept, anchor, (LENGTH, LENGTH), own=own, common=common)
    assert found.own.tolist() == [token in own for token in found.tokens.tolist()]
    return dict(zip(found.tokens.tolist(), found.becomes.tolist(), strict=True))


def test_a_word_becomes_the_word_in_its_place_and_all_else_stays():
    found = becomes([A, RED, STAR], [A, RED, CIRCLE], {2})
    assert found == {position: position for position in range(LENGTH)}


def test_pieces_are_matched_from_the_end():
    found = becomes([A, START, CY, STAR], [A, RED, STAR], {1, 2})
    assert (found[2], found[3], found[4]) == (1, 2, 3)  # the piece, the word after it, the end mark


def test_a_piece_that_other_words_have_too_stays_itself():
    found = becomes([A, START, CY, STAR], [A, RED, STAR], {1, 2}, common={START})
    assert found[1] == ITSELF


def test_a_word_that_is_left_out_becomes_padding():
    found = becomes([A, RED, STAR], [A, STAR], {1})
    assert found[1] == LENGTH - 1
    assert (found[2], found[3]) == (1, 2)
    assert [found[place] for place in range(4, LENGTH)] == [*range(3, LENGTH - 1)]


def test_a_longer_anchor_takes_padding_and_nothing_stands_for_two():
    found = becomes([STAR, ABOVE, STAR], [STAR, LEFT, OF, STAR], {1})
    assert (found[1], found[2], found[3]) == (2, 3, 4)
    assert found[4] == 1  # the first padding becomes the piece that had no counterpart
    assert len({*found.values()}) == len(found)


def test_an_article_changes_with_its_word():
    found = becomes([A, STAR], [AN, CIRCLE], {1})
    assert (found[0], found[1]) == (0, 1)


def unpadded(concept: list[int], anchor: list[int], own: set[int], marks: int = 1) -> list[int]:
    lengths = (len(concept) + marks, len(anchor) + marks)
    found = stand_ins(concept, anchor, lengths, own=own, common=(), marks=marks)
    assert found.tokens.tolist() == [*range(lengths[0])]
    return found.becomes.tolist()


def test_without_padding_each_piece_becomes_what_the_last_one_does():
    assert unpadded([A, RED, CY, STAR, ABOVE], [A, CIRCLE, ABOVE], {1, 2, 3}) == [0, 1, 1, 1, 2, 3]


def test_without_padding_a_word_that_is_left_out_becomes_what_comes_after_it():
    assert unpadded([A, RED, STAR], [A, STAR], {1}) == [0, 1, 1, 2]
    assert unpadded([A, STAR], [A], {1}, marks=2) == [0, 1, 1, 2]  # the end's mark


def test_without_padding_no_other_word_of_the_anchor_is_taken_for_it():
    concept, own = [A, RED, CY, STAR, ABOVE], {0, 1, 2, 3, 4}
    assert unpadded(concept, [STAR, LEFT, OF], own) == [0, 0, 0, 0, 2, 3]


def test_a_longer_anchor_needs_no_padding():
    assert unpadded([A, STAR], [A, LEFT, OF, CIRCLE], {1}) == [0, 3, 4]


def test_of_much_padding_some_is_read_from_all_of_it():
    found = read_tokens(6, 512)
    assert len(found) == 6 + MOST_PADDING
    assert found[:6].tolist() == [*range(6)]
    assert found[-1] > 400
    assert torch.equal(found, found.unique())


def test_short_padding_is_read_whole_and_a_full_prompt_has_none():
    assert read_tokens(4, 10).tolist() == [*range(10)]
    assert read_tokens(10, 10).tolist() == [*range(10)]
