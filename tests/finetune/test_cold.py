"""A cold start: curves, responses, halving, and no worse than guessing."""

import time

import numpy as np
import pytest

import finetune
from benchmarks.finetuning.cold import Clock, run_halving, run_random, run_tuner
from benchmarks.finetuning.problems import draw_problem
from finetune import Categorical, ColdConfig, Float, SearchSpace
from finetune.cold import ColdPolicy
from finetune.curves import CurveModel, gaussian_gain
from finetune.response import Response, unit_columns
from finetune.rungs import RungModel, scores_at
from finetune.task_runs import TaskRuns

SPACE = SearchSpace(
    (Categorical("model", ("a", "b", "c")), Float("rate", 1e-4, 1.0, log=True))
)


def _curve(level, tau, num_epochs=20):
    return level * (1 - np.exp(-np.arange(1, num_epochs + 1) / tau))


@pytest.mark.parametrize("tau", [0.5, 4.0, 10.0])
def test_finished_runs_say_how_far_slow_starters_come(tau):
    # the pace of this task: the third run is known for two epochs
    curves = np.stack([_curve(0.7, tau), _curve(0.5, tau), _curve(0.9, tau)])
    lengths = np.array([20, 20, 2])
    model = CurveModel(20)
    model.refresh(curves, lengths)
    prior = np.full(1, model.level_mean), np.full(1, model.level_var)
    posterior = model.condition(curves[2:], lengths[2:], *prior)
    mean, std = model.moments(posterior, 0, np.array([20]))
    mean, std = model.low + model.scale * mean[0], model.scale * std[0]
    assert abs(mean - curves[2, -1]) < max(2 * std, 0.05)
    assert mean > 0.75 * curves[2, -1]


def test_gain_of_a_gaussian():
    random = np.random.default_rng(0)
    draws = random.normal(0.3, 0.2, 200_000)
    gain, chance = gaussian_gain(0.3, 0.2, 0.45)
    assert gain == pytest.approx(np.maximum(draws - 0.45, 0).mean(), rel=0.02)
    assert chance == pytest.approx((draws > 0.45).mean(), rel=0.02)


def test_responses_are_learned_and_observed_ones_left_out():
    random = np.random.default_rng(0)
    configs = SPACE.sample_distinct(random, 100)
    columns, owner = unit_columns(SPACE, configs)
    truth = np.array([(c["model"] == "a") + np.log10(c["rate"]) / 4 for c in configs])
    truth = (truth - truth.mean()) / truth.std()
    rows, noise = np.arange(40), np.full(40, 1e-3)
    response = Response(columns, owner, 0)
    for _ in range(20):
        mean, var = response.predict(rows, truth[rows], noise, 3)
    error = mean - truth
    assert np.sqrt((error[40:] ** 2).mean()) < 0.3
    assert ((error / np.sqrt(var)) ** 2).mean() < 3
    # what is said of row 0 does not depend on what was observed there
    twin = Response(columns, owner, 0)
    twin.particles = response.particles
    first = twin.predict(rows, truth[rows], noise, 0)[0]
    changed = truth[rows].copy()
    changed[0] += 3
    second = twin.predict(rows, changed, noise, 0)[0]
    assert first[0] == pytest.approx(second[0], abs=1e-6)
    assert abs(first[1] - second[1]) > 1e-6


def test_with_all_seconds_it_is_asynchronous_halving():
    problem = draw_problem(3, 60)
    full = np.nansum(problem.seconds, 1).mean()
    halving, tuner = Clock(problem, 5 * full), Clock(problem, 5 * full)
    run_halving(problem, halving)
    alone = ColdConfig(straight_on=0.0, random_every=1)
    run_tuner(problem, tuner, cold=alone)
    np.testing.assert_allclose(halving.times, tuner.times)
    np.testing.assert_allclose(halving.bests, tuner.bests)


def test_cold_start_finds_what_guessing_finds():
    """Reduced from `python -m benchmarks.finetuning_cold`: two problems, one seed."""
    best = []
    for seed in (5000, 5001):
        problem = draw_problem(seed, 60)
        full = np.nansum(problem.seconds, 1).mean()
        row = []
        for arm in (run_random, run_halving, run_tuner):
            clock = Clock(problem, 8 * full)
            arm(problem, clock)
            row.append(clock.at(np.geomspace(1, 8, 10) * full))
        best.append(row)
    random, halving, tuner = np.mean(best, (0, 2))
    assert tuner > max(random, halving) - 0.05


