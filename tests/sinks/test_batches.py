"""Batches, single records after a refusal, and batches again."""

from __future__ import annotations

import pytest

from delayed_consumer.errors import ConfigError
from delayed_consumer.sinks import batches
from delayed_consumer.sinks.batches import Batches


@pytest.fixture(autouse=True)
def _soon_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "ALONE_RECORDS", 3)


def until_taken(one: Batches) -> int:
    """How many records go alone when none is refused."""
    count = 0
    while one.room:
        one.went(1)
        count += 1
    return count


def test_a_record_that_goes_alone_fills_its_batch() -> None:
    one = Batches({"batch.size": 8_000, "linger.ms": 5}, {"acks": "1"})
    assert one.properties == {"batch.size": 8_000, "linger.ms": 5}
    one.separate(0, too_large=True)
    assert one.properties["batch.size"] == 1
    assert (one.properties["linger.ms"], one.properties["acks"]) == (5, "1")


def test_records_go_alone_until_enough_in_a_row_were_taken() -> None:
    one = Batches({})
    one.separate(0, too_large=True)
    one.went(2)
    one.refused()
    assert until_taken(one) == 3
    one.unite()
    assert not one.alone
    one.separate(0, too_large=True)
    assert until_taken(one) == 3


def test_all_that_may_be_to_blame_go_alone() -> None:
    """Else the bad one, far behind in its batch, would be refused with the others again and again."""
    one = Batches({})
    one.separate(10, too_large=True)
    one.went(3)
    one.refused()
    assert until_taken(one) == 7


def test_batches_are_put_off_while_answers_are_missing() -> None:
    one = Batches({})
    one.separate(0, too_large=True)
    assert until_taken(one) == 3
    one.prolong()
    assert until_taken(one) == 3


def test_batches_that_were_refused_for_their_size_without_a_record_to_blame_become_smaller() -> None:
    one = Batches({"batch.size": 8_000})
    one.separate(0, too_large=True)
    one.refused()
    assert not one.unite()
    assert one.properties["batch.size"] == 8_000
    one.separate(0, too_large=False)
    assert not one.unite()
    assert one.properties["batch.size"] == 8_000
    for smaller in (2_000, 500, 125, 31, 7, 1, 1):
        one.separate(0, too_large=True)
        assert one.unite()
        assert one.properties["batch.size"] == smaller


def test_a_size_that_is_no_number_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match="KAFKA_CONF_BATCH_SIZE: '64k' is not a number of bytes"):
        Batches({"batch.size": "64k"})
