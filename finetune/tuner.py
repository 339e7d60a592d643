"""Ask and tell: which model to finetune next, and how, for one more epoch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from finetune import gp
from finetune.bundle import FitConfig, Surrogates, fit_surrogates
from finetune.encoding import history_features
from finetune.meta_dataset import MetaDataset
from finetune.policy import expected_improvement, horizon_targets
from finetune.refit import History, RefitConfig, history_evidence, refit
from finetune.space import Config, SearchSpace
from finetune.surrogate import Surrogate, apply_member
from finetune.synthetic import make_synthetic
from finetune.training import TrainConfig

REFIT = ("no_refit_history", "no_refit_meta", "refit")
_COLD = FitConfig(
    performance=TrainConfig(num_steps=500, num_members=2),
    cost=TrainConfig(num_steps=200, num_members=2),
    reference=None,
)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One more epoch of one configuration.

    Attributes:
        id: Number of the configuration; the same for all its epochs.
        config: The configuration.
        epoch: Which epoch to train now, counted from 1. Train from the checkpoint of
            the epoch before.
    """

    id: int
    config: Config
    epoch: int


@dataclasses.dataclass
class _Run:
    accuracies: list[float]
    seconds: list[float]
    is_failed: bool = False


@jax.jit
def _score(
    performance: Surrogate,
    cost: Surrogate,
    vectors: jax.Array,
    meta_features: jax.Array,
    curves: jax.Array,
    epochs: jax.Array,
    own_seconds: jax.Array,
    rows: History,
    own_history: jax.Array,
    best: jax.Array,
):
    """Score candidates; returns score, gain and seconds of the best horizon, ``[R]``.

    ``own_seconds`` is NaN for configurations that were never trained.
    """
    inputs = performance.encoder(vectors, meta_features)
    num_epochs = performance.num_epochs
    features = jax.vmap(history_features)(curves)
    start = jnp.minimum(epochs, num_epochs - 1)
    history = features[jnp.arange(len(epochs)), start]
    target = horizon_targets(start, num_epochs)

    def member(weights, meta_evidence):
        evidence = history_evidence(performance, weights, rows)
        evidence = jax.tree.map(
            lambda own, meta: jnp.where(own_history, own, meta), evidence, meta_evidence
        )
        ard = jnp.exp(weights["log_ard"])

        def at(o):
            prior = apply_member(
                performance, weights, inputs, history, start, target[:, o]
            )
            shift, var = gp.predict(evidence, ard, prior.features)
            return prior.mean + shift, prior.noise + var

        return jax.tree.map(
            lambda *x: jnp.stack(x, 1), *[at(o) for o in range(target.shape[1])]
        )

    mean, var = jax.vmap(member)(performance.weights, performance.evidence)
    std = jnp.sqrt(var.mean(0) + mean.var(0))
    gain = expected_improvement(mean.mean(0), std, best)

    known = ~jnp.isnan(own_seconds)
    log_own = jnp.log(jnp.where(known, own_seconds, 1.0))
    cost_inputs = cost.encoder(vectors, meta_features)

    def cost_member(weights):
        zero = jnp.zeros_like(start)
        prior = apply_member(cost, weights, cost_inputs, history, zero, zero + 1)
        evidence = gp.gather_evidence(
            prior.features, log_own - prior.mean, prior.noise, known * 1.0
        )
        ard = jnp.exp(weights["log_ard"])
        return prior.mean + gp.predict(evidence, ard, prior.features)[0]

    predicted = jnp.exp(jax.vmap(cost_member)(cost.weights).mean(0))
    seconds = jnp.where(known, own_seconds, predicted)
    total = seconds[:, None] * (target - start[:, None])
    score = gain / total
    return score.max(1), gain.max(1), mean.mean(0), std, target


_refit = jax.jit(refit, static_argnames="config")


