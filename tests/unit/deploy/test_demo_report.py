"""The report's arithmetic."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from deploy.demo.crowd import Tally
from deploy.demo.judgement import Reply
from deploy.demo.report import Asked, Report, Side, measured, missed, show

BASE = Side(replies=192, over_limit=0.5, mean_words=22, mean_words_up_to_limit=16, empty_or_off_subject=0.06)
ADAPTER = Side(replies=192, over_limit=0.1, mean_words=11, mean_words_up_to_limit=10.5, empty_or_off_subject=0.05)
REPORT = Report(
    base=BASE,
    adapter=ADAPTER,
    failed_requests=0,
    pairs={"choice": 120, "edit": 40},
    swap_ms=210.0,
    feedback_to_new_adapter_s=240.0,
    train_s=180.0,
    adapter_name="summarise-short-r000001",
    verdict={"passed": True, "reasons": ["word-limit rose from 50 % to 90 %"]},
)


def test_figures_are_shares_and_means_over_all_replies() -> None:
    asked = [
        Asked("Describe tea in at most 4 words.", (Reply("Tea is a drink."), Reply("Tea is a very hot drink."))),
        Asked("Describe salt in at most 6 words.", (Reply(""), Reply("Salt tastes salty.", cut_off=True))),
    ]
    side = measured(asked)
    assert side.replies == 4
    assert side.over_limit == pytest.approx(2 / 4)
    assert side.mean_words == pytest.approx((4 + 6 + 0 + 3) / 4)
    assert side.mean_words_up_to_limit == pytest.approx((4 + 4 + 0 + 3) / 4)
    assert side.empty_or_off_subject == pytest.approx(1 / 4)


def test_a_run_that_reached_everything_missed_nothing() -> None:
    assert missed(REPORT) == []


@pytest.mark.parametrize(
    ("adapter", "failed", "sentence"),
    [
        (replace(ADAPTER, over_limit=0.26), 0, "did not fall by half"),
        (replace(ADAPTER, mean_words_up_to_limit=9.5), 0, "say too little"),
        (replace(ADAPTER, empty_or_off_subject=0.12), 0, "off-subject"),
        (replace(ADAPTER, replies=100), 0, "128"),
        (ADAPTER, 2, "Failed inference requests: 2"),
    ],
)
def test_what_was_not_reached_is_said_plainly(adapter: Side, failed: int, sentence: str) -> None:
    (said,) = missed(replace(REPORT, adapter=adapter, failed_requests=failed))
    assert sentence in said


def test_the_report_has_the_fields_that_readers_rely_on() -> None:
    assert set(REPORT.as_json()) == {
        *("base", "adapter", "failed_requests", "pairs", "swap_ms"),
        *("feedback_to_new_adapter_s", "train_s", "adapter_name", "verdict"),
    }
    assert set(REPORT.as_json()["base"]) == {
        *("replies", "over_limit", "mean_words", "mean_words_up_to_limit", "empty_or_off_subject"),
    }


def test_the_page_of_a_refused_adapter_shows_replies_and_no_swap() -> None:
    page = io.StringIO()
    refused = replace(REPORT, swap_ms=None, feedback_to_new_adapter_s=None, verdict={"passed": False, "reasons": ["too short"]})
    asked = [Asked("Describe tea in at most 4 words.", (Reply("Tea [bold] is hot."),))]
    show(Console(file=page, width=120), refused, asked, asked)
    assert "refused summarise-short-r000001" in page.getvalue()
    assert "Tea [bold] is hot." in page.getvalue()


def test_a_request_that_failed_or_does_not_name_its_adapter_counts_as_failed() -> None:
    tally = Tally()
    tally.add({"what": "request", "adapter": "base", "first_token_s": 0.2})
    tally.add({"what": "request", "adapter": None, "first_token_s": None})
    tally.add({"what": "failed", "status": 503, "error": "InternalServerError"})
    tally.add({"what": "feedback", "type": "edit"})
    tally.add({"what": "feedback_lost", "type": "edit", "status": 422})
    assert (tally.requests, tally.failures.total(), tally.lost_feedback) == (1, 2, 1)
    assert tally.feedback == {"edit": 1}
