"""The tuner as Optuna's sampler and pruner: the same choices, over processes."""

import os
import subprocess
import sys

import numpy as np
import pytest

import finetune

optuna = pytest.importorskip("optuna")

import optuna_worker as worker

from finetune.optuna_sampler import TunerSampler

optuna.logging.set_verbosity(optuna.logging.WARNING)


def _epochs(study):
    """What was trained, in order."""
    return [
        (trial.system_attrs["finetune:claim"]["run"], step)
        for trial in study.trials
        for step in sorted(trial.intermediate_values)
    ]


def _tuner_epochs(num):
    tuner = finetune.Tuner(worker.SPACE, **worker.SETTINGS)
    chosen = []
    while len(chosen) < num:
        trial = tuner.suggest()
        chosen.append((trial.id, trial.epoch))
        tuner.observe(trial, worker.train(trial.config, trial.epoch), 1.0)
    return chosen, tuner


def test_same_choices_as_the_tuner():
    study = worker.make_study(None)
    study.optimize(worker.objective, n_trials=25)
    chosen = _epochs(study)
    wanted, tuner = _tuner_epochs(len(chosen))
    assert chosen == wanted and len(chosen) > 30
    assert study.best_value == tuner.best[1]
    assert study.best_params == pytest.approx(tuner.best[0])
    assert {t.state.name for t in study.trials} == {"COMPLETE"}


@pytest.mark.parametrize(
    "name",
    [
        "shared.journal",
        pytest.param("sqlite:///{}/shared.db", marks=pytest.mark.slow),
    ],
)
def test_two_processes_share_a_study(tmp_path, name):
    name = name.format(tmp_path) if "{}" in name else str(tmp_path / name)
    worker.make_study(worker.open_storage(name))  # the tables exist before both start
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, worker.__file__, name, "6"]
    both = [subprocess.Popen(command, env=env) for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    study = worker.make_study(worker.open_storage(name))
    epochs = _epochs(study)
    assert len(study.trials) == 12
    assert len(set(epochs)) == len(epochs)  # nobody trained what another one did
    for run in {run for run, _ in epochs}:
        steps = sorted(step for r, step in epochs if r == run)
        assert steps == list(range(1, len(steps) + 1))
    # a third process goes on from all of it
    study.optimize(worker.objective, n_trials=1)
    assert len(study.sampler.tuner.history()["events"]) >= 2 * len(epochs)


def test_plain_report_and_should_prune_do_the_same():
    study = worker.make_study(None)

    def objective(trial):
        run = study.sampler.start(trial)
        for epoch in run.epochs:
            trial.set_user_attr(f"finetune:seconds:{epoch}", 1.0)
            trial.report(worker.train(run.config, epoch), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return worker.train(run.config, worker.NUM_EPOCHS)

    study.optimize(objective, n_trials=15)
    assert _epochs(study) == _tuner_epochs(len(_epochs(study)))[0]


def test_failures_and_early_ends_are_not_chosen_again():
    study = worker.make_study(None, num_candidates=4)

    def objective(trial):
        run = study.sampler.start(trial)
        for epoch in run.epochs:
            if run.id == 0:
                raise MemoryError
            if run.id == 1 and epoch == 2:
                return run.best  # by itself
            score = np.nan if run.id == 2 else worker.train(run.config, epoch)
            if not run.report(score, epoch, seconds=1.0):
                break
        return run.best

    study.optimize(objective, n_trials=60, catch=(MemoryError,))
    epochs = _epochs(study)
    assert len(study.trials) < 60  # nothing is left: the study stops
    assert [e for e in epochs if e[0] in (0, 1, 2)] == [(1, 1), (2, 1)]
    assert [e for e in epochs if e[0] == 3] == [(3, k) for k in range(1, 10)]


def test_a_loss_is_minimised_in_either_order_of_scale():
    study = worker.make_study(None, direction="minimize")

    def objective(trial):
        run = study.sampler.start(trial)
        for epoch in run.epochs:
            loss = 1e4 * (1 - worker.train(run.config, epoch))
            if not run.report(loss, epoch, seconds=1.0):
                break
        return run.best

    study.optimize(objective, n_trials=20)
    told = [v for t in study.trials for v in t.intermediate_values.values()]
    assert study.best_value == min(told)
    assert _epochs(study) == _tuner_epochs(len(told))[0]  # a shift of the scores


def test_bad_studies_are_refused():
    sampler = TunerSampler(worker.SPACE, **worker.SETTINGS)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    with pytest.raises(ValueError, match="direction must be 'maximize'"):
        study.ask()
    storage = optuna.storages.InMemoryStorage()
    worker.make_study(storage).ask()
    with pytest.raises(ValueError, match="settings must be those"):
        worker.make_study(storage, seed=2).ask()
    study = worker.make_study(optuna.storages.InMemoryStorage())
    study.enqueue_trial({"model": "a"})
    with pytest.raises(ValueError, match="enqueue_trial cannot be used"):
        study.ask()
    trial = worker.make_study(optuna.storages.InMemoryStorage()).ask()
    with pytest.raises(ValueError, match=r"use sampler\.start"):
        trial.suggest_float("unknown", 0, 1)
