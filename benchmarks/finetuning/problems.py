"""Finetuning tasks that nobody has seen: random spaces, responses and curve families.

What a user brings is unknown, so everything is drawn anew for each problem: how many
hyperparameters there are and of which kind, which of them matter, where their optimum
lies and how they interact, the share of good configurations, how fast curves rise
(from a tenth of an epoch to beyond the budget), whether they start late, overfit,
jump, are noisy or diverge, what an epoch costs, and whether accuracy or a loss is
told. It shares no code with the prior of :mod:`finetune.curves`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from finetune import Categorical, Condition, Float, Ordinal, SearchSpace
from finetune.space import Config

_CHOICES = ("a", "b", "c", "d", "e", "f")
_FAMILIES = ("exponential", "power", "late", "overfitting", "jumping", "linear")


@dataclasses.dataclass(frozen=True)
class Problem:
    """A pool of configurations with what each would do if it were trained.

    Attributes:
        name: For tables.
        space: The user's space.
        configs: The pool, ``R`` configurations.
        told: What the user observes after each epoch, ``[R, T]``; NaN: the run fails.
        value: The same on a scale from 0 (nothing learned) to 1 (best of the pool),
            higher is better, ``[R, T]``; NaN where ``told`` is.
        seconds: Of each epoch, ``[R, T]``.
        direction: "maximize" or "minimize", of ``told``.
    """

    name: str
    space: SearchSpace
    configs: list[Config]
    told: np.ndarray
    value: np.ndarray
    seconds: np.ndarray
    direction: str


def draw_space(random: np.random.Generator) -> SearchSpace:
    """Draw 2 to 9 hyperparameters of all kinds, some of them conditional."""
    found: list = []
    for i in range(int(random.integers(2, 10))):
        parents = [h for h in found if isinstance(h, Categorical) and not h.condition]
        condition = None
        if parents and random.uniform() < 0.2:
            parent = parents[int(random.integers(len(parents)))]
            num = int(random.integers(1, len(parent.choices)))
            condition = Condition(parent.name, parent.choices[:num])
        name, kind = f"h{i}", random.uniform()
        if kind < 0.3:
            low = 10.0 ** random.uniform(-6, -2)
            high = low * 10.0 ** random.uniform(1, 5)
            found.append(Float(name, low, high, log=True, condition=condition))
        elif kind < 0.5:
            low = random.uniform(-1, 1)
            found.append(Float(name, low, low + random.uniform(0.5, 100)))
        elif kind < 0.7:
            num = int(random.integers(2, 7))
            choices = tuple(float(2**k) for k in range(num))
            found.append(Ordinal(name, choices, log=True, condition=condition))
        else:
            num = int(random.integers(2, 7))
            found.append(Categorical(name, _CHOICES[:num], condition=condition))
    return SearchSpace(tuple(found))


def _positions(space: SearchSpace, configs: list[Config], random) -> np.ndarray:
    """Where a configuration stands in each hyperparameter, ``[R, n]`` in [0, 1].

    A categorical one gets a random place per choice, an inactive one its middle.
    """
    columns = []
    for h in space.hyperparameters:
        values = [config.get(h.name) for config in configs]
        if isinstance(h, Categorical):
            place = dict(zip(h.choices, random.uniform(size=len(h.choices))))
            column = [0.5 if v is None else place[v] for v in values]
        else:
            low, high = (
                (h.low, h.high)
                if isinstance(h, Float)
                else h.choices[:: len(h.choices) - 1]
            )
            scale = np.log if h.log else np.asarray
            column = [
                0.5
                if v is None
                else (scale(v) - scale(low)) / (scale(high) - scale(low))
                for v in values
            ]
        columns.append(column)
    return np.array(columns, float).T


def _effects(place: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A random smooth-to-jagged response, standardised over the pool, ``[R]``."""
    num = place.shape[1]
    weight = random.gamma(0.6, 1.0, num) + 1e-3
    optimum = np.tile(random.uniform(0, 1, num), (len(place), 1))
    if num > 1 and random.uniform() < 0.6:  # one optimum moves with another choice
        i, j = random.choice(num, 2, replace=False)
        optimum[:, i] += random.normal(0, 0.4) * (place[:, j] - 0.5)
    distance = np.abs(place - optimum)
    power = random.choice([1.0, 2.0], num)
    total = -(weight * (2 * distance) ** power).sum(1)
    for _ in range(int(random.integers(0, 3))):
        i, j = random.integers(num, size=2)
        total += random.normal(0, 1) * (place[:, i] - 0.5) * (place[:, j] - 0.5) * 2
    if random.uniform() < 0.4:  # a cliff
        i, edge = int(random.integers(num)), random.uniform(0.5, 0.9)
        total -= random.uniform(1, 4) * (place[:, i] > edge)
    total = (total - total.mean()) / max(total.std(), 1e-9)
    own = random.choice([0.05, 0.2, 0.5])  # what no hyperparameter explains
    return np.sqrt(1 - own**2) * total + own * random.normal(size=len(place))


