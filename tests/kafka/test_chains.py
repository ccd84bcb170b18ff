"""The chain of a slot: what follows, what lacks, and what an older epoch may still bring."""

from __future__ import annotations

import pytest

from shared.runtime.chains import Chain
from shared.runtime.jobs import Unread
from shared.runtime.records import Foreign


def event(epoch: int, position: int, prev: int) -> Unread:
    """An event of slot 3."""
    return Unread("issues", epoch, position, 3, prev, "key", "EntryMade", None, b"")


def chain(*events: tuple[int, int, int]) -> Chain:
    """A chain that took these (epoch, position, previous)."""
    made = Chain()
    for one in events:
        made.take(event(*one))
    return made


@pytest.mark.parametrize(
    ("events", "lacking"),
    [
        ([(1, 1, 0), (1, 4, 1), (1, 9, 4)], []),
        ([(1, 4, 1)], [1]),
        ([(1, 1, 0), (1, 9, 4)], [4]),
        ([(1, 1, 0), (1, 9, 4), (1, 4, 1)], []),
        ([(1, 1, 0), (1, 4, 1), (1, 1, 0), (1, 4, 1), (1, 9, 4)], []),
        ([(1, 1, 0), (1, 4, 1), (2, 9, 4)], []),
        ([(1, 1, 0), (1, 4, 1), (1, 6, 4), (2, 9, 4)], []),
        ([(1, 1, 0), (2, 9, 4)], [4]),
        ([(1, 1, 0), (2, 9, 4), (1, 4, 1)], []),
        ([(2, 9, 4)], [4]),
        ([(1, 1, 0), (2, 5, 1), (3, 9, 5)], []),
        ([(1, 1, 0), (3, 9, 5)], [5]),
    ],
)
def test_a_predecessor_that_was_not_read_is_lacking(events: list[tuple[int, int, int]], lacking: list[int]) -> None:
    assert chain(*events).lacking() == lacking


def test_it_is_told_once() -> None:
    made = chain((1, 4, 1))
    made.lacking()
    assert made.lacking() == []


@pytest.mark.parametrize("position", [4, 3])
def test_an_older_epoch_may_fill_up_to_where_the_newer_begins(position: int) -> None:
    chain((1, 1, 0), (2, 9, 4)).take(event(1, position, 1))


@pytest.mark.parametrize(
    ("epoch", "position"),
    [
        (
            1,
            5,
        ),
        (1, 12),
        (0, 5),
    ],
)
def test_what_an_older_epoch_lost_is_foreign(epoch: int, position: int) -> None:
    with pytest.raises(Foreign, match="older epoch"):
        chain((1, 1, 0), (2, 9, 4)).take(event(epoch, position, 1))


def test_the_bound_follows_the_first_event_that_is_known() -> None:
    """A later event of the new epoch came first; the truly first says how much of the old one the log kept."""
    made = chain((1, 1, 0), (2, 12, 9), (2, 9, 4))
    with pytest.raises(Foreign):
        made.take(event(1, 6, 4))
