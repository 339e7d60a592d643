"""The tuner as an Optuna sampler and pruner: one study, many processes or hosts.

Needs the extra ``optuna``. Everything that the tuner has to know stands in the study's
storage (a database, a journal file), so any number of processes that share it tune one
task together: each reads what the others have told, and goes on from there.

>>> from finetune.optuna_sampler import TunerSampler
>>> sampler = TunerSampler(space, num_epochs=20)  # doctest: +SKIP
>>> study = optuna.create_study(  # doctest: +SKIP
...     sampler=sampler, pruner=sampler.pruner, storage=storage, load_if_exists=True)
>>> def objective(trial):  # doctest: +SKIP
...     run = sampler.start(trial)
...     for epoch in run.epochs:  # 1, 2, ..., or from where the run was left
...         score = train(run.config, folder / str(run.id), epoch)
...         if not run.report(score, epoch):
...             break  # another run gets the next epoch; this one may come back
...     return run.best

A trial of Optuna is a stretch of epochs of one configuration, from its checkpoint. The
choices are those of `finetune.Tuner` for the same history.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from finetune.space import Config, Float, Hyperparameter, SearchSpace
from finetune.tuner import Tuner
from jaxrl_runs.warn import warn_user

_CLAIM, _TOLD, _SECONDS, _END = (
    "finetune:claim",
    "finetune:told:",
    "finetune:seconds:",
    "finetune:end",
)
_WAIT = 20.0  # seconds for a process that has asked before and has not chosen yet


class _Event(NamedTuple):
    """What happened, in the order in which it happened."""

    at: float
    trial: int
    order: int  # within the trial
    kind: str  # "ask", "tell", "fail", "end"
    run: int
    value: float = 0.0
    seconds: float = 0.0


class Run:
    """What a trial has to train.

    Attributes:
        config: The configuration.
        id: Number of the configuration; the same in all its trials, so a name for its
            checkpoint.
        epochs: Epochs that may be trained, counted from 1; the first goes on from the
            checkpoint of the one before.
        best: Best score of this trial so far; None before the first.
    """

    def __init__(self, trial: optuna.Trial, config: Config, run: int, epochs: range):
        self.config, self.id, self.epochs = config, run, epochs
        self.best: float | None = None
        self._trial = trial
        is_min = trial.study.direction == optuna.study.StudyDirection.MINIMIZE
        self._better = min if is_min else max

    def report(self, score: float, epoch: int, seconds: float | None = None) -> bool:
        """Tell the score after an epoch; whether to train the next one now.

        Args:
            score: Validation score.
            epoch: Counted from 1.
            seconds: That it took; None: since the last report of this trial, or since
                it was chosen.
        """
        score = float(score)
        if seconds is not None:
            self._trial.set_user_attr(f"{_SECONDS}{epoch}", float(seconds))
        self._trial.report(score, epoch)
        if math.isfinite(score):
            self.best = score if self.best is None else self._better(self.best, score)
        return not self._trial.should_prune() and epoch < self.epochs.stop - 1


class TunerSampler(optuna.samplers.BaseSampler):
    """Chooses as `finetune.Tuner` does, from what a study's storage holds.

    Give ``sampler.pruner`` to the study as well: it says when a run has to pause.

    Args:
        space: Search space.
        num_epochs: Most epochs of a run.
        **settings: Of `Tuner`; the same in all processes.

    Raises:
        ValueError: If a setting is out of range; at the first trial, if the study was
            begun with others, or its direction is another one.
    """

    def __init__(
        self, space: SearchSpace | None = None, *, num_epochs: int = 50, **settings: Any
    ):
        self._make = lambda: Tuner(space, num_epochs=num_epochs, **settings)
        self.tuner = self._make()
        self.pruner = TunerPruner(self)
        self._applied: list[_Event] = []
        self._given_up: set[int] = set()
        self._checked: str | None = None
        self._search_space = {
            h.name: _distribution(h) for h in self.tuner.space.hyperparameters
        }

    def start(self, trial: optuna.Trial) -> Run:
        """Say what a trial has to train.

        Raises:
            optuna.TrialPruned: When nothing is left to train; the study stops.
        """
        claim = _claim(trial.study, trial.number)
        if claim is None:
            raise ValueError(
                "trial must be one of a study with this sampler, got trial "
                f"{trial.number} of another one"
            )
        if claim["run"] is None:
            trial.study.stop()
            raise optuna.TrialPruned("no open candidate is left")
        config = self.tuner.candidates[claim["run"]]
        for name, distribution in self._search_space.items():
            if name in config:
                trial._suggest(name, distribution)
        epochs = range(claim["epoch"], self.tuner.num_epochs + 1)
        return Run(trial, dict(config), claim["run"], epochs)

    # ------------------------------------------------------------- Optuna's calls

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Choose what the trial trains, one process after the other."""
        self._check_study(study)
        if trial.system_attrs.get("fixed_params"):
            raise ValueError(
                "enqueue_trial cannot be used with TunerSampler; give it "
                "candidates=[...]"
            )
        self._wait_for_earlier(study, trial.number)
        self._catch_up(study)
        at = self._now()
        try:
            asked = self.tuner.suggest()
        except RuntimeError:
            chosen: dict[str, Any] = {"run": None, "epoch": 0, "at": at}
        else:
            chosen = {"run": asked.id, "epoch": asked.epoch, "at": at}
            chosen["reason"] = asked.reason
            self._applied.append(_Event(at, trial.number, 0, "ask", asked.id))
        _write(study, trial, _CLAIM, chosen)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All hyperparameters; inactive ones are not asked for."""
        del study, trial
        return dict(self._search_space)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """The configuration that was chosen for the trial."""
        claim = _claim(study, trial.number)
        if claim is None or claim["run"] is None:
            return {}
        config = self.tuner.candidates[claim["run"]]
        return {name: config[name] for name in search_space if name in config}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Refuse what is not in the chosen configuration."""
        del study, trial, param_distribution
        raise ValueError(
            f"{param_name!r} is not active in the configuration of this trial, or not "
            "in the search space with these bounds; use sampler.start(trial).config"
        )

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Book what the trial has told last, and how it ended."""
        del state, values
        trial = study._storage.get_trial(trial._trial_id)
        for step in sorted(trial.intermediate_values):
            if f"{_TOLD}{step}" not in trial.system_attrs:
                self._tell(study, trial, step, False)
        trial = study._storage.get_trial(trial._trial_id)
        seconds = max(time.time() - _last_stamp(trial), 0.0)
        _write(study, trial, _END, [self._now(), seconds])

    # --------------------------------------------------------------------- history

    def goes_on(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the run of a trial gets the next epoch, after its last report."""
        claim, step = trial.system_attrs.get(_CLAIM), trial.last_step
        if claim is None or step is None:
            return True
        told = trial.system_attrs.get(f"{_TOLD}{step}")
        if told is None:
            told = self._tell(study, trial, step, True)
        return bool(told[2])

    def _tell(
        self, study: optuna.Study, trial: FrozenTrial, step: int, may_go_on: bool
    ) -> list:
        """Book a report: when it came, its seconds, and whether the run goes on."""
        run = trial.system_attrs[_CLAIM]["run"]
        self._catch_up(study)
        given = trial.user_attrs.get(f"{_SECONDS}{step}")
        seconds = max(time.time() - _last_stamp(trial), 1e-6)
        seconds = seconds if given is None else given
        value = trial.intermediate_values[step]
        told = _tell_event(self._now(), trial.number, step, run, value, seconds)
        self._apply(told)
        goes_on = False
        if may_go_on and told.kind == "tell":
            goes_on = self.tuner.peek() == run
            if goes_on:
                again = told._replace(
                    kind="ask", order=2 * step, value=0.0, seconds=0.0
                )
                self._apply(again)
        content = [told.at, seconds, goes_on]
        _write(study, trial, f"{_TOLD}{step}", content)
        return content

    def _now(self) -> float:
        """The time, never before what is known to have happened."""
        last = self._applied[-1].at if self._applied else 0.0
        return max(time.time(), last)

    def _catch_up(self, study: optuna.Study) -> None:
        """Bring the tuner to what the storage says."""
        events = sorted(
            event
            for trial in study.get_trials(deepcopy=False)
            for event in _events_of(trial)
        )
        num = len(self._applied)
        if events[:num] != self._applied:  # told late, by another clock: from the start
            self.tuner, self._applied = self._make(), []
            num = 0
        for event in events[num:]:
            self._apply(event)

    def _apply(self, event: _Event) -> None:
        value, seconds = event.value, event.seconds
        self.tuner.follow(event.kind, event.run, value, seconds)
        self._applied.append(event)

    def _wait_for_earlier(self, study: optuna.Study, number: int) -> None:
        """Two processes never choose at once: the smaller number goes first."""
        deadline = time.monotonic() + _WAIT
        while True:
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            waiting = {
                t.number
                for t in running
                if t.number < number and _CLAIM not in t.system_attrs
            } - self._given_up
            if not waiting:
                return
            if time.monotonic() > deadline:
                self._given_up |= waiting
                warn_user(
                    f"trials {sorted(waiting)} were begun and have chosen nothing; "
                    "going on without them",
                )
                return
            time.sleep(0.01)

    def _check_study(self, study: optuna.Study) -> None:
        if self._checked == study.study_name:
            return
        direction = study.direction.name.lower()
        if direction != self.tuner.direction:
            raise ValueError(
                f"direction must be {self.tuner.direction!r}, as the sampler's, got a "
                f"study with {direction!r}"
            )
        content = json.dumps([self.tuner.candidates, self.tuner.num_epochs])
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        found = study.user_attrs.get("finetune")
        if found not in (None, digest):
            raise ValueError(
                "settings must be those that the study was begun with (space, seed, "
                "num_candidates, num_epochs), got others"
            )
        if found is None:
            study.set_user_attr("finetune", digest)
        self._checked = study.study_name


