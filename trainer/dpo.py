"""The one door to torch, Transformers, PEFT and TRL. Only the child process of a round imports this module."""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import trl.trainer.utils
from datasets import Dataset  # type: ignore[import-untyped]  # has no types
from peft import LoraConfig, PeftConfig, PeftModel, load_peft_weights, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments
from transformers.trainer_callback import PrinterCallback, TrainerCallback, TrainerControl, TrainerState
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from ingest.events import Reply
from ingest.settings import TrainingSettings
from trainer.chat import prompt_messages, reply_message
from trainer.errors import CannotTrain
from trainer.manifest import FrozenPair, Manifest

OnStep = Callable[[int, int], None]
"""Told the optimizer's step and how many there are."""

_CHECKPOINT_STEPS = 10


@dataclass(frozen=True, slots=True)
class Trained:
    """What came out of training; the adapter lies in the draft folder."""

    train_s: float
    pairs: int
    too_long: int
    """Pairs left out because prompt and reply exceed `max_length` tokens."""
    loss: float
    margin: float
    """Mean over the last pass: how much further than the reference it prefers the chosen reply, in nats."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A pair as token ids. The replies begin where they and the prompt's template part ways."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def longest(self) -> int:
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


def train(manifest: Manifest, folder: Path, draft: Path, on_step: OnStep) -> Trained:
    """Train the round's LoRA by DPO and save it to `draft`; goes on from the last checkpoint in `folder`.

    Raises:
        CannotTrain: no pair fits into `max_length`, or the loss is not a number.
    """
    settings, tokenizer = manifest.settings.training, _tokenizer(manifest.base_model)
    tokens = [tokenized(tokenizer, pair) for pair in manifest.train]
    fitting = [pair for pair in tokens if pair.longest <= settings.max_length]
    if not fitting:
        raise CannotTrain(f"None of {len(tokens)} pairs fits into training.max_length = {settings.max_length} tokens.")
    trainer = _trainer(manifest, fitting, tokenizer, folder / "checkpoints", on_step)
    started = time.monotonic()
    output = trainer.train(resume_from_checkpoint=_last_checkpoint(folder / "checkpoints"))
    if not torch.isfinite(torch.tensor(output.training_loss)):
        raise CannotTrain("The loss is not a number: lower training.learning_rate, or look at the pairs.")
    assert isinstance(trainer.model, PeftModel)
    _save(trainer.model, draft)
    margin = _last_margin(trainer.state.log_history, settings)
    return Trained(time.monotonic() - started, len(fitting), len(tokens) - len(fitting), output.training_loss, margin)


def margins(base_model: str, adapter: Path | None, pairs: Sequence[FrozenPair], max_length: int) -> list[float | None]:
    """By pair, log p(chosen) - log p(rejected), in nats summed over the reply; none where the pair does not fit."""
    tokenizer, model = _tokenizer(base_model), _base(base_model)
    policy = PeftModel.from_pretrained(model, adapter) if adapter else model
    policy.eval()
    return [_margin(model, tokens) if tokens.longest <= max_length else None for tokens in _all(tokenizer, pairs)]


def tokenized(tokenizer: PreTrainedTokenizerBase, pair: FrozenPair) -> Tokens:
    """The pair as the chat template writes it."""
    prompt = _rendered(tokenizer, pair, None)
    chosen, rejected = _rendered(tokenizer, pair, pair.chosen), _rendered(tokenizer, pair, pair.rejected)
    shared = min(_shared(prompt, chosen), _shared(prompt, rejected))
    return Tokens(prompt[:shared], chosen[shared:], rejected[shared:])


class _Trainer(DPOTrainer):
    """DPO over pairs that are token ids already: rows of messages would get every key that any of them has."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Transformers 5.19 loads only the frozen copy where there is one, and forgets what was trained."""
        _load(self.model, resume_from_checkpoint)


