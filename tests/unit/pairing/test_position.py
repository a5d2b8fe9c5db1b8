import pytest

from pairing.rules.position import position_bias


def test_without_choices_nothing_is_estimated() -> None:
    assert position_bias({}) is None
    assert position_bias({(2, 0): 0}) is None


def test_people_who_pick_every_place_alike_show_no_bias() -> None:
    found = position_bias({(2, 0): 500, (2, 1): 500})
    assert found is not None
    assert (found.choices, found.first, found.expected, found.is_plain) == (1000, 0.5, 0.5, False)
    assert found.low < 0.5 < found.high


def test_people_who_pick_the_first_place_too_often_show_it() -> None:
    found = position_bias({(2, 0): 600, (2, 1): 400})
    assert found is not None
    assert found.is_plain
    assert found.first == 0.6


def test_few_choices_prove_nothing() -> None:
    found = position_bias({(2, 0): 3})
    assert found is not None
    assert not found.is_plain
    assert (found.first, found.high) == (1.0, 1.0)


def test_what_is_expected_depends_on_how_many_replies_were_shown() -> None:
    found = position_bias({(2, 0): 50, (2, 1): 50, (4, 0): 25, (4, 1): 25, (4, 2): 25, (4, 3): 25})
    assert found is not None
    assert (found.first, found.expected) == (0.375, 0.375)


def test_the_interval_is_wilsons() -> None:
    found = position_bias({(2, 0): 8, (2, 1): 2})  # 0.4902, 0.9433 in the textbooks
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
