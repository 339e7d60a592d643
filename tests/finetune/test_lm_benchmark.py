"""The comparison on the table of language-model runs: what needs no meta-training."""

import dataclasses

import numpy as np
import pytest

from benchmarks.finetuning.arms import GRID, HOURS, at_hours
from benchmarks.finetuning_lm.arms import (
    REFERENCE_FEATURES,
    reference_layout,
    run_default,
    with_hours,
)
from benchmarks.finetuning_lm.benchmark import Args, few_runs, run
from benchmarks.finetuning_lm.report import METHODS, OTHERS, compare, describe
from benchmarks.finetuning_lm.space import DEFAULT, SPACE, draw_configs
from finetune.meta_dataset import MetaDataset
from finetune.reference import FIRST_BLOCK
from finetune.simulate import make_tables

NAMES = (*REFERENCE_FEATURES[:2], "vocabulary_size", *REFERENCE_FEATURES[2:])


@pytest.fixture(scope="module")
def data():
    """Two datasets of twelve runs; the default reaches .5, others up to .9."""
    random = np.random.default_rng(0)
    vectors = []
    for _ in range(2):
        drawn = draw_configs(random, 8, 4)
        configs = [*drawn["lora"], *drawn["full"]]
        vectors += [SPACE.to_vector(c) for c in configs]
    final = np.tile(np.r_[0.5, np.linspace(0.1, 0.9, 11)], 2)
    return MetaDataset(
        SPACE,
        np.stack(vectors),
        final[:, None] * np.array([0.5, 1.0]),
        np.full((24, 2), 0.25),
        np.repeat([0, 1], 12),
        ("first", "second"),
        np.arange(10.0).reshape(2, 5),
        NAMES,
    )


def test_hours_are_stretched_seconds(data):
    stretched, factor = with_hours(data, 30)
    assert factor == pytest.approx(3600)
    np.testing.assert_allclose(stretched.costs.sum(1).mean(), 1800)


def test_the_default_comes_first_and_then_random_ones(data):
    stretched, _ = with_hours(data, 30)
    regret = run_default(stretched, make_tables(stretched), 3)
    assert regret.shape == (2, 3, 1, len(GRID))
    worst, best = 0.05, 0.9
    after_one = regret[..., GRID >= 1800][..., 0]  # one run: the default's .5
    np.testing.assert_allclose(after_one, (best - 0.5) / (best - worst), atol=1e-5)
    np.testing.assert_allclose(regret[..., -1], 0, atol=1e-6)
    at_four = at_hours(regret)[..., 1]
    assert at_four.std() > 0  # the random ones differ between seeds
    others = ~np.array(
        [
            np.array_equal(v, SPACE.to_vector(DEFAULT), equal_nan=True)
            for v in data.vectors
        ]
    )
    with pytest.raises(ValueError, match="data must hold the default"):
        few = data.select(others)
        run_default(few, make_tables(few), 1)


def test_the_reference_gets_four_features_and_enough_columns(data):
    few, zeros = reference_layout(data)
    assert few.meta_feature_names == REFERENCE_FEATURES
    np.testing.assert_array_equal(few.meta_features[0], [0, 1, 3, 4])
    assert zeros.shape == (24, FIRST_BLOCK + 8 - SPACE.num_columns)


def test_few_runs_keep_the_default(data):
    few = few_runs(data, 1, 3)
    assert few.num_runs == 3 and few.dataset_names == ("first",)
    assert describe(few)["first"]["default"] == pytest.approx(0.5)
    assert describe(data)["second"]["best"] == pytest.approx(0.9)


def test_differences_are_paired_by_dataset():
    random = np.random.default_rng(0)
    ours = np.sort(random.uniform(size=(5, 2, 1, len(GRID))))[..., ::-1]
    regret = dict.fromkeys(METHODS, ours) | dict.fromkeys(OTHERS, ours + 0.25)
    found = compare(regret)
    assert set(found) == {"no_refit_history", "no_refit_meta"}
    for other in OTHERS:
        for hour in HOURS:
            row = found["no_refit_history"][other][f"{hour}h"]
            assert row["mean"] == pytest.approx(0.25)
            assert row["interval"][0] == pytest.approx(0.25)


def test_bad_options_are_refused(tmp_path):
    for changes, message in (
        ({"num_seeds": 0}, "num_seeds must be 1 or more"),
        ({"minutes_per_run": 0.0}, "minutes_per_run must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Args(**changes)
    with pytest.raises(ValueError, match="say which run with --out DIR"):
        run(Args(resume=True))
    with pytest.raises(ValueError, match=r"x\.npz: no such table"):
        run(Args(table=tmp_path / "x.npz", out=tmp_path / "run"))
    quick = dataclasses.replace(Args(), quick=True)
    assert quick.seeds == 2 and quick.fit_config().performance.num_steps == 200