def _check_meta_features(meta_features: Any, names: tuple[str, ...]) -> np.ndarray:
    values = np.asarray(meta_features, np.float32)
    if values.shape != (len(names),):
        raise ValueError(
            f"meta_features: expected {len(names)} numbers {list(names)}, got shape "
            f"{values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"meta_features: not finite: {values.tolist()}")
    return values


def _check_run(row: dict, where: str, content: dict) -> None:
    """Raise a ValueError that says what is wrong with a run of a history file."""
    missing = {"id", "accuracies", "seconds", "failed"} - set(row)
    if missing:
        raise ValueError(f"{where}: missing keys {sorted(missing)}")
    if row["id"] not in range(len(content["candidates"])):
        raise ValueError(
            f"{where}: id {row['id']!r}, expected the number of a candidate"
        )
    num = len(row["accuracies"])
    if num > content["num_epochs"] or len(row["seconds"]) < num:
        raise ValueError(
            f"{where}: {num} accuracies and {len(row['seconds'])} seconds, expected at "
            f"most {content['num_epochs']} and as many seconds"
        )
    for name, low, high in (("accuracies", 0, 1), ("seconds", 1e-9, np.inf)):
        for epoch, value in enumerate(row[name]):
            if not isinstance(value, (int, float)) or not low <= value <= high:
                kind = "a fraction in [0, 1]" if high == 1 else "a positive number"
                raise ValueError(
                    f"{where}, {name}[{epoch}]: expected {kind}, got {value!r}"
                )


class Tuner:
    """Tunes one finetuning task, one epoch at a time.

    >>> tuner = Tuner.load(meta_features=[5_000, 20, 128, 3])  # doctest: +SKIP
    >>> trial = tuner.suggest()  # doctest: +SKIP
    >>> tuner.observe(trial, accuracy=0.31, seconds=42.0)  # doctest: +SKIP

    Args:
        space: Search space of the user's own.
        meta_dataset: Past runs on that space to meta-learn from. None: a cold start,
            from synthetic runs on that space.
        meta_features: Of the task; needed by :meth:`suggest` unless the tuner starts
            cold.
        num_candidates: Configurations drawn from the space.
        candidates: Configurations to choose from, instead of drawn ones.
        refit: ``"no_refit_history"`` conditions on the task's own history with fixed
            weights (N2), ``"no_refit_meta"`` on meta-training examples (N1),
            ``"refit"`` also takes gradient steps when the history has doubled.
        stop_below: Stop when no candidate is expected to improve the best accuracy
            by this much; 0 never stops.
        seed: Of the candidates, and of meta-training where there is one.
        surrogates: A loaded bundle, instead of ``space`` and ``meta_dataset``.
        num_epochs: Budget of a run after a cold start; otherwise the past runs' is
            taken.

    Raises:
        ValueError: If an argument is out of range, or space and data do not fit.
    """

    def __init__(
        self,
        space: SearchSpace | None = None,
        meta_dataset: MetaDataset | None = None,
        meta_features: Any = None,
        *,
        num_candidates: int = 400,
        candidates: list[Config] | None = None,
        refit: str = "no_refit_history",
        stop_below: float = 1e-4,
        seed: int = 0,
        surrogates: Surrogates | None = None,
        num_epochs: int = 50,
    ):
        if refit not in REFIT:
            raise ValueError(f"refit: expected one of {REFIT}, got {refit!r}")
        if num_candidates < 1:
            raise ValueError(
                f"num_candidates: expected 1 or more, got {num_candidates}"
            )
        if surrogates is None:
            if space is None:
                raise ValueError("space: expected a SearchSpace (or use Tuner.load())")
            if meta_dataset is None:
                meta_dataset = make_synthetic(space, 12, 60, num_epochs, seed)
                if meta_features is None:
                    meta_features = np.exp(np.log(meta_dataset.meta_features).mean(0))
                config = _COLD
            elif meta_dataset.space != space:
                raise ValueError("meta_dataset: its search space differs from `space`")
            else:
                config = dataclasses.replace(FitConfig(), reference=None)
            surrogates = fit_surrogates(jax.random.key(seed), meta_dataset, config)[0]
        self.surrogates = surrogates
        self.space = surrogates.space
        self.num_epochs = surrogates.num_epochs
        self.refit = refit
        self.stop_below = stop_below
        names = surrogates.meta_feature_names
        self.meta_features = (
            None
            if meta_features is None
            else _check_meta_features(meta_features, names)
        )
        self._configs: list[Config] = []
        self._vectors = np.zeros((0, self.space.num_columns), np.float32)
        self._runs: dict[int, _Run] = {}
        self._pending: dict[int, int] = {}
        self._fitted = surrogates.learned.performance
        self._next_refit = 8
        if candidates is None:
            random = np.random.default_rng(seed)
            candidates = [self.space.sample(random) for _ in range(num_candidates)]
        self.add_candidates(candidates)

    @classmethod
    def load(cls, path: str | Path | None = None, **settings: Any) -> Tuner:
        """Make a tuner from a bundle; None: the surrogates shipped with the package.

        Args:
            path: Folder written by ``python -m finetune fit``.
            **settings: Of the tuner.
        """
        return cls(surrogates=Surrogates.load(path), **settings)

    # ------------------------------------------------------------------ candidates

    @property
    def candidates(self) -> list[Config]:
        """The configurations that are chosen from."""
        return list(self._configs)

    def add_candidates(self, configs: list[Config]) -> list[int]:
        """Add configurations to choose from, and return their numbers.

        Raises:
            ValueError: If one is not in the search space.
        """
        if len(configs) == 0:
            raise ValueError("candidates: expected one configuration or more, got none")
        vectors = [self.space.to_vector(config) for config in configs]
        first = len(self._configs)
        self._configs += configs
        self._vectors = np.concatenate([self._vectors, np.stack(vectors)])
        return list(range(first, len(self._configs)))

    def recommend(self, meta_features: Any = None, top: int = 5) -> list[Config]:
        """Choose configurations before any observation, best first.

        Args:
            meta_features: Of the task, ``[M]``; None: those of the tuner.
            top: How many.
        """
        meta = self._meta(meta_features)
        if not 1 <= top <= len(self._configs):
            raise ValueError(f"top: expected 1..{len(self._configs)}, got {top}")
        score = self.surrogates.learned.zero_shot.score(
            jnp.asarray(self._vectors), jnp.asarray(meta)
        )
        return [self._configs[i] for i in np.argsort(-np.asarray(score))[:top]]

    def _meta(self, given: Any = None) -> np.ndarray:
        if given is not None:
            return _check_meta_features(given, self.surrogates.meta_feature_names)
        if self.meta_features is None:
            raise ValueError(
                "meta_features: not given; expected "
                f"{list(self.surrogates.meta_feature_names)} "
                "(see finetune.extract_image_meta_features)"
            )
        return self.meta_features

    # ------------------------------------------------------------------ ask and tell

    def suggest(self) -> Trial:
        """Choose the configuration to train for one more epoch.

        Raises:
            RuntimeError: When every candidate is finished or failed.
        """
        score, _, *_ = self._scores()
        if not np.isfinite(score).any():
            raise RuntimeError(
                "no open candidate is left; add some with add_candidates()"
            )
        chosen = int(np.argmax(score))
        epoch = self._num_observed(chosen) + 1
        self._pending[chosen] = epoch
        return Trial(chosen, self._configs[chosen], epoch)

    def observe(self, trial: Trial, accuracy: float, seconds: float) -> None:
        """Tell the validation accuracy after the suggested epoch.

        Args:
            trial: As suggested.
            accuracy: Fraction in [0, 1].
            seconds: That this epoch took, above 0.

        Raises:
            ValueError: If the trial was never suggested, or a number is out of range.
        """
        self._check_pending(trial)
        if not np.isfinite(accuracy) or not 0 <= accuracy <= 1:
            raise ValueError(
                f"accuracy: expected a fraction in [0, 1], got {accuracy!r} (divide "
                "percent by 100; tell a diverged run with observe_failure)"
            )
        if not np.isfinite(seconds) or seconds <= 0:
            raise ValueError(f"seconds: expected a positive number, got {seconds!r}")
        run = self._runs.setdefault(trial.id, _Run([], []))
        run.accuracies.append(float(accuracy))
        run.seconds.append(float(seconds))
        del self._pending[trial.id]

    def observe_failure(self, trial: Trial, seconds: float = 0.0) -> None:
        """Tell that a trial failed; its configuration is not suggested again.

        Args:
            trial: As suggested.
            seconds: That were lost, 0 or more; kept in the history.
        """
        self._check_pending(trial)
        if not np.isfinite(seconds) or seconds < 0:
            raise ValueError(f"seconds: expected 0 or more, got {seconds!r}")
        run = self._runs.setdefault(trial.id, _Run([], []))
        run.is_failed = True
        run.seconds += [float(seconds)] if seconds > 0 else []
        del self._pending[trial.id]

    def _check_pending(self, trial: Trial) -> None:
        if self._pending.get(trial.id) != trial.epoch:
            raise ValueError(
                f"trial: configuration {trial.id}, epoch {trial.epoch} was not "
                "suggested, or was observed already"
            )

    @property
    def best(self) -> tuple[Config, float] | None:
        """Configuration with the best accuracy so far, and that accuracy."""
        found = [(max(r.accuracies), i) for i, r in self._runs.items() if r.accuracies]
        if not found:
            return None
        accuracy, index = max(found)
        return self._configs[index], accuracy

    @property
    def should_stop(self) -> bool:
        """Whether no candidate is expected to improve by ``stop_below``."""
        if not self._runs:
            return False
        score, gain, *_ = self._scores()
        is_open = np.isfinite(score)
        return not is_open.any() or float(gain[is_open].max()) < self.stop_below

    def predict(self, trial_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict a configuration at the horizons that the tuner looks at.

        Returns:
            Epochs ``[4]``, mean accuracy ``[4]`` and standard deviation ``[4]``.
        """
        _, _, mean, std, target = self._scores()
        return target[trial_id], mean[trial_id], std[trial_id]

    def _num_observed(self, index: int) -> int:
        run = self._runs.get(index)
        return len(run.accuracies) if run else 0

    def _scores(self):
        """Score all candidates; closed and pending ones get -inf."""
        meta = self._meta()
        size = 1 << max(len(self._configs) - 1, 0).bit_length()
        curves = np.zeros((size, self.num_epochs), np.float32)
        epochs = np.zeros(size, np.int32)
        seconds = np.full(size, np.nan, np.float32)
        vectors = np.zeros((size, self.space.num_columns), np.float32)
        vectors[: len(self._configs)] = self._vectors
        is_open = np.arange(size) < len(self._configs)
        for i, run in self._runs.items():
            num = len(run.accuracies)
            curves[i, :num] = run.accuracies
            epochs[i] = num
            if num:
                seconds[i] = np.mean(run.seconds[:num])
            is_open[i] = not run.is_failed and num < self.num_epochs
        is_open[list(self._pending)] = False
        rows = self._history(curves, epochs, meta)
        performance = self._performance(rows)
        best = self.best
        found = _score(
            performance,
            self.surrogates.learned.cost,
            vectors,
            meta,
            curves,
            epochs,
            seconds,
            rows,
            self.refit != "no_refit_meta",
            0.0 if best is None else best[1],
        )
        score, *rest = jax.tree.map(np.asarray, found)
        return np.where(is_open, score, -np.inf), *rest

    def _history(self, curves: np.ndarray, epochs: np.ndarray, meta) -> History:
        """Two examples per started run, padded to a power of two."""
        started = np.flatnonzero(epochs)
        size = max(16, 1 << max(len(started) - 1, 0).bit_length())
        index = np.zeros(size, int)
        index[: len(started)] = started
        real = (np.arange(size) < len(started)).astype(np.float32)
        length = np.maximum(epochs[index], 1)
        features = _features(curves[index])
        encoder = self.surrogates.learned.performance.encoder
        vectors = np.zeros((size, self.space.num_columns), np.float32)
        vectors[: len(started)] = self._vectors[started]
        whole = History(
            inputs=encoder(vectors, meta),
            history=features[:, 0],
            start=jnp.zeros(size, jnp.int32),
            target=jnp.asarray(length),
            truth=jnp.asarray(curves[index, length - 1]),
            mask=jnp.asarray(real),
        )
        step = whole.replace(
            history=features[jnp.arange(size), length - 1],
            start=jnp.asarray(length - 1),
            mask=jnp.asarray(real * (length > 1)),
        )
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), whole, step)

    def _performance(self, rows: History) -> Surrogate:
        """Refit when the number of observations has doubled, where asked for."""
        num = sum(len(run.accuracies) for run in self._runs.values())
        if self.refit == "refit" and num >= self._next_refit:
            start = self.surrogates.learned.performance
            self._fitted = _refit(start, rows, config=RefitConfig())
            while self._next_refit <= num:
                self._next_refit *= 2
        return self._fitted

    # ------------------------------------------------------------------ history

    def save_history(self, path: str | Path) -> None:
        """Write the candidates and everything observed as json."""
        content = {
            "space": json.loads(self.space.to_json()),
            "num_epochs": self.num_epochs,
            "meta_features": (
                None if self.meta_features is None else self.meta_features.tolist()
            ),
            "candidates": self._configs,
            "runs": [
                {
                    "id": i,
                    "accuracies": run.accuracies,
                    "seconds": run.seconds,
                    "failed": run.is_failed,
                }
                for i, run in self._runs.items()
            ],
        }
        Path(path).write_text(json.dumps(content) + "\n")

    def load_history(self, path: str | Path) -> None:
        """Go on from a history; candidates are taken from it, nothing is pending.

        Raises:
            ValueError: If it is of another search space or budget, or damaged; what
                the tuner knew before is kept.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ValueError(f"{path.name}: cannot be read as json: {error}") from None
        missing = {"space", "num_epochs", "candidates", "runs"} - set(content)
        if missing:
            raise ValueError(f"{path.name}: missing keys {sorted(missing)}")
        if content["space"] != json.loads(self.space.to_json()):
            raise ValueError(f"{path.name}: a history of another search space")
        if content["num_epochs"] != self.num_epochs:
            raise ValueError(
                f"{path.name}: a budget of {content['num_epochs']} epochs, expected "
                f"{self.num_epochs}"
            )
        for number, row in enumerate(content["runs"]):
            _check_run(row, f"{path.name}, runs[{number}]", content)
        for number, config in enumerate(content["candidates"]):
            self.space.validate(config, f"{path.name}, candidates[{number}]")
        self._configs, self._runs, self._pending = [], {}, {}
        self._vectors = np.zeros((0, self.space.num_columns), np.float32)
        self._fitted, self._next_refit = self.surrogates.learned.performance, 8
        self.add_candidates(content["candidates"])
        for row in content["runs"]:
            run = _Run(list(row["accuracies"]), list(row["seconds"]), row["failed"])
            self._runs[row["id"]] = run
        if self.meta_features is None and content.get("meta_features") is not None:
            self.meta_features = np.asarray(content["meta_features"], np.float32)


_features = jax.jit(jax.vmap(history_features))