class TunerPruner(optuna.pruners.BasePruner):
    """Pauses a run when another one should get the next epoch.

    Args:
        sampler: Of the same study.
    """

    def __init__(self, sampler: TunerSampler):
        self.sampler = sampler

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial has to end here."""
        return not self.sampler.goes_on(study, trial)


def _distribution(h: Hyperparameter) -> BaseDistribution:
    """Optuna's name for a hyperparameter."""
    if isinstance(h, Float):
        if h.optional:
            raise ValueError(f"{h.name}: an optional Float has no place in Optuna")
        if h.integer:
            return IntDistribution(math.ceil(h.low), math.floor(h.high), log=h.log)
        return FloatDistribution(h.low, h.high, log=h.log)
    none = (None,) if h.optional else ()
    return CategoricalDistribution(tuple(h.choices) + none)


def _write(study: optuna.Study, trial: FrozenTrial, key: str, content: Any) -> None:
    study._storage.set_trial_system_attr(trial._trial_id, key, content)


def _claim(study: optuna.Study, number: int) -> dict[str, Any] | None:
    trials = study.get_trials(deepcopy=False)
    return trials[number].system_attrs.get(_CLAIM)


def _last_stamp(trial: FrozenTrial) -> float:
    """When the trial has last chosen or told something."""
    stamps = [trial.system_attrs[_CLAIM]["at"]]
    for key, content in trial.system_attrs.items():
        if key.startswith(_TOLD):
            stamps.append(content[0])
    return max(stamps)


