"""Selects, purely, what a round trains on."""

from collections.abc import Sequence

from ingest.events import Prompt
from ingest.settings import TrainingSettings
from trainer.chat import asked
from trainer.manifest import FrozenPair, FrozenPrompt
from trainer.repeats import near_repeats


def select_pairs(new: Sequence[FrozenPair], earlier: Sequence[FrozenPair], settings: TrainingSettings) -> list[FrozenPair]:
    """The newest new pairs, and of earlier rounds' newest as many as `replay_share` asks. Both come newest first."""
    room = settings.max_pairs
    replayed = min(len(earlier), int(settings.replay_share * min(room, len(new) / (1 - settings.replay_share))))
    return [*new[: room - replayed], *earlier[:replayed]]


def apart_from(held_out: Sequence[Prompt], pairs: Sequence[FrozenPair]) -> list[FrozenPair]:
    """The pairs whose prompt does not nearly repeat a held-out one."""
    repeats = near_repeats({asked(pair.prompt) for pair in pairs}, of={asked(prompt) for prompt in held_out})
    return [pair for pair in pairs if asked(pair.prompt) not in repeats]


def for_judging(held_out: Sequence[FrozenPair], most_prompts: int, most_pairs: int) -> list[FrozenPair]:
    """Held-out pairs, newest first, of so many prompts at most."""
    prompts = list(dict.fromkeys(prompt_key(pair) for pair in held_out))[:most_prompts]
    kept = frozenset(prompts)
    return [pair for pair in held_out if prompt_key(pair) in kept][:most_pairs]


def to_answer(held_out: Sequence[FrozenPrompt], asked: Sequence[FrozenPrompt], most: int) -> list[FrozenPrompt]:
    """So many different prompts at most: those of held-out pairs first, then others that people asked."""
    different = {prompt_key(one): FrozenPrompt(prompt=one.prompt, tools=one.tools) for one in (*held_out, *asked)}
    return list(different.values())[:most]


def prompt_key(prompt: FrozenPrompt) -> str:
    """Equal for one prompt with the same tools, also where it stands in a pair."""
    return prompt.model_dump_json(include={"prompt", "tools"})
