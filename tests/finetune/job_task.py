"""Finetuning that takes no time, in a module that worker processes can import."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import finetune
from finetune import Categorical, Float, Outcome, SearchSpace

SPACE = SearchSpace(
    (Categorical("model", ("good", "bad")), Float("rate", 1e-4, 1.0, log=True))
)


def train_epoch(epoch):
    """Saturates; goes on from the checkpoint, and says so where it is another's."""
    state = {"epoch": 0, "config": epoch.config}
    if epoch.previous is not None:
        state = json.loads((epoch.previous / "state.json").read_text())
    assert state == {"epoch": epoch.number - 1, "config": epoch.config}
    (epoch.folder / "state.json").write_text(
        json.dumps({**state, "epoch": epoch.number})
    )
    level = 0.9 if epoch.config["model"] == "good" else 0.4
    level -= 0.1 * abs(np.log10(epoch.config["rate"]) + 2)
    return Outcome(level * (1 - 0.5**epoch.number), seconds=1.0)


def train_and_die(epoch):
    """As above; the process is killed in its 12th epoch, before anything is told."""
    count = Path(os.environ["COUNT"])
    done = int(count.read_text()) if count.exists() else 0
    count.write_text(str(done + 1))
    if done == 11:
        os.kill(os.getpid(), signal.SIGKILL)
    return train_epoch(epoch)


def misbehave(epoch):
    """Half of the runs die, hang or fail, each in its way."""
    kind = epoch.run % 6
    if kind == 0:
        raise RuntimeError("CUDA out of memory")
    if kind == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 2:
        time.sleep(60)
    if kind == 3:
        (epoch.folder / "device").write_text(os.environ["DEVICE"])
    return train_epoch(epoch)


if __name__ == "__main__":
    finetune.run(
        train_and_die,
        SPACE,
        budget=1e6,
        num_epochs=6,
        num_candidates=5,
        out=sys.argv[1],
        resume=len(sys.argv) > 2,
        progress=False,
    )
