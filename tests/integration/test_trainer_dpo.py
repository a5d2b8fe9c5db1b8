"""Training with the real TRL and PEFT on a tiny model."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from ingest.events import FunctionCall, Message, ToolCall
from tests.services.rounds import manifest, pair
from tests.standins.model import write_model
from trainer.errors import CannotTrain
from trainer.manifest import FrozenPair, Manifest

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of TRL's and Transformers' own imports and calls
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
TRAINING = {"batch_pairs": 4, "max_length": 128, "learning_rate": 5e-3}
PAIRS = [pair(number) for number in range(24)]
HELD_OUT = [pair(number) for number in range(100, 106)]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on busy cores are many times slower."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture(scope="module")
def parent(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent")
    _train(manifest(model, PAIRS, training=TRAINING), folder)
    return folder / "draft"


def test_a_round_makes_held_out_chosen_replies_more_likely_than_rejected_ones(model: Path, parent: Path) -> None:
    from trainer import dpo

    before = dpo.margins(str(model), None, HELD_OUT, 128)
    after = dpo.margins(str(model), parent, HELD_OUT, 128)
    assert all(a is not None and b is not None and a > b + 1 for a, b in zip(after, before, strict=True))


def test_an_adapter_has_the_shape_that_the_engine_was_started_for(parent: Path) -> None:
    config = json.loads((parent / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (8, 16, "LORA")
    assert set(config["target_modules"]) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    weights = load_file(parent / "adapter_model.safetensors")
    assert {name.split(".")[-3] for name in weights} == set(config["target_modules"])
    assert not any(".default." in name for name in weights)


@pytest.mark.parametrize("reference", ["base", "parent"])
def test_a_round_goes_on_from_its_parent_whatever_its_reference(
    model: Path, parent: Path, tmp_path: Path, reference: str
) -> None:
    from trainer import dpo

    barely = TRAINING | {"reference": reference, "learning_rate": 1e-9, "epochs": 1}
    _train(manifest(model, PAIRS, parent=parent, training=barely), tmp_path)
    first, second = (dpo.margins(str(model), home, HELD_OUT, 128) for home in (parent, tmp_path / "draft"))
    assert second == pytest.approx(first, rel=0.05)


def test_the_reference_is_the_base_model_or_the_parent_as_the_settings_say(model: Path, parent: Path, tmp_path: Path) -> None:
    margins = {}
    for reference in ("base", "parent"):
        barely = TRAINING | {"reference": reference, "learning_rate": 1e-9, "epochs": 1}
        made = _train(manifest(model, PAIRS, parent=parent, training=barely), tmp_path / reference)
        margins[reference] = made.margin
    assert margins["parent"] == pytest.approx(0, abs=0.5)
    assert margins["base"] > 1


@pytest.mark.parametrize("reference", ["base", "parent"])
def test_a_training_cut_short_goes_on_from_its_last_whole_checkpoint(
    model: Path, parent: Path, tmp_path: Path, reference: str
) -> None:
    plan = manifest(model, PAIRS, parent=parent, training=TRAINING | {"reference": reference, "epochs": 4})
    _train(plan, tmp_path)
    whole = load_file(tmp_path / "draft" / "adapter_model.safetensors")
    shutil.rmtree(tmp_path / "draft")
    checkpoints = sorted((tmp_path / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (checkpoints[-1] / "trainer_state.json").unlink()  # what a kill in the middle of saving leaves

    steps: list[int] = []
    _train(plan, tmp_path, steps)

    assert steps == [21, 22, 23, 24]
    again = load_file(tmp_path / "draft" / "adapter_model.safetensors")
    assert all(again[name] == pytest.approx(whole[name], abs=1e-3) for name in whole)


def test_pairs_that_do_not_fit_are_left_out_and_counted(model: Path, tmp_path: Path) -> None:
    long = pair(500, rejected="far " * 300)
    made = _train(manifest(model, [*PAIRS, long], training=TRAINING | {"epochs": 1}), tmp_path)
    assert (made.pairs, made.too_long) == (24, 1)


def test_a_round_without_a_pair_that_fits_says_so(model: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotTrain, match="max_length"):
        _train(manifest(model, [pair(500, rejected="far " * 300)], training=TRAINING), tmp_path)


def test_replies_that_call_tools_are_trained_on_beside_replies_of_text(model: Path, tmp_path: Path) -> None:
    call = ToolCall(function=FunctionCall(name="weather", arguments='{"city": "Oslo"}'))
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    calling = FrozenPair(
        id="c",
        prompt=(Message(role="user", content="weather in Oslo?"),),
        tools=(tool,),
        chosen=Message(role="assistant", tool_calls=(call,)),
        rejected="I do not know.",
        source="edit",
    )
    assert _train(manifest(model, [*PAIRS[:3], calling], training=TRAINING), tmp_path).pairs == 4


def _train(plan: Manifest, folder: Path, steps: list[int] | None = None):  # type: ignore[no-untyped-def]
    from trainer import dpo

    return dpo.train(plan, folder, folder / "draft", lambda step, _: steps.append(step) if steps is not None else None)
