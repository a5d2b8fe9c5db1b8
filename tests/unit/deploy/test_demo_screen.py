"""The demo's screen: bars that end as what they stand for does."""

import io

from rich.console import Console

from deploy.demo.screen import Screen


def test_a_phase_that_was_followed_by_another_has_ended() -> None:
    shown = io.StringIO()
    with Screen(Console(file=shown, width=100)) as screen:
        screen.go_through("training", 25, 26)
        screen.go_through("training", 25, 26)
        screen.go_through("judging", 1, 2)
        screen.count("requests", 7)
    training, judging, requests = shown.getvalue().splitlines()[-3:]
    assert "26/26" in training
    assert "1/2" in judging
    assert "7/?" in requests
