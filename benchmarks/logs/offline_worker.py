"""Trains an agent of d3rlpy on a log, then answers observations with actions.

Started by `benchmarks.logs.offline_rl` in an environment of its own, which has d3rlpy
and PyTorch but none of this project: `python offline_worker.py LOG NAME UPDATES SEED`.
It writes one line of JSON when the agent is trained. After that every array of
observations `[N, D]` on its input is answered by one of actions: eight bytes of length,
then numpy's format. The other end, which cannot be imported here, imports these two
functions.
"""

import io
import json
import os
import random
import sys
import time

import numpy as np


def send(stream, array):
    """Writes an array to a pipe."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    stream.write(len(content.getvalue()).to_bytes(8, "little") + content.getvalue())
    stream.flush()


def receive(stream):
    """Reads an array from a pipe; None where it has ended."""
    length = stream.read(8)
    if len(length) < 8:
        return None
    content = stream.read(int.from_bytes(length, "little"))
    return np.load(io.BytesIO(content), allow_pickle=False)


def dataset_of(path):
    """The rows as d3rlpy takes them: episodes, split where flags say so."""
    import d3rlpy

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
    import d3rlpy
    import torch

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
    while (obs := receive(sys.stdin.buffer)) is not None:
        send(answers, np.asarray(algorithm.predict(obs)))


if __name__ == "__main__":
    main()
