"""The table of language-model runs: made in chunks, resumed, shipped and read."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import benchmarks.finetuning_lm.table as table_module
import finetune
from benchmarks.finetuning_lm.alone import epoch_operations, epoch_updates, fit_prices
from benchmarks.finetuning_lm.model import ModelConfig
from benchmarks.finetuning_lm.pretrain import PretrainConfig
from benchmarks.finetuning_lm.questions import SKILLS
from benchmarks.finetuning_lm.space import DEFAULT, SPACE
from benchmarks.finetuning_lm.table import TableConfig, make_chunks, make_table
from finetune.meta_features import text_meta_features
from finetune.run_tables import RunTable

TINY = TableConfig(
    num_chunks_lora=2,
    num_chunks_full=1,
    chunk_size=2,
    num_epochs=2,
    num_alone=1,
    skills=("copying", "multi_hop"),
    model=ModelConfig(width=8, num_layers=2, num_heads=2, num_hidden=16),
    pretraining=PretrainConfig(num_sequences=50, num_steps=50, batch_size=4),
)


class Killed(Exception):
    pass


@pytest.mark.slow  # resuming after a kill: `tests/finetune/test_job.py`
def test_a_table_made_after_a_kill_is_the_same(tmp_path, monkeypatch):
    whole = make_table(tmp_path / "whole", TINY)
    (tmp_path / "killed").mkdir()  # killed after pretraining, which is not done again
    shutil.copy(tmp_path / "whole" / "pretrained.npz", tmp_path / "killed")
    made = []
    real = table_module.train_chunk

    def dies_at_the_third(base, chunk, data, config):
        if len(made) == 2:
            raise Killed
        made.append(chunk.name)
        return real(base, chunk, data, config)

    monkeypatch.setattr(table_module, "train_chunk", dies_at_the_third)
    with pytest.raises(Killed):
        make_table(tmp_path / "killed", TINY)
    made.clear()

    def counted(base, chunk, data, config):
        made.append(chunk.name)
        return real(base, chunk, data, config)

    monkeypatch.setattr(table_module, "train_chunk", counted)
    again = make_table(tmp_path / "killed", TINY, resume=True)
    assert len(made) == 4  # of six chunks, two were there
    np.testing.assert_array_equal(again.data.curves, whole.data.curves)
    np.testing.assert_array_equal(again.losses, whole.losses)
    np.testing.assert_array_equal(again.data.vectors, whole.data.vectors)
    assert whole.data.num_runs == 12 and np.isfinite(whole.losses).any()
    summary = json.loads((tmp_path / "killed" / "summary.json").read_text())
    assert summary["parity"]["loss_median_relative_difference"] < 1e-3
    assert set(summary["zero_shot_exact_match"]) == set(TINY.skills)
    read = RunTable.load(tmp_path / "whole" / "table.npz")
    np.testing.assert_array_equal(read.data.curves, whole.data.curves)
    assert read.data.space == whole.data.space
    assert read.data.config(0) == pytest.approx(DEFAULT)


def test_each_dataset_has_its_own_runs_and_the_default():
    chunks = list(make_chunks(TINY))
    assert [c.name for c in chunks[:3]] == [
        "copying_lora_0",
        "copying_lora_1",
        "copying_full_0",
    ]
    first = {c.skill: c.configs for c in chunks if c.name.endswith("lora_0")}
    assert first["copying"][0] == first["multi_hop"][0] == DEFAULT
    assert first["copying"][1] != first["multi_hop"][1]


def test_operations_count_what_is_trained():
    model = ModelConfig(width=8, num_layers=2, num_heads=2, num_hidden=16)
    full = {k: v for k, v in DEFAULT.items() if not k.startswith("lora")}
    full["method"] = "full"
    of = {
        "full": epoch_operations(full, 10, model, 0),
        "frozen": epoch_operations({**full, "frozen_layers": 1}, 10, model, 0),
        "rank 1": epoch_operations({**DEFAULT, "lora_rank": 1}, 10, model, 0),
        "rank 8": epoch_operations(DEFAULT, 10, model, 0),
    }
    weights = 2 * (4 * 64 + 2 * 128) + 192 * 8
    attention = 2 * 2 * 16 * 8
    assert of["full"] == 16 * 10 * (6 * weights + 4 * attention)
    assert of["rank 1"] < of["rank 8"] < of["full"]
    assert of["frozen"] < of["full"]
    # query and value: 8 columns of 8 + 8 numbers in each of two layers
    assert of["rank 8"] - of["rank 1"] == 16 * 10 * 6 * (2 * 2 * 7 * 16)
    assert epoch_updates(DEFAULT, 33) == 3


def test_prices_are_found_again():
    random = np.random.default_rng(0)
    operations, updates = random.uniform(1e8, 1e9, 20), random.integers(1, 12, 20)
    seconds = 0.01 + 3e-11 * operations + 1e-3 * updates
    prices = fit_prices(operations, updates, seconds)
    np.testing.assert_allclose(prices.seconds(operations, updates), seconds, rtol=1e-6)
    assert prices.error < 1e-6
    rising = fit_prices(operations, updates, 3e-11 * operations - 1e-5 * updates)
    assert rising.per_update == 0.0


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="skills must be among"):
        dataclasses.replace(TINY, skills=("poetry",))
    with pytest.raises(ValueError, match="chunk_size must be an integer of at least"):
        dataclasses.replace(TINY, chunk_size=0)
    with pytest.raises(ValueError, match="num_steps must be a multiple of 50"):
        PretrainConfig(num_steps=51)
    with pytest.raises(ValueError, match=r"none\.npz: no such table of runs"):
        RunTable.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="format version None"):
        RunTable.load(tmp_path / "other.npz")
    with pytest.raises(ValueError, match=r"name must be one of \('lm-qa',\)"):
        finetune.load_table("lm")


def test_the_shipped_table_and_surrogates_belong_together():
    table = finetune.load_table("lm-qa")
    data, surrogates = table.data, finetune.load("lm-qa")
    assert "lm-qa" in finetune.available()
    assert data.space == SPACE == surrogates.space
    assert data.dataset_names == tuple(SKILLS) == tuple(surrogates.card["datasets"])
    assert (np.bincount(data.dataset) == 225).all()
    assert surrogates.card["num_runs"] == data.num_runs
    assert surrogates.num_epochs == data.num_epochs == 8
    _, names = text_meta_features(["a ?"], ["b"], 1.0)
    assert surrogates.meta_feature_names == data.meta_feature_names == names
    # exact match is a share of 64 questions, and no run lacks an epoch
    np.testing.assert_array_equal(data.curves * 64, np.round(data.curves * 64))
    default = SPACE.to_vector(DEFAULT)
    is_default = [np.array_equal(v, default, equal_nan=True) for v in data.vectors]
    np.testing.assert_array_equal(np.flatnonzero(is_default), np.arange(8) * 225)
    assert data.curves[data.dataset == 3].max() > 0.9  # copying is learned
    assert (data.curves.max(1) < 0.05).sum() > 200  # and many runs learn nothing
    operations = table.operations[data.dataset == 0]
    seconds = data.costs[data.dataset == 0, 0]
    assert np.corrcoef(operations, seconds)[0, 1] > 0.9
    tuner = finetune.Tuner(
        surrogates=surrogates, meta_features=data.meta_features[3], num_candidates=50
    )
    assert set(tuner.recommend(top=1)[0]) >= {"method", "learning_rate"}
