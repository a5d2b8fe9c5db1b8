"""The one door to torch, Transformers, PEFT and TRL. Only the child process of a round imports this module."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import DPOConfig, DPOTrainer

from ingest.settings import TrainingSettings
from trainer.chat import as_rows
from trainer.errors import CannotTrain
from trainer.manifest import FrozenPair, Manifest

OnStep = Callable[[int, int], None]
"""Told the optimizer's step and how many there are."""

_CHECKPOINT_STEPS = 10
_MARGIN_BATCH = 8


@dataclass(frozen=True, slots=True)
class Trained:
    """What came out of training; the adapter lies in the draft folder."""

    train_s: float
    pairs: int
    too_long: int
    """Pairs left out because prompt and reply exceed `max_length` tokens."""
    loss: float


def train(manifest: Manifest, folder: Path, draft: Path, on_step: OnStep) -> Trained:
    """Train the round's LoRA by DPO and save it to `draft`; goes on from the last checkpoint in `folder`.

    Raises:
        CannotTrain: no pair fits into `max_length`, or the loss is not a number.
    """
    settings, tokenizer = manifest.settings.training, _tokenizer(manifest.base_model)
    fitting = [pair for pair in manifest.train if _fits(tokenizer, pair, settings.max_length)]
    if not fitting:
        raise CannotTrain(f"None of {len(manifest.train)} pairs fits into training.max_length = {settings.max_length} tokens.")
    if not torch.cuda.is_available():
        _score_reply_tokens_only()
    trainer = DPOTrainer(
        model=_policy(manifest),
        ref_model=_base(manifest.base_model) if manifest.parent_path and settings.reference == "base" else None,
        args=_config(settings, folder / "checkpoints"),
        train_dataset=Dataset.from_list(as_rows(fitting)),
        processing_class=tokenizer,
        peft_config=_lora(settings) if manifest.parent_path is None else None,
        callbacks=[_Steps(on_step)],
    )
    started = time.monotonic()
    output = trainer.train(resume_from_checkpoint=_last_checkpoint(folder / "checkpoints"))
    if not torch.isfinite(torch.tensor(output.training_loss)):
        raise CannotTrain("The loss is not a number: lower training.learning_rate, or look at the pairs.")
    trainer.model.save_pretrained(draft, selected_adapters=["default"], safe_serialization=True)
    return Trained(time.monotonic() - started, len(fitting), len(manifest.train) - len(fitting), output.training_loss)


def margins(base_model: str, adapter: Path | None, pairs: Sequence[FrozenPair], max_length: int) -> list[float]:
    """By pair, log p(chosen) - log p(rejected), in nats summed over the reply; pairs that do not fit are cut."""
    tokenizer, model = _tokenizer(base_model), _base(base_model)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    found: list[float] = []
    for start in range(0, len(pairs), _MARGIN_BATCH):
        batch = pairs[start : start + _MARGIN_BATCH]
        chosen, rejected = (_log_probabilities(model, tokenizer, batch, side, max_length) for side in ("chosen", "rejected"))
        found += (chosen - rejected).tolist()
    return found


def _policy(manifest: Manifest) -> PreTrainedModel | PeftModel:
    """The base model, or the parent's adapter on it, trainable. Adapted, TRL copies the adapter as the reference."""
    base = _base(manifest.base_model)
    if manifest.parent_path is None:
        return base
    return PeftModel.from_pretrained(base, manifest.parent_path, is_trainable=True)


def _base(name: str) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _tokenizer(name: str) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    return tokenizer


def _lora(settings: TrainingSettings) -> LoraConfig:
    return LoraConfig(
        r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules=list(settings.lora_modules), task_type="CAUSAL_LM"
    )


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

    Its reason (shapes that change make other accelerators compile again) does not hold on a CPU, where a step takes a
    third of the time so.
    """
    trl.trainer.utils._use_triton = lambda _device: True


def _fits(tokenizer: PreTrainedTokenizerBase, pair: FrozenPair, max_length: int) -> bool:
    row = as_rows([pair])[0]
    return all(len(_ids(tokenizer, row["prompt"] + row[side], pair)) <= max_length for side in ("chosen", "rejected"))


def _ids(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], pair: FrozenPair, reply_next: bool = False
) -> list[int]:
    tools = list(pair.tools) if pair.tools else None
    text = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=reply_next)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@torch.no_grad()
def _log_probabilities(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[FrozenPair],
    side: str,
    max_length: int,
) -> torch.Tensor:
    """Log-probability of each reply, shape (pairs,), nats."""
    rows = as_rows(pairs)
    whole = [_ids(tokenizer, row["prompt"] + row[side], pair)[:max_length] for row, pair in zip(rows, pairs, strict=True)]
    prompts = [len(_ids(tokenizer, row["prompt"], pair, reply_next=True)) for row, pair in zip(rows, pairs, strict=True)]
    width = max(map(len, whole))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in whole], device=model.device)  # (pairs, tokens)
    lengths = torch.tensor([[len(row)] for row in whole], device=model.device)
    position = torch.arange(width, device=model.device)[None]
    is_reply = (position >= torch.tensor(prompts, device=model.device)[:, None]) & (position < lengths)
    is_target = is_reply[:, 1:]
    hidden = model.get_base_model() if isinstance(model, PeftModel) else model
    states = hidden.base_model(input_ids=ids, attention_mask=(position < lengths).long()).last_hidden_state[:, :-1]
    logits = hidden.get_output_embeddings()(states[is_target]).float()  # (reply tokens, vocabulary)
    scored = torch.zeros(is_target.shape, device=model.device)
    scored[is_target] = logits.log_softmax(-1).gather(1, ids[:, 1:][is_target][:, None])[:, 0]
    return scored.sum(dim=1)


def _last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; one that a kill cut short is passed over."""
    if not folder.exists():
        return None
    for path in folder.glob("checkpoint-*"):
        if not (path / "trainer_state.json").exists():  # written last
            path.rename(path.with_name(f"cut-short-{path.name}-{time.time_ns()}"))
    found: str | None = get_last_checkpoint(str(folder))
    return found


class _Steps(TrainerCallback):  # type: ignore[misc]
    """Tells every step."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._on_step(state.global_step, state.max_steps)
