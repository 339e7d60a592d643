"""Classes of settings with the kinds of their fields, and the wrong instances."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import finetune
import hardviews
import jaxrl_se
import oswm
from benchmarks.bad_values.agents import AGENTS, BONUSES, LAYERED
from benchmarks.bad_values.values import bad_values
from benchmarks.bad_values.verdicts import Case

_EVOLUTION = {
    "proxy": "object",
    "scoring": "object",
    "agent": "agent",
    "algorithms": "name",
    "stages": "stages",
    "train_steps": "count",
    "stop": "object",
    "common_random_numbers": "flag",
    "horizon": "object",
    "strategy": "name",
    "population_size": "count",
    "num_seeds": "count",
    "fitness_episodes": "count",
    "std": "positive",
    "strategy_learning_rate": "positive",
    "patience": "count or none",
    "restarts": "whole number",
    "restart_std": "positive",
    "max_generations": "count",
    "max_steps": "positive whole number or none",
    "stop_return": "return",
    "validation_every": "count",
    "validation_agents": "count",
    "validation_episodes": "count",
    "group_size": "count or none",
}
# Classes that check themselves when they are made, and what they need to be made.
CONFIGS: dict[Any, tuple[dict[str, Any], dict[str, str]]] = {
    jaxrl_se.EvolutionConfig: ({}, _EVOLUTION),
    jaxrl_se.HorizonCurriculum: (
        {"start": 10, "end": 5},
        {"start": "count", "end": "count", "begin": "index", "generations": "count"},
    ),
    jaxrl_se.SyntheticConfig: (
        {},
        {
            **LAYERED,
            "variant": "name",
            "initial_states": "name",
            "reward_heads": "flag",
            "reward_bound": "positive or none",
            "obs_range": "ranges",
            "max_steps": "count",
            "obs_bound": "positive or none",
            "learn_termination": "flag",
            "soft_termination": "flag",
            "advantage": "flag",
        },
    ),
    jaxrl_se.RewardConfig: (
        {},
        {
            **LAYERED,
            "kind": "name",
            "obs_range": "ranges",
            "zero_at_termination": "flag",
            "info_keys": "names or none",
            "quadratic": "flag",
            "scale": "positive",
        },
    ),
    jaxrl_se.FinalReturn: ({}, {"floor": "number"}),
    jaxrl_se.StepsToSolve: (
        {},
        {
            "unsolved_penalty": "not negative",
            "solved_return": "number or none",
            "window": "count",
            "test_episodes": "count",
        },
    ),
    jaxrl_se.AreaUnderCurve: ({}, {"test_episodes": "count"}),
    jaxrl_se.FerreiraES: (
        {},
        {"score_transform": "name", "mirrored": "flag", "weight_decay": "share"},
    ),
    jaxrl_se.LogUniform: (
        {"low": 1, "high": 2},
        {"low": "positive", "high": "positive", "integer": "flag"},
    ),
    jaxrl_se.Uniform: ({"low": 0, "high": 1}, {"low": "number", "high": "number"}),
    jaxrl_se.Choice: ({}, {"values": "numbers"}),
    oswm.Ridge: ({}, {"quadratic": "flag", "penalties": "scales"}),
    oswm.KernelRidge: (
        {},
        {
            "num_landmarks": "count",
            "num_screening": "count",
            "length_scales": "scales",
            "penalties": "scales",
            "smoothness": "smoothness",
            "ard": "flag",
        },
    ),
    oswm.FastKernelRidge: (
        {},
        {
            "num_landmarks": "count",
            "num_reward_landmarks": "count",
            "num_known": "count",
            "length_scales": "scales",
            "penalties": "scales",
        },
    ),
    oswm.MLPEnsemble: (
        {},
        {
            "num_members": "count",
            "hidden_sizes": "layers",
            "num_updates": "count",
            "batch_size": "count",
            "learning_rate": "rate",
            "weight_decay": "not negative",
            "seed": "index",
        },
    ),
    oswm.NearestNeighbours: ({}, {"num_neighbours": "count"}),
    oswm.SubContexts: (
        {"model": oswm.Ridge()},
        {"num_members": "count", "fraction": "rate", "seed": "index"},
    ),
    jaxrl_se.Dynamics: (
        {},
        {"num_rows": "count", "noise": "share", "num_steps": "count"},
    ),
    jaxrl_se.LogConfig: (
        {},
        {
            "model": "model",
            "num_worlds": "count",
            "fraction": "rate",
            "uncertainty_penalty": "not negative",
            "sample": "flag",
            "initial_obs": "starts of any size",
            "fitness_episodes": "count",
            "model_steps": "count",
            "with_agents": "flag or none",
            "test_agents": "count",
            "test_episodes": "count",
        },
    ),
    jaxrl_se.RoundsConfig: (
        {},
        {
            "real_steps": "count",
            "first_rows": "count",
            "max_rounds": "count",
            "agree": "not negative",
            "log": "object",
            "evolution": "object",
        },
    ),
    finetune.ColdConfig: (
        {},
        {
            "eta": "count",
            "random_every": "count",
            "straight_on": "share",
            "min_runs": "count",
            "min_correlation": "share",
            "strength": "positive",
            "growth": "positive",
            "max_rows": "count",
        },
    ),
    finetune.RankingConfig: (
        {},
        {
            "num_steps": "count",
            "num_tasks": "count",
            "batch_size": "count",
            "learning_rate": "rate",
            "weight_decay": "not negative",
            "num_members": "count",
            "num_hidden": "count",
        },
    ),
    finetune.MetaTrainConfig: (
        {},
        {
            "num_steps": "count",
            "num_tasks": "count",
            "num_context": "count",
            "num_query": "count",
            "learning_rate": "rate",
            "weight_decay": "not negative",
            "num_members": "count",
            "num_hidden": "count",
            "num_features": "count",
            "num_meta_examples": "count",
        },
    ),
    finetune.FitConfig: (
        {},
        {
            "performance": "object",
            "cost": "object",
            "ranking": "object",
            "reference": "object",
        },
    ),
    finetune.Categorical: (
        {"name": "model", "choices": ("a", "b")},
        {
            "name": "text",
            "choices": "choices",
            "condition": "object",
            "optional": "flag",
        },
    ),
    finetune.Ordinal: (
        {"name": "size", "choices": (1, 2)},
        {"name": "text", "choices": "increasing", "log": "flag", "optional": "flag"},
    ),
    finetune.Float: (
        {"name": "rate", "low": 0.1, "high": 1.0},
        {
            "name": "text",
            "low": "number",
            "high": "number",
            "log": "flag",
            "integer": "flag",
        },
    ),
    finetune.Condition: ({"parent": "a", "values": (1,)}, {"values": "values"}),
    hardviews.ResNetConfig: (
        {},
        {"width": "count", "blocks": "layers", "stem_stride": "count"},
    ),
    hardviews.SimSiam: ({}, {"dim": "count", "hidden": "count"}),
    hardviews.BYOL: ({}, {"dim": "count", "hidden": "count", "rate": "rate"}),
    hardviews.SimCLR: (
        {},
        {"dim": "count", "hidden": "count", "temperature": "positive"},
    ),
    hardviews.PretrainConfig: (
        {},
        {
            "method": "object",
            "encoder": "object",
            "augmentation": "object",
            "num_views": "count",
            "view_size": "count",
            "batch_size": "count",
            "num_epochs": "count",
            "learning_rate": "positive",
            "warm_up": "share",
            "momentum": "share",
            "weight_decay": "not negative",
            "seed": "index",
        },
    ),
}
# Good values among the wrong ones of a kind: numbers that are large, say.
_GOOD = {
    ("FinalReturn", "floor"): (float("-inf"),),
    ("Choice", "values"): ([],),
}


def config_cases() -> Iterator[Case]:
    """Classes of settings, when they are made."""
    for kind, (needed, fields) in CONFIGS.items():
        for name, values in fields.items():
            for value in bad_values(values, _GOOD.get((kind.__name__, name), ())):

                def call(value, kind=kind, needed=needed, name=name):
                    kind(**{**needed, name: value})

                yield Case(kind.__name__, name, value, call)


def unlisted() -> list[str]:
    """Fields of public classes of settings that have no wrong values here."""
    listed = {kind: fields for kind, (_, fields) in (*AGENTS.items(), *CONFIGS.items())}
    left_out = {
        "variation",
        "condition",
        "optional",
        "integer",
        "parent",
        "values",
        "name",
        "model",
        "search",
    }
    return [
        f"{kind.__name__}.{field.name}"
        for kind, fields in {**listed, **BONUSES}.items()
        for field in dataclasses.fields(kind)
        if field.name not in fields and field.name not in left_out
    ]
