"""Small runs, for `benchmarks.faults` to kill, to interrupt and to starve.

Each says "started" once all is imported, and its digest when it has finished.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from jaxrl_runs.checkpoints import tree_sha256
from jaxrl_runs.commands import run_command
from jaxrl_runs.run_folder import holds_run
from jaxrl_runs.weight_files import read_weights


def evolution(out: Path) -> str:
    """Evolves an environment for CartPole, twenty-four generations."""
    import jaxrl_se

    config = jaxrl_se.EvolutionConfig(
        proxy=jaxrl_se.SyntheticConfig(hidden_sizes=(4,)),
        agent=jaxrl_se.DDQN(hidden_sizes=(8,), batch_size=8, buffer_size=64),
        train_steps=400,
        population_size=12,
        num_seeds=2,
        std=0.5,
        max_generations=24,
        validation_every=4,
        validation_agents=2,
        validation_episodes=2,
        group_size=2,
    )
    result = jaxrl_se.evolve(
        "CartPole-v1",
        config,
        out=out,
        resume=holds_run(out),
        checkpoint_every=2,
        progress=False,
    )
    rows = [
        [row["fitness_mean"], row["fitness_best"], float(row["real_steps"])]
        for row in result.progress.rows
    ]
    return tree_sha256((result.params, rows))


def world_model(out: Path) -> str:
    """Trains a tiny transformer, as `python -m oswm.train` does."""
    from oswm.network import NetworkConfig
    from oswm.pretraining import pretrain
    from oswm.training import STEPS_PER_CALL, TransformerTraining

    config = TransformerTraining(
        NetworkConfig(width=16, num_layers=1, num_heads=2, num_hidden=16),
        num_datasets=3,
        num_context=32,
        num_query=8,
        learning_rate=1e-2,
    )
    pretrain(
        out,
        config,
        steps=8 * STEPS_PER_CALL,
        num_validation=3,
        resume=holds_run(out),
        say=lambda line: None,
    )
    return tree_sha256(read_weights(out / "weights.npz")[1])


def finetuning(out: Path) -> str:
    """Fits surrogates, as `python -m finetune fit` does; it starts anew when killed."""
    import jax

    import finetune

    quick = finetune.MetaTrainConfig(num_steps=400, num_members=2)
    config = finetune.FitConfig(
        performance=quick,
        cost=finetune.MetaTrainConfig(num_steps=200, num_members=1),
        ranking=finetune.RankingConfig(num_steps=200, num_members=2),
        reference=None,
    )
    data = finetune.make_synthetic(num_datasets=4, num_runs=20, num_epochs=8)
    finetune.fit_surrogates(jax.random.key(0), data, config)[0].save(out)
    finetune.Surrogates.load(out)
    return tree_sha256(read_weights(out / "weights.npz")[1])


PROGRAMS: dict[str, Callable[[Path], str]] = {
    "evolution": evolution,
    "world_model": world_model,
    "finetuning": finetuning,
}


def main() -> None:
    """Reads the command line, sets limits, runs a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PROGRAMS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--file-limit", type=int, help="largest file, in bytes")
    parser.add_argument("--user", type=int, help="whose rights it has")
    given = parser.parse_args()
    import finetune  # noqa: F401
    import jaxrl_se  # noqa: F401

    if given.file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (given.file_limit,) * 2)
    if given.user is not None:
        os.seteuid(given.user)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("started", flush=True)
    run_command(
        lambda: print("digest", PROGRAMS[given.name](given.out)), "start it again"
    )


if __name__ == "__main__":
    main()
