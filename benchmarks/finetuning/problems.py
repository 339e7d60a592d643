"""Finetuning tasks that nobody has seen: random spaces, responses and curve families.

What a user brings is unknown, so everything is drawn anew for each problem: how many
hyperparameters there are and of which kind, which of them matter, where their optimum
lies and how they interact, the share of good configurations, how fast curves rise
(from a tenth of an epoch to beyond the budget), whether they start late, overfit,
jump, are noisy or diverge, what an epoch costs, and whether accuracy or a loss is
told. It shares no code with the prior of `finetune.curves`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from finetune import Categorical, Condition, Float, Ordinal, SearchSpace, read
from finetune.space import Config, infer_space
from finetune.training import pad_runs

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
            drawn = random.uniform(size=len(h.choices))
            place = dict(zip(h.choices, drawn, strict=True))
            columns.append([0.5 if v is None else place[v] for v in values])
            continue
        bounds = (h.low, h.high) if isinstance(h, Float) else h.choices
        scale = np.log if h.log else np.asarray
        low, width = scale(min(bounds)), scale(max(bounds)) - scale(min(bounds))
        columns.append([0.5 if v is None else (scale(v) - low) / width for v in values])
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


def _learning_curves(place, quality, num_epochs: int, random):
    """Accuracies ``[R, T]``, the value of chance, and the family's name."""
    epochs = np.arange(1, num_epochs + 1)
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
    curves = np.clip(curves + noise * random.normal(0, 1, curves.shape), 0, 1)
    if random.uniform() < 0.3:  # some configurations diverge, or crash
        is_bad = _effects(place, random) > random.uniform(0.5, 1.5)
        start = random.integers(0, num_epochs, (len(place), 1))
        gone = is_bad[:, None] & (epochs > start)
        curves = np.where(gone, np.nan if random.uniform() < 0.5 else chance, curves)
    return curves, chance, family


def draw_problem(
    seed: int,
    num_configs: int = 400,
    space: SearchSpace | None = None,
    num_epochs: int | None = None,
) -> Problem:
    """Draw one problem.

    Args:
        seed: Of everything.
        num_configs: Size of the pool.
        space: Instead of a drawn one.
        num_epochs: Budget of a run, instead of a drawn one.
    """
    random = np.random.default_rng([20, seed])
    space = draw_space(random) if space is None else space
    configs = [space.sample(random) for _ in range(num_configs)]
    place = _positions(space, configs, random)
    drawn = int(random.choice([10, 20, 30, 50, 81]))
    num_epochs = drawn if num_epochs is None else num_epochs
    quality = random.choice([0.7, 1.5]) * _effects(place, random)
    curves, chance, family = _learning_curves(place, quality, num_epochs, random)
    spread = random.choice([0.1, 0.5, 1.0])
    base = np.exp(random.normal(4, 1.5) + spread * _effects(place, random))
    seconds = base[:, None] * np.exp(random.normal(0, 0.05, curves.shape))
    top = max(np.nanmax(curves) - chance, 1e-9)
    told, direction = curves, "maximize"
    if random.uniform() < 0.3:  # a loss of any scale
        direction = "minimize"
        scale = 10.0 ** random.uniform(-2, 3)
        told = scale * (1.2 - curves) ** random.choice([1.0, 2.0])
    return Problem(
        name=f"{seed}: {family}, {len(space.hyperparameters)} hyperparameters, "
        f"{num_epochs} epochs",
        space=space,
        configs=configs,
        told=told,
        value=np.clip((curves - chance) / top, 0, 1),
        seconds=seconds,
        direction=direction,
    )


# LCBench's seven hyperparameters (Zimmer et al., 2021)
_LCBENCH = SearchSpace(
    (
        Float("batch_size", 16, 512, log=True, integer=True),
        Float("learning_rate", 1e-4, 1e-1, log=True),
        Float("momentum", 0.1, 0.99),
        Float("weight_decay", 1e-5, 1e-1),
        Float("num_layers", 1, 5, integer=True),
        Float("max_units", 64, 1024, log=True, integer=True),
        Float("max_dropout", 0.0, 1.0),
    )
)


def draw_lcbench_like(seed: int) -> Problem:
    """LCBench's space and budget, with drawn responses and curves."""
    return draw_problem(10_000 + seed, space=_LCBENCH, num_epochs=50)


def read_taskset(path: Path, num_epochs: int = 51) -> list[Problem]:
    """Validation losses of TaskSet's subset, to be minimised; an epoch takes a second.

    Args:
        path: The npz file.
        num_epochs: Evaluations of a run that are used.
    """
    with np.load(path, allow_pickle=False) as file:
        losses = file["loss"][:, 1, :, :num_epochs].astype(float)
        names, table = [str(n) for n in file["hp_names"]], file["hp"]
        tasks = [str(name) for name in file["tasks"]]
    space = infer_space(names, np.asarray(table, np.float32))
    configs = [space.to_config(v) for v in np.asarray(table, np.float32)]
    found = []
    for task, loss in zip(tasks, losses, strict=True):
        best, start = np.nanmin(np.where(np.isfinite(loss), loss, np.nan)), loss[:, 0]
        start = np.median(start[np.isfinite(start)])
        value = np.clip((start - loss) / (start - best), 0, 1)
        value = np.where(np.isfinite(loss), value, np.nan)
        told = np.where(np.isfinite(loss), loss, np.nan)
        ones = np.ones_like(loss)
        found.append(Problem(task, space, configs, told, value, ones, "minimize"))
    return found


def read_table(path: Path) -> list[Problem]:
    """The datasets of a table of past runs, each as if its space were unknown.

    A run that ended early keeps its last value.
    """
    data = read(path)
    padded, index = pad_runs(data)
    found = []
    for number, name in enumerate(data.dataset_names):
        rows = index[number] >= 0
        curves = padded["curves"][number][rows].astype(float)
        low, high = curves[:, 0].min(), curves.max()
        configs = [data.config(int(run)) for run in index[number][rows]]
        keys = [data.space.to_vector(config).tobytes() for config in configs]
        first = np.array([keys.index(key) == i for i, key in enumerate(keys)])
        found.append(
            Problem(
                name,
                data.space,
                [config for config, kept in zip(configs, first, strict=True) if kept],
                curves[first],
                np.clip((curves - low) / (high - low), 0, 1)[first],
                padded["costs"][number][rows][first].astype(float),
                "maximize",
            )
        )
    return found


def shuffle(problem: Problem, seed: int) -> Problem:
    """The same problem with its pool in another order."""
    order = np.random.default_rng(seed).permutation(len(problem.configs))
    return dataclasses.replace(
        problem,
        configs=[problem.configs[i] for i in order],
        told=problem.told[order],
        value=problem.value[order],
        seconds=problem.seconds[order],
    )