class _Steps(TrainerCallback):
    """Tells every step."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._on_step(state.global_step, state.max_steps)


def _trainer(
    manifest: Manifest, pairs: Sequence[Tokens], tokenizer: PreTrainedTokenizerBase, checkpoints: Path, on_step: OnStep
) -> DPOTrainer:
    settings = manifest.settings.training
    if not torch.cuda.is_available():
        _score_reply_tokens_only()
    policy, lora = _policy(manifest)
    trainer = _Trainer(
        model=policy,
        args=_config(settings, checkpoints),
        train_dataset=Dataset.from_list([_row(tokens) for tokens in pairs]),
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[_Steps(on_step)],
    )
    trainer.remove_callback(PrinterCallback)
    if manifest.parent_path and settings.reference == "base":
        _load(trainer.model, manifest.parent_path)
    return trainer


def _policy(manifest: Manifest) -> tuple[PreTrainedModel | PeftModel, LoraConfig | None]:
    """What TRL is given, which decides the reference.

    A base model with a LoRA to make: the reference is the base model. An adapted model: TRL copies the adapter, and the
    reference is the parent. A parent keeps its shape, so that training can go on from its weights.
    """
    base, settings = _base(manifest.base_model), manifest.settings.training
    if manifest.parent_path is None:
        return base, LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            target_modules=list(settings.lora_modules),
            task_type="CAUSAL_LM",
        )
    if settings.reference == "parent":
        return PeftModel.from_pretrained(base, manifest.parent_path, is_trainable=True), None
    shape = PeftConfig.from_pretrained(manifest.parent_path)
    shape.inference_mode = False
    return base, shape


def _load(model: Any, adapter: str) -> None:
    """Put the weights of an adapter into the one that is trained."""
    set_peft_model_state_dict(model, load_peft_weights(adapter, device="cpu"), adapter_name="default")


def _base(name: str) -> PreTrainedModel:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16, device_map=device)
    return model


def _tokenizer(name: str) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    return tokenizer


def _config(settings: TrainingSettings, checkpoints: Path) -> DPOConfig:
    on_cpu = not torch.cuda.is_available()
    return DPOConfig(
        output_dir=str(checkpoints),
        loss_type=list(settings.loss),
        loss_weights=list(settings.loss_weights),
        beta=settings.beta,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_pairs,
        max_length=settings.max_length,
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,  # keeps `length` for the sampler
        precompute_ref_log_probs=True,
        bf16=True,
        use_cpu=on_cpu,
        gradient_checkpointing=not on_cpu,
        dataloader_pin_memory=not on_cpu,
        save_steps=_CHECKPOINT_STEPS,
        save_total_limit=2,
        logging_steps=1,
        seed=settings.seed,
        report_to=[],
        disable_tqdm=True,
    )


def _score_reply_tokens_only() -> None:
    """On a CPU TRL 1.16 projects every position through the LM head, prompt and padding too; on a GPU only the reply's.

    Its reason (shapes that change make other accelerators compile again) does not hold on a CPU.
    """
    trl.trainer.utils._use_triton = _yes  # type: ignore[attr-defined]  # TRL has no setting for it


def _yes(device: torch.device) -> bool:
    return True


def _row(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_ids": tokens.prompt,
        "chosen_ids": tokens.chosen,
        "rejected_ids": tokens.rejected,
        "length": tokens.longest,
    }


def _shared(one: list[int], other: list[int]) -> int:
    """How many ids they begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _all(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[FrozenPair]) -> list[Tokens]:
    return [tokenized(tokenizer, pair) for pair in pairs]


def _rendered(tokenizer: PreTrainedTokenizerBase, pair: FrozenPair, reply: Reply | None) -> list[int]:
    """The prompt with a reply, or as the model is asked to go on with one."""
    messages = prompt_messages(pair.prompt) + ([] if reply is None else [reply_message(reply)])
    tools: list[Any] | None = list(pair.tools) if pair.tools else None
    text = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=reply is None)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _margin(model: PreTrainedModel, tokens: Tokens) -> float:
    return _log_probability(model, tokens.prompt, tokens.chosen) - _log_probability(model, tokens.prompt, tokens.rejected)


@torch.no_grad()
def _log_probability(model: PreTrainedModel, prompt: list[int], reply: list[int]) -> float:
    """Of the reply after the prompt, in nats."""
    ids = torch.tensor([prompt + reply], device=model.device)
    logits = model(input_ids=ids, logits_to_keep=len(reply) + 1).logits[0, :-1].float()  # (reply tokens, vocabulary)
    return float(logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None]).sum())


def _last_margin(history: Sequence[dict[str, float]], settings: TrainingSettings) -> float:
    """TRL logs rewards, which are beta times nats."""
    told = [logged["rewards/margins"] / settings.beta for logged in history if "rewards/margins" in logged]
    return fmean(told[-max(1, len(told) // settings.epochs) :])


def _save(model: PeftModel, draft: Path) -> None:
    """Write the adapter, on disk when this returns."""
    model.save_pretrained(str(draft), selected_adapters=["default"], safe_serialization=True)
    for path in draft.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; those that a kill cut short are deleted."""
    whole: dict[int, Path] = {}
    for path in folder.glob("checkpoint-*"):
        try:
            whole[int(json.loads((path / "trainer_state.json").read_bytes())["global_step"])] = path  # written last
        except (OSError, ValueError):
            shutil.rmtree(path)
    return str(whole[max(whole)]) if whole else None
