"""Replays quicktunetool's optimiser on the datasets of one fold.

Started by `benchmarks.finetuning.peers` in an environment of its own, which has
quicktunetool and PyTorch but none of this project:
``python peers_worker.py FOLD.npz SECONDS ITERATIONS SEED``. The file holds
configurations as JSON, curves (fractions, NaN after the last epoch), seconds of each
epoch, the dataset of each run, meta-features, and which datasets are held out. It
writes one line of JSON per held-out dataset: seconds and best accuracies so far, number
of epochs that it asked for, CPU-seconds.
"""

import json
import logging
import os
import sys
import tempfile
import time

import numpy as np


def read(path):
    """Arrays, and configurations as a table with meta-features beside them."""
    import pandas

    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    table = pandas.DataFrame(json.loads(str(arrays["configs"])))
    for column in table.columns:
        if table[column].dtype == object or str(table[column].dtype) == "str":
            table[column] = table[column].astype(object).fillna("none").astype(str)
            table[column] = table[column].astype(object)
    names = json.loads(str(arrays["meta_names"]))
    metas = [
        dict(zip(names, map(float, row), strict=True))
        for row in arrays["meta_features"]
    ]
    return arrays, table, metas


def fit(arrays, table, metas, folder, iterations, seed):
    """The optimiser, meta-trained on the datasets that are not held out."""
    import pandas
    from qtt import CostPredictor, PerfPredictor

    rows = np.flatnonzero(~np.isin(arrays["dataset"], arrays["held_out"]))
    beside = pandas.DataFrame([metas[d] for d in arrays["dataset"][rows]])
    x = pandas.concat([table.iloc[rows].reset_index(drop=True), beside], axis=1)
    cost = np.nanmean(arrays["costs"][rows], 1, keepdims=True)
    settings = {"path": folder, "seed": seed, "verbosity": 0}
    most = {"max_iter": iterations}
    performance = PerfPredictor(most, **settings)
    performance.fit(x.copy(), arrays["curves"][rows])
    return performance, CostPredictor(**settings).fit(x.copy(), cost)


def replay(arrays, table, metas, dataset, predictors, limit, folder, seed):
    """Ask and tell on one dataset until the seconds are spent."""
    import ConfigSpace
    from qtt import QuickOptimizer

    performance, cost = predictors
    curves, costs = (
        arrays[name][arrays["dataset"] == dataset] for name in ("curves", "costs")
    )
    lengths = np.isfinite(curves).sum(1)
    optimizer = QuickOptimizer(
        ConfigSpace.ConfigurationSpace(),
        curves.shape[1],
        performance,
        cost,
        cost_aware=True,
        path=folder,
        seed=seed,
        verbosity=0,
    )
    mine = table[arrays["dataset"] == dataset].reset_index(drop=True)
    optimizer.setup_pandas(mine, metas[dataset])
    clock, best, found, num = 0.0, 0.0, [], 0
    while clock < limit and (trial := optimizer.ask()) is not None:
        run, epoch = int(trial["config-id"]), int(trial["fidelity"])
        clock += float(costs[run, epoch - 1])
        score = float(curves[run, epoch - 1])
        result = {"score": score, "cost": clock, "status": True, "info": {}}
        optimizer.tell({**trial, **result})
        if epoch >= lengths[run]:
            optimizer.stoped.add(run)  # the table has no more of it
        num += 1
        if score > best:
            best = score
            found.append((clock, best))
        if len(optimizer.stoped) == len(lengths):
            break
    return {"trace": found, "num_epochs": num, "ended": clock}


def main():
    """Fits once, and replays every held-out dataset."""
    import torch

    path, limit, iterations, seed = sys.argv[1:5]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the package prints must not be taken for an answer
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    arrays, table, metas = read(path)
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        given = (arrays, table, metas, folder, int(iterations), int(seed))
        predictors = fit(*given)
        fitted = time.process_time() - started
        for dataset in arrays["held_out"].tolist():
            started = time.process_time()
            found = replay(
                arrays,
                table,
                metas,
                dataset,
                predictors,
                float(limit),
                folder,
                int(seed),
            )
            found |= {
                "dataset": dataset,
                "cpu_seconds": time.process_time() - started,
                "fit_cpu_seconds": fitted,
            }
            answers.write(json.dumps(found) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