def test_same_history_same_choices_after_a_restart(tmp_path):
    def tuner(seed=0):
        return finetune.Tuner(SPACE, num_epochs=8, num_candidates=30, seed=seed)

    def train(tuner, num):
        chosen = []
        for _ in range(num):
            trial = tuner.suggest()
            chosen.append((trial.id, trial.epoch))
            if trial.id == 7:
                tuner.observe_failure(trial, 2.0)
                continue
            level = 0.2 + 0.6 * (trial.config["model"] == "b")
            tuner.observe(trial, _curve(level, 3.0, 8)[trial.epoch - 1], 1.0)
        return chosen

    whole, half = tuner(), tuner()
    train(whole, 40)
    train(half, 40)
    half.suggest()  # asked, never told
    half.save_history(tmp_path / "history.json")
    resumed = tuner(seed=9)
    resumed.load_history(tmp_path / "history.json")
    assert resumed.best == whole.best and not resumed.pending
    assert train(resumed, 30) == train(whole, 30)


def test_pending_trials_are_taken_into_account():
    tuner = finetune.Tuner(SPACE, num_epochs=8, num_candidates=30)
    for _ in range(12):
        trial = tuner.suggest()
        tuner.observe(trial, 0.1 * trial.epoch, 1.0)
    out = [tuner.suggest() for _ in range(4)]
    assert len({trial.id for trial in out}) == 4
    assert tuner.pending == out
    for trial in reversed(out):
        tuner.observe(trial, 0.3, 1.0)
    assert tuner.pending == []


def test_a_small_space_gives_each_configuration_once():
    space = SearchSpace((Categorical("a", (1, 2, 3)), Categorical("b", ("x", "y"))))
    tuner = finetune.Tuner(space, num_epochs=2)
    assert len(tuner.candidates) == 6
    chosen = [tuple(config.values()) for config in tuner.recommend(top=5)]
    assert len(set(chosen)) == 5
    assert len(tuner.recommend(top=50)) == 6
    assert tuner.add_candidates([tuner.candidates[4]]) == [4]
    done = set()
    for _ in range(12):
        trial = tuner.suggest()
        done.add((trial.id, trial.epoch))
        tuner.observe(trial, 0.5, 1.0)
    assert len(done) == 12
    with pytest.raises(RuntimeError, match="no open candidate"):
        tuner.suggest()
    assert tuner.should_stop


def test_thousands_of_choices_take_no_time():
    names = tuple(f"model-{i}" for i in range(5000))
    space = SearchSpace((Categorical("model", names), Float("rate", 1e-4, 1, log=True)))
    started = time.process_time()
    tuner = finetune.Tuner(space, num_epochs=5)
    for _ in range(3):
        tuner.observe(tuner.suggest(), 0.3, 1.0)
    assert time.process_time() - started < 5


def test_a_loss_of_any_scale_is_minimised():
    tuner = finetune.Tuner(SPACE, num_epochs=4, direction="minimize", num_candidates=9)
    losses = [3e5, 1e5, 2e5]
    for loss in losses:
        trial = tuner.suggest()
        tuner.observe(trial, loss, 1.0)
    assert tuner.best[1] == 1e5
    epochs, mean, std = tuner.predict(trial.id)
    assert epochs[-1] == 4 and (std > 0).all() and (mean > 0).all()


def test_halving_promotes_the_best_third():
    runs = TaskRuns(SPACE, 9, "maximize")
    runs.add(SPACE.sample_distinct(np.random.default_rng(0), 6))
    alone = ColdConfig(straight_on=0.0, random_every=1)
    policy = ColdPolicy(runs, config=alone)
    for run, value in ((0, 0.1), (1, 0.5), (2, 0.3)):
        assert policy.choose(runs) == run
        policy.follow(run, runs)
        runs.observe(run, value, 1.0, False)
        policy.observe(run, 1.0)
    assert policy.choose(runs) == 1
    policy.follow(1, runs)
    runs.observe(1, 0.6, 1.0, False)
    assert policy.choose(runs) == 1  # until the next rung, at 3 epochs
    runs.observe(1, 0.6, 1.0, False)
    assert policy.choose(runs) == 3


