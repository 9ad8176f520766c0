"""A table with room for so many values."""

from __future__ import annotations

from wallie_litellm.core.last_used import LastUsed


def test_the_value_that_was_used_longest_ago_makes_room() -> None:
    table: LastUsed[str, int] = LastUsed(2)
    table.keep("a", 1)
    table.keep("b", 2)
    assert table.use("a", lambda: 9) == 1
    assert table.use("c", lambda: 3) == 3
    assert list(table.items()) == [("a", 1), ("c", 3)]
    assert len(table) == 2


def test_looking_at_a_value_does_not_use_it_and_keeping_it_again_takes_no_room() -> None:
    table: LastUsed[str, float] = LastUsed(2)
    table.keep("a", 0.0)
    table.keep("b", 2.0)
    assert (table.get("a"), table.get("z")) == (0.0, None)
    table.keep("b", 3.0)
    table.keep("c", 4.0)
    assert list(table.items()) == [("b", 3.0), ("c", 4.0)]
