"""Trains an agent of d3rlpy on a log, then answers observations with actions.

Started by `benchmarks.logs.offline_rl` in an environment of its own, which has d3rlpy
and PyTorch but none of this project: `python offline_worker.py LOG NAME UPDATES SEED`.
It writes one line of JSON when the agent is trained. After that every array of
observations `[N, D]` on its input (numpy's format) is answered by one of actions.
"""

import json
import os
import random
import sys
import time

import d3rlpy  # pyright: ignore[reportMissingImports]
import numpy as np
import torch  # pyright: ignore[reportMissingImports]


def dataset_of(path):
    """The rows as d3rlpy takes them: episodes, split where flags say so."""
    with np.load(path, allow_pickle=False) as rows:
        return d3rlpy.dataset.MDPDataset(
            observations=rows["obs"],
            actions=rows["action"],
            rewards=rows["reward"],
            terminals=rows["terminated"],
            timeouts=rows["truncated"],
        )


def main():
    """Trains, says so, and answers until the input ends."""
    path, name, updates, seed = sys.argv[1:5]
    # What d3rlpy prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    d3rlpy.seed(int(seed))
    random.seed(int(seed))
    torch.set_num_threads(1)
    started = time.process_time()
    algorithm = getattr(d3rlpy.algos, f"{name}Config")().create(device="cpu")
    algorithm.fit(
        dataset_of(path),
        n_steps=int(updates),
        n_steps_per_epoch=int(updates),
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        show_progress=False,
    )
    done = {"cpu_seconds": time.process_time() - started, "d3rlpy": d3rlpy.__version__}
    answers.write(json.dumps(done).encode() + b"\n")
    answers.flush()
    questions = os.fdopen(0, "rb")
    while questions.peek(1):
        obs = np.load(questions, allow_pickle=False)
        np.save(answers, np.asarray(algorithm.predict(obs)), allow_pickle=False)
        answers.flush()


if __name__ == "__main__":
    main()
