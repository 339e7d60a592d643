"""The live example, on a small budget."""

import importlib
from pathlib import Path

import numpy as np
import pytest

import finetune

EXAMPLES = Path(__file__).parents[2] / "examples"
pytest.importorskip("sklearn")


def test_digits_run_can_be_frozen_and_thawed(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    digits = importlib.import_module("finetuning_digits")
    pretraining, past, target = digits.load_tasks()
    # one size compiles once
    monkeypatch.setattr(digits, "WIDTHS", {"narrow": 64, "wide": 64})
    networks = digits.pretrain(pretraining, num_epochs=1)
    config = {
        "model": "narrow",
        "method": "low_rank",
        "rank": 2.0,
        "learning_rate": 3e-3,
        "schedule": "cosine",
        "weight_decay": 0.0,
    }
    run = digits.Run(networks, target, config)
    values = [run.train()[0] for _ in range(3)]
    assert values[-1] > 0.7
    kept = np.array_equal(run.network[0]["w"], networks["narrow"][0]["w"])
    assert kept and np.abs(run.network[0]["up"][:2]).sum() > 0
    assert np.abs(run.network[0]["up"][2:]).sum() == 0
    assert digits.collect(networks, past[:2], 2).num_runs == 4


@pytest.mark.parametrize("name", ["flax_digits", "lora_text", "timm_images"])
def test_recipes_are_short(name):
    lines = (EXAMPLES / "finetuning" / f"{name}.py").read_text().splitlines()
    assert len(lines) < 100


def test_the_flax_recipe_goes_on_from_its_checkpoints(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES / "finetuning")
    flax_digits = importlib.import_module("flax_digits")
    result = finetune.run(
        flax_digits.train_epoch,
        flax_digits.SPACE,
        budget=1e6,
        out=tmp_path,
        num_epochs=2,
        num_candidates=3,
        stop_below=0.0,
        progress=False,
    )
    assert [row["failure"] for row in result.log] == [""] * 6
    assert result.score > 0.5 and (result.checkpoint / "state.msgpack").exists()
