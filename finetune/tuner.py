"""Ask and tell: which model to finetune next, and how, for one more epoch."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from finetune.bundle import FitConfig, Surrogates, fit_surrogates
from finetune.cold import ColdConfig, ColdPolicy
from finetune.history import check_history, describe_runs, read_history, write_history
from finetune.meta_dataset import MetaDataset
from finetune.space import Config, SearchSpace
from finetune.task_runs import DIRECTIONS, TaskRuns
from finetune.warm import WarmPolicy
from jaxrl_runs.values import ANY_NUMBER, INDEX, MANY, NOT_NEGATIVE, Like, OneOf

_SURROGATES = Like(
    "Surrogates, as Surrogates.load() gives them", kinds=(Surrogates,), optional=True
)
_META_DATASET = Like(
    "a MetaDataset, as finetune.read gives it", kinds=(MetaDataset,), optional=True
)
_COLD = Like("a ColdConfig", kinds=(ColdConfig,))
REFIT = ("no_refit_history", "no_refit_meta", "refit")


@dataclasses.dataclass(frozen=True)
class Trial:
    """One more epoch of one configuration.

    Attributes:
        id: Number of the configuration; the same for all its epochs.
        config: The configuration.
        epoch: Which epoch to train now, counted from 1. Train from the checkpoint of
            the epoch before.
        reason: Why it was chosen, in words; a cold tuner says so.
    """

    id: int
    config: Config
    epoch: int
    reason: str = dataclasses.field(default="", compare=False)


class Tuner:
    """Tunes one finetuning task, one epoch at a time.

    Several trials may be out at once, for several workers: what is pending is never
    suggested again and counts as if it had come out as predicted.

    >>> tuner = Tuner.load(meta_features=[5_000, 20, 128, 3])  # doctest: +SKIP
    >>> trial = tuner.suggest()  # doctest: +SKIP
    >>> tuner.observe(trial, accuracy=0.31, seconds=42.0)  # doctest: +SKIP

    Args:
        space: Search space of the user's own.
        meta_dataset: Past runs on that space to meta-learn from. None: a cold start,
            which learns from the task's own runs alone.
        meta_features: Of the task; needed by `suggest` unless the tuner starts
            cold.
        num_candidates: Configurations drawn from the space; fewer where it holds fewer.
        candidates: Configurations to choose from, instead of drawn ones.
        refit: ``"no_refit_history"`` conditions on the task's own history with fixed
            weights (N2), ``"no_refit_meta"`` on meta-training examples (N1),
            ``"refit"`` also takes gradient steps when the history has doubled.
        stop_below: Stop when no candidate is expected to improve the best accuracy
            by this much (cold: by this share of the range of scores); 0 never stops.
        seed: Of the candidates, and of meta-training where there is one.
        surrogates: A loaded bundle, instead of ``space`` and ``meta_dataset``.
        num_epochs: Budget of a run after a cold start; otherwise the past runs' is
            taken.
        direction: "maximize" or "minimize" what is observed; surrogates know
            accuracies, so only a cold tuner minimises.
        cold: Settings of a cold start.

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
        direction: str = "maximize",
        cold: ColdConfig = ColdConfig(),  # noqa: B008 (frozen)
    ):
        OneOf(REFIT).check("refit", refit)
        OneOf(DIRECTIONS).check("direction", direction)
        MANY.check("num_candidates", num_candidates)
        MANY.check("num_epochs", num_epochs)
        INDEX.check("seed", seed)
        NOT_NEGATIVE.check("stop_below", stop_below)
        _SURROGATES.check("surrogates", surrogates)
        _META_DATASET.check("meta_dataset", meta_dataset)
        _COLD.check("cold", cold)
        if surrogates is not None and (space is not None or meta_dataset is not None):
            raise ValueError(
                "space and meta_dataset must be None where surrogates are given, which "
                "know one space alone"
            )
        if surrogates is None:
            if not isinstance(space, SearchSpace):
                raise ValueError(
                    f"space must be a SearchSpace (or use Tuner.load()), got {space!r}"
                )
            if meta_dataset is not None:
                surrogates = _learn(space, meta_dataset, seed)
        if surrogates is not None and direction != "maximize":
            raise ValueError(
                "direction must be 'maximize' with surrogates, which predict "
                f"accuracies, got {direction!r}; a cold tuner minimises"
            )
        self.surrogates = surrogates
        self.space: SearchSpace = space if surrogates is None else surrogates.space  # type: ignore[assignment]
        self.num_epochs = num_epochs if surrogates is None else surrogates.num_epochs
        self.refit = refit
        self.stop_below = stop_below
        self.seed = seed
        self.meta_features: np.ndarray | None = None
        if meta_features is not None and surrogates is not None:
            self.meta_features = _check_meta_features(
                meta_features, surrogates.meta_feature_names
            )
        self._runs = TaskRuns(self.space, self.num_epochs, direction)
        self._events: list[tuple[str, int]] = []
        if candidates is None:
            random = np.random.default_rng(seed)
            candidates = self.space.sample_distinct(random, num_candidates)
        self.add_candidates(candidates)
        self._policy: ColdPolicy | WarmPolicy
        if surrogates is None:
            self._policy = ColdPolicy(self._runs, seed, cold)
        else:
            self._policy = WarmPolicy(surrogates, refit)

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
        return list(self._runs.configs)

    @property
    def direction(self) -> str:
        """Whether scores are to "maximize" or "minimize"."""
        return self._runs.direction

    @property
    def is_cold(self) -> bool:
        """Whether there are no surrogates: only the task's own runs are known."""
        return self.surrogates is None

    def add_candidates(self, configs: list[Config]) -> list[int]:
        """Add configurations to choose from, and return their numbers.

        One that is there already keeps its number.

        Raises:
            ValueError: If one is not in the search space.
        """
        if len(configs) == 0:
            raise ValueError("candidates must hold one configuration or more, got none")
        return self._runs.add(list(configs))

    def recommend(self, meta_features: Any = None, top: int = 5) -> list[Config]:
        """Choose configurations before any observation, best first.

        A cold tuner knows nothing then, and gives them in the order they were drawn;
        later, by what they are expected to reach.

        Args:
            meta_features: Of the task, ``[M]``; None: those of the tuner.
            top: How many; fewer where there are fewer candidates.
        """
        _check_whole("top", top, 1)
        meta = None if self.is_cold else self._meta(meta_features)
        order = self._policy.recommend(self._runs, meta)
        return [self._runs.configs[i] for i in order[:top]]

    def _meta(self, given: Any = None) -> np.ndarray | None:
        if self.surrogates is None:
            return None
        names = self.surrogates.meta_feature_names
        if given is not None:
            return _check_meta_features(given, names)
        if self.meta_features is None:
            raise ValueError(
                f"meta_features must be {len(names)} numbers {list(names)}, got None "
                "(see finetune.extract_image_meta_features)"
            )
        return self.meta_features

    # ------------------------------------------------------------------ ask and tell

    def suggest(self) -> Trial:
        """Choose the configuration to train for one more epoch.

        Raises:
            RuntimeError: When every candidate is finished, failed or pending.
        """
        chosen = self._policy.choose(self._runs, self._meta())
        if chosen is None:
            raise RuntimeError(
                "no open candidate is left; add some with add_candidates()"
            )
        self._events.append(("ask", chosen))
        if isinstance(self._policy, ColdPolicy):
            self._policy.follow(chosen, self._runs)
        trial = self._start(chosen)
        return dataclasses.replace(trial, reason=self._policy.reason(chosen))

    def _start(self, chosen: int) -> Trial:
        epoch = int(self._runs.lengths[chosen]) + 1
        self._runs.pending[chosen] = epoch
        return Trial(chosen, self._runs.configs[chosen], epoch)

    def observe(
        self, trial: Trial, accuracy: float, seconds: float, is_last: bool = False
    ) -> None:
        """Tell the validation accuracy after the suggested epoch.

        Args:
            trial: As suggested.
            accuracy: Fraction in [0, 1]; any finite number for a cold tuner, which is
                minimised where the tuner was made so.
            seconds: That this epoch took, above 0.
            is_last: Whether the run ends here, before its budget.

        Raises:
            ValueError: If the trial was never suggested, or a number is out of range.
        """
        self._check_pending(trial)
        is_number = _is_finite(accuracy)
        if not is_number or not (self.is_cold or 0 <= accuracy <= 1):
            kind = "a finite number" if self.is_cold else "a fraction in [0, 1]"
            advice = "" if self.is_cold else "divide percent by 100; "
            raise ValueError(
                f"accuracy must be {kind}, got {accuracy!r} ({advice}tell a diverged "
                "run with observe_failure)"
            )
        if not _is_finite(seconds) or seconds <= 0:
            raise ValueError(f"seconds must be a positive number, got {seconds!r}")
        self._events.append(("tell", trial.id))
        self._tell(trial.id, float(accuracy), float(seconds), is_last)

    def _tell(self, run: int, value: float, seconds: float, is_last: bool) -> None:
        self._runs.observe(run, value, seconds, is_last)
        self._told(run, seconds)

    def observe_failure(self, trial: Trial, seconds: float = 0.0) -> None:
        """Tell that a trial failed; its configuration is not suggested again.

        Args:
            trial: As suggested.
            seconds: That were lost, 0 or more; kept in the history.
        """
        self._check_pending(trial)
        if not _is_finite(seconds) or seconds < 0:
            raise ValueError(f"seconds must be 0 or more, got {seconds!r}")
        self._events.append(("fail", trial.id))
        self._fail(trial.id, float(seconds))

    def _fail(self, run: int, seconds: float) -> None:
        self._runs.fail(run, seconds)
        self._told(run, seconds)

    def _told(self, run: int, seconds: float) -> None:
        self._policy.observe(run, seconds)
        del self._runs.pending[run]
        if isinstance(self._policy, ColdPolicy):
            self._policy.learn(self._runs)

    def _check_pending(self, trial: Trial) -> None:
        Like("a Trial, as suggest gives it", kinds=(Trial,)).check("trial", trial)
        if self._runs.pending.get(trial.id) != trial.epoch:
            raise ValueError(
                f"trial must be a pending one, got configuration {trial.id}, epoch "
                f"{trial.epoch}, which was not suggested, or was observed already"
            )

    @property
    def pending(self) -> list[Trial]:
        """Trials that were suggested and not yet observed."""
        return [
            Trial(i, self._runs.configs[i], epoch)
            for i, epoch in self._runs.pending.items()
        ]

    def is_continued_from(self, trial_id: int, epoch: int) -> bool:
        """Whether the next epoch of a configuration starts from that checkpoint."""
        runs = self._runs
        is_over = runs.is_failed[trial_id] or runs.is_finished[trial_id]
        return not is_over and int(runs.lengths[trial_id]) == epoch

    @property
    def best(self) -> tuple[Config, float] | None:
        """Configuration with the best accuracy so far, and that accuracy."""
        found = self._runs.best()
        return None if found is None else (self._runs.configs[found[0]], found[1])

    @property
    def should_stop(self) -> bool:
        """Whether no candidate is expected to improve by ``stop_below``."""
        if not self._runs.lengths.any():
            return False
        if not self._runs.is_open.any():
            return not self._runs.pending
        gain = self._policy.largest_gain(self._runs, self._meta())
        return gain < self.stop_below

    def predict(self, trial_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict a configuration at the horizons that the tuner looks at.

        Returns:
            Epochs ``[4]``, mean accuracy ``[4]`` and standard deviation ``[4]`` (fewer
            where a cold tuner looks at fewer).
        """
        _check_whole("trial_id", trial_id, 0, len(self._runs) - 1)
        epochs, mean, std = self._policy.predict(self._runs, self._meta(), trial_id)
        return epochs, np.asarray(mean), np.asarray(std)

    # ------------------------------------------------------------------ history

    def history(self) -> dict[str, Any]:
        """The candidates and everything asked and told, in order, as json holds it."""
        meta = self.meta_features
        return {
            **describe_runs(self._runs),
            "is_cold": self.is_cold,
            "seed": self.seed,
            "events": [list(event) for event in self._events],
            "meta_features": None if meta is None else meta.tolist(),
        }

    def save_history(self, path: str | Path) -> None:
        """Write the history; the file is the old one or the whole new one."""
        write_history(Path(path), self.history())

    def load_history(self, path: str | Path) -> None:
        """Go on from a file; see `restore`."""
        path = Path(path)
        self.restore(read_history(path), path.name)

    def restore(self, content: dict[str, Any], name: str = "history") -> None:
        """Go on from a history, to the same choices as if nothing had happened.

        Candidates and seed are taken from it. Trials that were asked for and never
        told are pending no longer.

        Args:
            content: Of `history`.
            name: For error messages.

        Raises:
            ValueError: If it is of another search space or budget, or damaged; what
                the tuner knew before is kept.
        """
        check_history(content, self._runs, name)
        self._runs.clear()
        self._events = []
        self.seed = content.get("seed", self.seed)
        if isinstance(self._policy, ColdPolicy):
            self._policy.seed = self.seed
        self._policy.reset()
        self.add_candidates(content["candidates"])
        if self.meta_features is None and content.get("meta_features") is not None:
            self.meta_features = np.asarray(content["meta_features"], np.float32)
        rows = {row["id"]: row for row in content["runs"]}
        events = content.get("events")
        if events is None:  # of an older version
            events = [
                (kind, i)
                for i, row in rows.items()
                for kind in ("ask", "tell") * len(row["accuracies"])
                + ("ask", "fail") * row["failed"]
            ]
        self._replay([(kind, run) for kind, run in events], rows)

    def _replay(self, events: list[tuple[str, int]], rows: dict[int, dict]) -> None:
        """Go through the events again, so that the policy knows what it knew."""
        answered = _answered(events)
        for number, (kind, run) in enumerate(events):
            if number not in answered:
                continue
            row = rows.get(run, {"accuracies": [], "seconds": []})
            done = int(self._runs.lengths[run])
            if kind == "tell":
                is_last = done + 1 == len(row["accuracies"]) and row.get("finished")
                value, seconds = row["accuracies"][done], row["seconds"][done]
                self.follow(kind, run, value, seconds, bool(is_last))
            else:
                self.follow(kind, run, seconds=sum(row["seconds"][done:]))

    def peek(self) -> int | None:
        """Number of the configuration that `suggest` would choose; None: none."""
        return self._policy.choose(self._runs, self._meta())

    def follow(
        self,
        kind: str,
        run: int,
        value: float = 0.0,
        seconds: float = 0.0,
        is_last: bool = False,
    ) -> None:
        """Take over what happened elsewhere: another process, an earlier job.

        Args:
            kind: "ask", "tell", "fail", or "end": a run that was asked for ended
                before the epoch.
            run: Number of the configuration.
            value: That was told.
            seconds: Of the epoch.
            is_last: Whether the run has ended with it.
        """
        if kind != "end":
            self._events.append((kind, run))
        if kind == "ask":
            if isinstance(self._policy, ColdPolicy):
                self._policy.choose(self._runs)
                self._policy.follow(run, self._runs)
            elif self.refit == "refit" and self._runs.lengths.any():
                self._policy.acquire(self._runs, self._meta())
            self._start(run)
        elif kind == "tell":
            self._tell(run, value, seconds, is_last)
        elif kind == "fail":
            self._fail(run, seconds)
        else:
            self._runs.is_finished[run] = True
            del self._runs.pending[run]


def _answered(events: list[tuple[str, int]]) -> set[int]:
    """Events but for trials that were never told: those ask again."""
    open_asks: dict[int, int] = {}
    kept = set()
    for number, (kind, run) in enumerate(events):
        if kind == "ask":
            open_asks[run] = number
        else:
            kept |= {number, open_asks.pop(run, number)}
    return kept


def _learn(space: SearchSpace, data: MetaDataset, seed: int) -> Surrogates:
    """Meta-learn from past runs on a user's own space."""
    if not isinstance(data, MetaDataset):
        raise ValueError(
            f"meta_dataset must be a MetaDataset, got {type(data).__name__}"
        )
    if data.space != space:
        raise ValueError("meta_dataset must have the search space `space`")
    print(f"meta-learning from {data.num_runs} past runs ...", file=sys.stderr)
    config = dataclasses.replace(FitConfig(), reference=None)
    return fit_surrogates(seed, data, config)[0]


def _check_meta_features(meta_features: Any, names: tuple[str, ...]) -> np.ndarray:
    try:
        values = np.asarray(meta_features, np.float32)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (len(names),) or not np.isfinite(values).all():
        raise ValueError(
            f"meta_features must be {len(names)} numbers {list(names)}, got "
            f"{meta_features!r}"
        )
    return values


def _check_whole(name: str, value: Any, low: int, high: float = np.inf) -> None:
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_whole or not low <= value <= high:
        kind = f"{low} or more" if high == np.inf else f"{low} to {high}"
        raise ValueError(f"{name} must be a whole number, {kind}, got {value!r}")


def _is_finite(value: Any) -> bool:
    try:
        ANY_NUMBER.check("value", value)
    except ValueError:
        return False
    return True
