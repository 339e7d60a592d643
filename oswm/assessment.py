"""How good a world model is, and how sure, on rows that it has not seen: `assess`."""

from __future__ import annotations

import dataclasses
import warnings

import jax
import numpy as np
from gymnax.environments import spaces

from envs import in_order
from oswm.context import Context
from oswm.environment import WorldModelEnv, WorldModelParams
from oswm.inputs import Log, read_log
from oswm.progress import told

LEVELS = (0.5, 0.9)


@dataclasses.dataclass(frozen=True)
class Assessment:
    """Predictions of one step beside what happened.

    Attributes:
        num_rows: Rows that were asked about.
        error: Mean squared error of the change of each observation, then of the reward,
            over its variance in these rows, float64 [S + 1]; NaN where nothing varies.
        inside: Shares of what happened in the central 50 and 90 % of what was
            predicted, float64 [S + 1, 2]; NaN likewise. Of the reward, without what
            ends pay.
        ends_found: Share of the rows that end an episode which are predicted to; NaN
            without any.
        ends_made_up: Share of the other rows which are predicted to.
        ends: How many rows end an episode.
        ends_expected: The sum of all predicted probabilities of an end, which says
            more where ends happen by chance.
    """

    num_rows: int
    error: np.ndarray
    inside: np.ndarray
    ends_found: float
    ends_made_up: float
    ends: int
    ends_expected: float

    def __str__(self) -> str:
        """A line for each observation, the reward and the ends."""
        names = [f"observation {i}" for i in range(len(self.error) - 1)] + ["reward"]
        lines = [
            f"{self.num_rows:,} rows; squared error of what changes over its variance, "
            "shares inside the central 50 and 90 %"
        ]
        for name, error, (half, most) in zip(
            names, self.error, self.inside, strict=True
        ):
            shown = f"{error:.2g}, {half:.0%} and {most:.0%}"
            lines.append(f"{name}: {'never changes' if np.isnan(error) else shown}")
        found = "none here" if np.isnan(self.ends_found) else f"{self.ends_found:.0%}"
        lines.append(
            f"ends found: {found}; made up: {self.ends_made_up:.1%}; {self.ends} "
            f"happened, {self.ends_expected:.1f} were expected"
        )
        return "\n".join(lines)


def assess(
    env: WorldModelEnv,
    params: WorldModelParams,
    log: Log,
    *,
    progress: bool | None = None,
) -> Assessment:
    """Compare a world model's predictions with rows that it was not made of.

    Args:
        env: Of `condition`.
        params: Likewise.
        log: Rows of the same task, in any form that `condition` takes.
        progress: As for `condition`.

    Raises:
        ValueError: The rows are not of the environment's task.
    """
    space = env.action_space(params)
    # The bounds of continuous ones may be those of the log that the model was made of.
    is_discrete = isinstance(space, spaces.Discrete)
    with warnings.catch_warnings():
        # They are about logs that a model is made of.
        warnings.simplefilter("ignore", UserWarning)
        rows = Context.of(in_order(read_log(log)), space if is_discrete else None)
    size = rows.obs_size
    if size != env.obs_size:
        raise ValueError(
            f"log must have observations of size {env.obs_size}, as the environment, "
            f"got {size}"
        )
    what = f"oswm: asking {type(env.model).__name__} about {rows.num_rows:,} rows"
    with told(what, progress):
        found = jax.block_until_ready(env.predict(params, rows.obs, rows.action))
    paid = rows.terminated * env.end_pay(params, rows.next_obs, rows.action)
    expected = env.end_pay(params, found.next_obs_mean, rows.action)
    expected = found.reward_mean + found.terminated_prob * expected
    below = found.cdf(rows.next_obs, rows.reward - paid)
    changes = np.column_stack([rows.next_obs - rows.obs, rows.reward])
    mean = np.column_stack([found.next_obs_mean, expected])
    happened = np.column_stack([rows.next_obs, rows.reward]).astype(np.float64)
    variance = changes.astype(np.float64).var(axis=0)
    is_live = variance > 1e-12 * np.square(np.abs(happened).max(axis=0))
    error = np.square(mean - happened).mean(axis=0)
    central = np.abs(2 * np.asarray(below, np.float64) - 1)
    inside = np.stack([np.mean(central <= level, axis=0) for level in LEVELS], axis=1)
    is_end = np.asarray(rows.terminated) > 0
    chance = np.asarray(found.terminated_prob, np.float64)
    said = chance > 0.5
    return Assessment(
        num_rows=len(happened),
        error=np.where(is_live, error / np.where(is_live, variance, 1.0), np.nan),
        inside=np.where(is_live[:, None], inside, np.nan),
        ends_found=float(said[is_end].mean()) if is_end.any() else float("nan"),
        ends_made_up=float(said[~is_end].mean()) if (~is_end).any() else float("nan"),
        ends=int(is_end.sum()),
        ends_expected=float(chance.sum()),
    )
