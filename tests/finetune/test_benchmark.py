"""Parts of the benchmark that need no long run."""

import json

import numpy as np
import pytest

from benchmarks.finetuning.arms import GRID, METHODS
from benchmarks.finetuning.quality import by_length
from benchmarks.finetuning.report import (
    compare_refit,
    interval,
    summarise,
    write_tables,
)
from benchmarks.finetuning.stages import Stages
from jaxrl_runs import RunFolder, RunFolderError


def test_finished_stages_are_kept_and_not_computed_again(tmp_path):
    with RunFolder(tmp_path, {"num_seeds": 2}) as folder:
        stages = Stages(folder)
        first = stages.arrays("a", lambda: {"x": np.arange(3)})
        stages.table("b", lambda: {"y": [1, 2]})

    def fail():
        raise AssertionError("computed again")

    with RunFolder(tmp_path, {"num_seeds": 2}, resume=True) as folder:
        again = Stages(folder)
        np.testing.assert_array_equal(again.arrays("a", fail)["x"], first["x"])
        assert again.table("b", fail) == {"y": [1, 2]}
    for settings, resume in (({"num_seeds": 3}, True), ({"num_seeds": 2}, False)):
        with pytest.raises(RunFolderError, match=r"another config|already holds a run"):
            RunFolder(tmp_path, settings, resume=resume)
    assert (tmp_path / "stages" / "a.npz").exists()


def test_summary_is_laid_out_by_method_and_hours(tmp_path):
    random = np.random.default_rng(0)
    regret = {
        name: random.uniform(size=(5, 2, 1 if name == "asha" else 2, len(GRID)))
        for name in METHODS
    }
    for values in regret.values():
        values[:] = np.sort(values, -1)[..., ::-1]
    regret["refit"] = regret["no_refit_meta"] + 0.1
    summary = json.loads(json.dumps(summarise(regret)))
    assert set(summary["regret"]) == set(METHODS)
    for name in METHODS:
        assert set(summary["regret"][name]) == {"1h", "4h", "8h", "16h"}
        mean = summary["regret"][name]["16h"]
        low, high = summary["regret_interval"][name]["16h"]
        assert low < mean < high
        assert mean == pytest.approx(regret[name][:, :, 0, -1].mean())
    ranks = [summary["rank"][name]["1h"] for name in METHODS]
    assert sum(ranks) == pytest.approx(sum(range(1, len(METHODS) + 1)))
    difference = compare_refit(regret)["no_refit_meta"]["overhead_counted"]["4h"]
    assert difference["mean"] == pytest.approx(0.1)
    row = {"mse": 0.01, "mse_interval": [0.0, 0.02]}
    write_tables(
        {
            **summary,
            "is_no_refit_better": compare_refit(regret),
            "zero_shot_choice": {
                "random": {"top_1": {"mean": 0.5, "interval": [0.4, 0.6]}}
            },
            "surrogate_quality": {"persistence": {"all": row}},
            "language_models": {"flan": {"4": {"ours": {"rmse": 0.2, "pearson": 0.9}}}},
            "cpu_seconds_of": {},
        },
        tmp_path / "tables.md",
    )
    lines = (tmp_path / "tables.md").read_text().splitlines()
    assert sum(line.startswith("| refit |") for line in lines) == 1
    assert "| random | 0.500 (0.400..0.600) |" in lines
    assert "| persistence | 0.0100 (0.0000..0.0200) |" in lines
    assert "| flan, ours | 0.200 / 0.90 |" in lines


def test_interval_covers_the_mean():
    random = np.random.default_rng(1)
    samples = random.exponential(size=(200, 20))
    covered = [low < 1 < high for low, high in map(interval, samples)]
    assert 0.85 < np.mean(covered) < 0.99


def test_errors_are_split_by_known_epochs():
    known = np.array([[0, 0, 2, 30], [0, 5, 5, 5]])
    mse = np.array([[[1, 3, 5, 7]], [[2, 4, 4, 4]]], float)
    found = by_length({"known": known, "ours/mse": mse})["ours"]
    assert found["all"]["mse"] == mse.mean()
    assert found["none"]["mse"] == 2 and found["none"]["count"] == 3
    assert found["1-3"]["mse"] == 5 and found["11+"]["mse"] == 7
    assert found["4-10"]["mse"] == 4
