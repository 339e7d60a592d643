"""Makes the first picture of the README: `python docs/make_cartpole_picture.py`.

One run of the CartPole benchmark, with CartPole-v0 on both sides.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path

from benchmarks.launch import SMALL_PROGRAMS, configure

configure(SMALL_PROGRAMS)

from benchmarks.synthetic.benchmark import Options, run
from benchmarks.synthetic.cartpole import CARTPOLE


def main() -> None:
    """Evolves, tests, draws and puts the picture among the site's."""
    configs = {"one-step": CARTPOLE.configs["one-step"].replace(stop_return=199.5)}
    benchmark = dataclasses.replace(
        CARTPOLE, task="CartPole-v0", easier=None, configs=configs
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run(benchmark, Options(out=out))
        picture = Path(__file__).parent / "pictures" / "cartpole.png"
        shutil.copy(out / "learning_curves.png", picture)


if __name__ == "__main__":
    main()
