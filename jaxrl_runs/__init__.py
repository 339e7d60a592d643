"""What lasts, for every package here: run folders, checkpoints, devices, statistics.

It imports none of the other packages.

* `RunFolder` is the one folder format: a lock, an identity, metrics,
  checkpoints with checksums, resume;
* `jaxrl_runs.checkpoints` keeps arrays so that damage is noticed;
* `jaxrl_runs.devices` spreads a population over a mesh;
* `jaxrl_runs.statistics` gives means, interquartile means and intervals.
"""

from jaxrl_runs.devices import map_agents, population_mesh
from jaxrl_runs.run_folder import RunFolder, RunFolderError, next_run_folder
from jaxrl_runs.statistics import (
    ReturnStatistics,
    bootstrap_ci95,
    interquartile_mean,
    steps_to_solve,
    summarize,
)

__all__ = [
    "ReturnStatistics",
    "RunFolder",
    "RunFolderError",
    "bootstrap_ci95",
    "interquartile_mean",
    "map_agents",
    "next_run_folder",
    "population_mesh",
    "steps_to_solve",
    "summarize",
]
