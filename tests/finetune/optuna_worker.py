"""A worker of a study that several processes share; see test_optuna.py."""

import sys

import numpy as np
import optuna

from finetune import Categorical, Condition, Float, SearchSpace
from finetune.optuna_sampler import TunerSampler

SPACE = SearchSpace(
    (
        Categorical("model", ("a", "b", "c")),
        Float("rate", 1e-4, 1.0, log=True),
        Float("layers", 1, 4, integer=True),
        Float("momentum", 0.0, 0.9, condition=Condition("model", ("a",))),
    )
)
NUM_EPOCHS = 9
SETTINGS = {"num_epochs": NUM_EPOCHS, "num_candidates": 40, "seed": 1}


def train(config, epoch):
    """A score of its own for each configuration."""
    level = 0.3 + 0.2 * (config["model"] == "b") - 0.02 * config["layers"]
    level += 0.1 * np.exp(-abs(np.log10(config["rate"]) + 2))
    return float(level * (1 - np.exp(-epoch / 3.0)))


def objective(trial):
    """A stretch of epochs of one configuration."""
    run = trial.study.sampler.start(trial)
    for epoch in run.epochs:
        if not run.report(train(run.config, epoch), epoch, seconds=1.0):
            break
    return run.best


def open_storage(name):
    """A journal file, or a database by its address."""
    if name.endswith(".journal"):
        backend = optuna.storages.journal.JournalFileBackend(name)
        return optuna.storages.JournalStorage(backend)
    return name


def make_study(storage, **settings):
    """The study that all processes share."""
    sampler = TunerSampler(SPACE, **{**SETTINGS, **settings})
    return optuna.create_study(
        study_name="shared",
        storage=storage,
        load_if_exists=True,
        direction=sampler.tuner.direction,
        sampler=sampler,
        pruner=sampler.pruner,
    )


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = make_study(open_storage(sys.argv[1]))
    study.optimize(objective, n_trials=int(sys.argv[2]))
