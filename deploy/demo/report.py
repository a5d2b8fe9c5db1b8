"""What the demo measured, as `report.json` and as a page on the screen."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.demo.criteria import about_subject, word_limit, words_in
from deploy.demo.judgement import Reply, over_limit

LEAST_REPLIES = 128
_LEAST_LENGTH_SHARE = 0.6
_MOST_EMPTY_RISE = 0.05
_SHOWN_SIDE_BY_SIDE = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt of the report and one model's replies to it."""

    prompt: str
    replies: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One model's figures. Shares are between 0 and 1, lengths are in words a reply."""

    replies: int
    over_limit: float
    mean_words: float
    mean_words_up_to_limit: float
    """Mean of min(words, N): a reply gains nothing by going over its limit."""
    empty_or_off_subject: float


@dataclass(frozen=True, slots=True)
class Report:
    """The fields of `report.json`. None where a refused adapter got no traffic."""

    base: Side
    adapter: Side
    failed_requests: int
    pairs: Mapping[str, int]
    swap_ms: float | None
    feedback_to_new_adapter_s: float | None
    train_s: float | None
    adapter_name: str
    verdict: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measured(asked: Sequence[Asked]) -> Side:
    """The figures of one model's replies."""
    each = [(one.prompt, reply) for one in asked for reply in one.replies]
    return Side(
        replies=len(each),
        over_limit=fmean(over_limit(prompt, reply) for prompt, reply in each),
        mean_words=fmean(words_in(reply.text) for _, reply in each),
        mean_words_up_to_limit=fmean(min(words_in(reply.text), word_limit(prompt)) for prompt, reply in each),
        empty_or_off_subject=fmean(not about_subject(prompt, reply.text) for prompt, reply in each),
    )


def missed(report: Report) -> list[str]:
    """What the demo hopes for and this run did not reach, a sentence each."""
    base, adapter = report.base, report.adapter
    hopes = [
        (adapter.over_limit <= base.over_limit / 2, "The share over the limit did not fall by half."),
        (
            adapter.mean_words_up_to_limit >= _LEAST_LENGTH_SHARE * base.mean_words_up_to_limit,
            "Replies say too little: the mean of min(words, N) fell below 60 % of the base model's.",
        ),
        (
            adapter.empty_or_off_subject <= base.empty_or_off_subject + _MOST_EMPTY_RISE,
            "Empty or off-subject replies rose by more than five points.",
        ),
        (min(base.replies, adapter.replies) >= LEAST_REPLIES, f"Fewer than {LEAST_REPLIES} replies a side were judged."),
        (report.failed_requests == 0, f"Failed inference requests: {report.failed_requests}."),
    ]
    return [sentence for reached, sentence in hopes if not reached]


def show(console: Console, report: Report, base: Sequence[Asked], adapter: Sequence[Asked]) -> None:
    """Print the report, and a few replies side by side."""
    console.print(_figures(report))
    console.print(_side_by_side(base, adapter))
    console.print(_numbers(report))
    console.print(f"The gate {'passed' if report.verdict.get('passed') else 'refused'} {report.adapter_name}.")
    for reason in report.verdict.get("reasons", ()):
        console.print(f"  {reason}")
    for sentence in missed(report):
        console.print(f"[bold red]Not reached:[/] {sentence}")


def _figures(report: Report) -> Table:
    table = Table("", "base", report.adapter_name, title="Held-out prompts about subjects that nobody asked about")
    rows = (
        ("replies judged", "replies", "{:.0f}"),
        ("over the limit", "over_limit", "{:.1%}"),
        ("mean words", "mean_words", "{:.1f}"),
        ("mean of min(words, N)", "mean_words_up_to_limit", "{:.1f}"),
        ("empty or off subject", "empty_or_off_subject", "{:.1%}"),
    )
    for label, field, form in rows:
        table.add_row(label, *(form.format(getattr(side, field)) for side in (report.base, report.adapter)))
    return table


def _side_by_side(base: Sequence[Asked], adapter: Sequence[Asked]) -> Table:
    table = Table("prompt", "base", "adapter", title="Side by side", show_lines=True)
    both = [(one, other) for one, other in zip(base, adapter, strict=True) if one.replies and other.replies]
    for one, other in both[:_SHOWN_SIDE_BY_SIDE]:
        table.add_row(one.prompt, Text(one.replies[0].text), Text(other.replies[0].text))
    return table


def _numbers(report: Report) -> Table:
    table = Table(show_header=False, title="The run")
    for source, count in sorted(report.pairs.items()):
        table.add_row(f"pairs by {source}", str(count))
    table.add_row("training", _seconds(report.train_s))
    table.add_row("last feedback of the round to the first reply of its adapter", _seconds(report.feedback_to_new_adapter_s))
    table.add_row("swap", "-" if report.swap_ms is None else f"{report.swap_ms:.0f} ms")
    table.add_row("failed inference requests", str(report.failed_requests))
    return table


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