def _tell_event(at, number, step, run, value, seconds) -> _Event:
    if math.isfinite(value):
        return _Event(at, number, 2 * step - 1, "tell", run, value, seconds)
    return _Event(at, number, 2 * step - 1, "fail", run, 0.0, seconds)


def _events_of(trial: FrozenTrial) -> list[_Event]:
    """What a trial has asked and told."""
    claim, number = trial.system_attrs.get(_CLAIM), trial.number
    if claim is None or claim["run"] is None:
        return []
    run = claim["run"]
    events = [_Event(claim["at"], number, 0, "ask", run)]
    for step, value in sorted(trial.intermediate_values.items()):
        told = trial.system_attrs.get(f"{_TOLD}{step}")
        if told is None:
            continue  # reported this moment, not yet told
        at, seconds, goes_on = told
        events.append(_tell_event(at, number, step, run, value, seconds))
        if goes_on:
            events.append(_Event(at, number, 2 * step, "ask", run))
    if trial.state.is_finished() and events[-1].kind == "ask":
        # an epoch was asked for and never told: broken, or the run has ended itself
        done = trial.datetime_complete
        at = done.timestamp() if done else events[-1].at
        at, seconds = trial.system_attrs.get(_END, [at, 0.0])
        has_failed = trial.state == TrialState.FAIL or len(events) == 1
        kind = "fail" if has_failed else "end"
        at = max(at, events[-1].at)
        events.append(_Event(at, number, 2**31, kind, run, 0.0, seconds))
    return events
