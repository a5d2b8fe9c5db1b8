"""Settings of a task: how its feedback becomes pairs, when and how it is trained, what its adapters must prove."""

from typing import Literal

from pydantic import Field

from ingest.settings.criteria import CriterionSettings
from ingest.settings.section import Section


class SourceSettings(Section):
    """What one vote of a source counts, and how far its labels are trusted."""

    weight: int = Field(1, ge=1, le=1_000, description="What one vote counts where votes disagree.")
    wrong_share: float = Field(0.1, ge=0, lt=0.5, description="Assumed share of wrong labels.")


class SourcesSettings(Section):
    """The sources of pairs."""

    expert: SourceSettings = SourceSettings(weight=5, wrong_share=0.02)
    edit: SourceSettings = SourceSettings(wrong_share=0.05)
    preference: SourceSettings = SourceSettings(wrong_share=0.05)
    choice: SourceSettings = SourceSettings(wrong_share=0.1)
    criterion: SourceSettings = SourceSettings(wrong_share=0.1)
    regeneration: SourceSettings = SourceSettings(wrong_share=0.2)
    rating: SourceSettings = SourceSettings(wrong_share=0.2)


class TaskPairingSettings(Section):
    """How a task's feedback becomes pairs."""

    choice: Literal["each", "first"] = Field(
        "each", description="The picked reply is preferred over each other one shown, or over the one shown first only."
    )
    regeneration: Literal["first", "each"] = Field(
        "first", description="The accepted reply is preferred over the first rejected one, or over each."
    )
    min_edit_share: float = Field(0.02, ge=0, le=1, description="An edit that changes a smaller share of the text makes no pair.")
    criteria: Literal["weighted", "lexicographic"] = Field(
        "weighted", description="Scores of several criteria are added up by weight, or the first criterion that can decide does."
    )
    rating_pairs_per_prompt: int = Field(4, ge=0, le=100, description="Most pairs made of ratings for one prompt.")
    sources: SourcesSettings = Field(SourcesSettings(), description="Weight and assumed share of wrong labels, by source.")


class RedactionSettings(Section):
    """What is taken out of a task's texts before anything is kept."""

    kinds: tuple[Literal["email", "phone", "card"], ...] = Field(
        (), description="Found and replaced by [email], [phone], [card]; by default nothing is."
    )
    region: str | None = Field(
        None,
        pattern="^[A-Z]{2}$",
        description="phone: country (as DE) whose national numbers are found too; without it only those that begin with +.",
    )
    function: str | None = Field(
        None, description="MODULE:FUNCTION, called with each text, returns what is kept of it. The same text, the same result."
    )


class RetentionSettings(Section):
    """How long a task's events are kept."""

    days: float | None = Field(
        None, gt=0, description="Events older than this lose their content; by default none does. Imported ones have no age."
    )


class TriggerSettings(Section):
    """When a round is due."""

    min_new_pairs: int = Field(128, ge=1, description="Start a round with this many new training pairs.")
    max_wait_s: float = Field(86_400, gt=0, description="Start a round with fewer pairs once the oldest is this old.")
    min_pairs_after_wait: int = Field(32, ge=1, description="Never start a round with fewer new training pairs.")


class TrainingSettings(Section):
    """One round of DPO."""

    loss: tuple[str, ...] = Field(("sigmoid_norm", "sft"), min_length=1, description="TRL's names of the losses.")
    loss_weights: tuple[float, ...] = Field((1.0, 0.2), min_length=1, description="Weight of each loss.")
    beta: float = Field(3.0, gt=0, description="Strength of the pull to the reference; 3 suits sigmoid_norm, 0.1 sigmoid.")
    learning_rate: float = Field(5e-4, gt=0, lt=1, description="Peak learning rate.")
    epochs: int = Field(2, ge=1, le=20, description="Passes over the pairs.")
    batch_pairs: int = Field(8, ge=1, le=1024, description="Pairs a step.")
    max_length: int = Field(512, ge=16, description="Longest prompt and reply, in tokens; longer pairs are left out.")
    max_pairs: int = Field(2_000, ge=1, description="Most pairs in a round; the newest are taken.")
    replay_share: float = Field(0.25, ge=0, le=0.9, description="Share of a round's pairs that come from earlier rounds.")
    lora_rank: int = Field(8, ge=1, le=512, description="Rank of the adapter.")
    lora_alpha: int = Field(16, ge=1, description="Scale of the adapter, alpha / rank.")
    lora_modules: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj"), min_length=1, description="Modules that get an adapter."
    )
    reference: Literal["base", "parent"] = Field("base", description="Policy that the round is kept close to.")
    seed: int = Field(0, ge=0, description="Seed of order and initial weights.")


class GateSettings(Section):
    """When a candidate is better."""

    prompts: int = Field(64, ge=1, description="Most held-out prompts that are answered afresh by candidate and live.")
    replies_per_prompt: int = Field(4, ge=1, le=32, description="Replies to each of them.")
    temperature: float = Field(0.7, ge=0, le=2, description="Sampling temperature of those replies.")
    max_tokens: int = Field(128, ge=1, description="Longest of those replies, in tokens; cut off counts as too long.")
    min_gain: float = Field(
        0.02, ge=0, le=1, description="Some criterion's share of passed replies must rise by this, beyond chance."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Certainty with which better must be better than chance.")
    min_length_ratio: float = Field(0.4, ge=0, le=1, description="Least mean words of replies within their limits, against live.")
    max_empty_rise: float = Field(0.03, ge=0, le=1, description="Most that the share of empty replies may rise.")
    max_margin: float = Field(30, gt=0, description="Refuse when the mean margin per pair runs past this, in nats.")


class TaskSettings(Section):
    """One named use of the model."""

    pairing: TaskPairingSettings = TaskPairingSettings()
    trigger: TriggerSettings = TriggerSettings()
    training: TrainingSettings = TrainingSettings()
    gate: GateSettings = GateSettings()
    redaction: RedactionSettings = RedactionSettings()
    retention: RetentionSettings = RetentionSettings()
    criteria: tuple[CriterionSettings, ...] = Field(
        (), description="Checks of replies: the gate makes them, and `whetstone criteria run`."
    )