def test_scores_of_any_tail_are_scaled_and_back():
    random = np.random.default_rng(0)
    levels = np.r_[np.full(18, 0.01), 0.3, 1.0]  # most runs come to nothing
    curves = levels[:, None] * np.linspace(0.1, 1, 5) + random.normal(0, 1e-3, (20, 5))
    model = CurveModel(5)
    model.refresh(curves, np.full(20, 5))
    assert model.bend > 10
    scaled = model.scale_scores(curves)
    assert scaled.max() == pytest.approx(1.0)
    assert np.median(scaled.max(1)) == pytest.approx(1 / 3, abs=0.05)
    inside = scaled > -1
    np.testing.assert_allclose(model.unscale(scaled)[inside], curves[inside])
    even = np.linspace(0.1, 1, 20)[:, None] * np.linspace(0.1, 1, 5)
    model.refresh(even, np.full(20, 5))
    assert model.bend == 0.0


def test_guesses_of_unseen_runs_are_trusted_and_noise_is_not():
    runs = TaskRuns(SPACE, 9, "maximize")
    runs.add(SPACE.sample_distinct(np.random.default_rng(0), 60))
    level = [0.4 + 0.5 * (c["model"] == "b") for c in runs.configs]
    noise = np.random.default_rng(1).uniform(size=60)
    rungs = np.array([1, 3, 9])

    def learned(values):
        model = RungModel(rungs, 0, 6, 0.3, 100, 1.1)
        runs.lengths[:] = 0
        for run in range(30):
            runs.scores[run], runs.lengths[run] = values[run], 1
            model.learn(runs)
        return model

    guess = learned(level).best_guess()
    assert guess.epoch == 1 and guess.correlation > 0.5
    good = np.array([c["model"] == "b" for c in runs.configs])[30:]
    assert guess.value[30:][good].min() > guess.value[30:][~good].max()
    assert learned(noise).best_guess() is None


def test_the_highest_rung_that_says_something_decides():
    runs = TaskRuns(SPACE, 9, "maximize")
    runs.add(SPACE.sample_distinct(np.random.default_rng(0), 60))
    early = np.array([c["model"] == "a" for c in runs.configs], float)
    late = np.array([np.log10(c["rate"]) for c in runs.configs])
    runs.scores[:, 0], runs.scores[:, 1:] = early, 10 + late[:, None]
    runs.lengths[:40], runs.lengths[:12] = 1, 3
    model = RungModel(np.array([1, 3, 9]), 0, 6, 0.3, 100, 1.1)
    model.learn(runs)
    assert model.best_guess().epoch == 3
    runs.lengths[5:12] = 1  # five runs are too few
    model = RungModel(np.array([1, 3, 9]), 0, 6, 0.3, 100, 1.1)
    model.learn(runs)
    assert model.best_guess().epoch == 1


def test_failed_runs_count_as_the_worst_at_the_rung_they_missed():
    runs = TaskRuns(SPACE, 9, "minimize")
    runs.add(SPACE.sample_distinct(np.random.default_rng(0), 4))
    for run, losses in enumerate(([5.0, 4.0, 3.0], [2.0], [1.0, 9.0, 9.0])):
        for loss in losses:
            runs.observe(run, loss, 1.0, False)
    runs.fail(1, 0.0)
    rungs = np.array([1, 3, 9])
    rows, scores = scores_at(runs, rungs, 0)
    assert rows.tolist() == [0, 1, 2] and scores.tolist() == [-5.0, -2.0, -1.0]
    rows, scores = scores_at(runs, rungs, 1)
    assert rows.tolist() == [0, 1, 2] and scores.tolist() == [-3.0, -np.inf, -1.0]
    runs.fail(3, 0.0)
    rows, scores = scores_at(runs, rungs, 0)
    assert rows.tolist() == [0, 1, 2, 3] and scores[3] == -np.inf


def test_reasons_are_given_and_one_start_in_three_is_as_drawn():
    tuner = finetune.Tuner(SPACE, num_epochs=27, num_candidates=60)
    reasons, finished = [], None
    for number in range(120):
        trial = tuner.suggest()
        reasons.append(trial.reason)
        if trial.epoch == 27 and finished is None:
            finished = number
        tuner.observe(trial, 0.2 + 0.5 * (trial.config["model"] == "b"), 1.0)
    drawn = sum("as drawn" in r for r in reasons)
    guessed = sum("rank correlation" in r for r in reasons)
    assert guessed > 10 and 6 <= drawn < 6 + guessed
    assert any("in the best" in r for r in reasons)
    straight = [i for i, r in enumerate(reasons) if "straight on" in r]
    assert finished is not None and len(straight) >= 5
    assert max(straight) <= finished  # until something is finished