def _progress(family: str, tau: np.ndarray, epochs: np.ndarray, random) -> np.ndarray:
    """Share of the way that is done after each epoch, ``[R, T]``."""
    num_epochs, tau = epochs[-1], tau[:, None]
    if family == "power":
        return 1 - (1 + epochs / tau) ** -random.uniform(0.5, 1.5)
    if family == "late":
        start = random.uniform(0.05, 0.5) * num_epochs
        width = np.maximum(0.3 * tau, 0.3)
        s = 1 / (1 + np.exp(-np.clip((epochs - start) / width, -30, 30)))
        s0 = 1 / (1 + np.exp(np.clip(start / width, -30, 30)))
        return (s - s0) / (1 - s0)
    if family == "overfitting":
        peak = random.uniform(0.2, 0.8) * num_epochs
        fall = random.uniform(0.1, 1.0) * np.maximum(epochs - peak, 0) / num_epochs
        return 1 - np.exp(-epochs / tau) - fall
    if family == "jumping":  # learning-rate steps
        g = 1 - np.exp(-epochs / tau)
        for at in (0.5, 0.75):
            g = g - 0.15 * (epochs < at * num_epochs) * (1 - np.exp(-epochs / tau))
        return g
    if family == "linear":
        return np.minimum(epochs / np.maximum(2 * tau, 1), 1) * np.ones_like(tau)
    return 1 - np.exp(-epochs / tau)


def draw_problem(seed: int, num_configs: int = 400) -> Problem:
    """Draw one problem.

    Args:
        seed: Of everything.
        num_configs: Size of the pool.
    """
    random = np.random.default_rng([20, seed])
    space = draw_space(random)
    configs = [space.sample(random) for _ in range(num_configs)]
    place = _positions(space, configs, random)
    num_epochs = int(random.choice([10, 20, 30, 50, 81]))
    epochs = np.arange(1, num_epochs + 1)
    quality = random.choice([0.7, 1.5]) * _effects(place, random)
    chance = random.choice([0.0, 0.01, 0.1, 0.5])
    ceiling = chance + (1 - chance) * random.uniform(0.3, 1.0)
    final = 1 / (1 + np.exp(-1.7 * (quality + random.normal(0, 1))))
    final = chance + (ceiling - chance) * final
    pace = random.choice([0.1, 0.4]) * _effects(place, random)
    pace += random.choice([0.0, 0.3]) * quality  # good ones are often slow, or fast
    tau = np.exp(random.uniform(np.log(0.3), np.log(1.2 * num_epochs)) + pace)
    family = str(random.choice(_FAMILIES, p=[0.35, 0.2, 0.15, 0.1, 0.1, 0.1]))
    curves = chance + (final - chance)[:, None] * _progress(family, tau, epochs, random)
    noise = (ceiling - chance) * random.choice([0.002, 0.01, 0.03])
    steps = random.normal(0, 1, curves.shape)
    curves = np.clip(curves + noise * steps, 0, 1)
    if random.uniform() < 0.3:  # some configurations diverge, or crash
        is_bad = _effects(place, random) > random.uniform(0.5, 1.5)
        gone = is_bad[:, None] & (
            epochs > random.integers(0, num_epochs, (num_configs, 1))
        )
        curves = np.where(gone, np.nan if random.uniform() < 0.5 else chance, curves)
    spread = random.choice([0.1, 0.5, 1.0])
    base = np.exp(random.normal(4, 1.5) + spread * _effects(place, random))
    seconds = base[:, None] * np.exp(random.normal(0, 0.05, curves.shape))
    top = np.nanmax(curves) - chance
    value = np.clip((curves - chance) / max(top, 1e-9), 0, 1)
    told, direction = curves, "maximize"
    if random.uniform() < 0.3:  # a loss of any scale
        direction = "minimize"
        scale = 10.0 ** random.uniform(-2, 3)
        told = scale * (1.2 - curves) ** random.choice([1.0, 2.0])
    return Problem(
        f"{family}, {len(space.hyperparameters)} hyperparameters, {num_epochs} epochs",
        space,
        configs,
        told,
        value,
        seconds,
        direction,
    )
