"""What is known of Quick-Tune's search space beyond its table: the conditions.

Source: the search-space files of the QuickTune repository (hpo/meta_data).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from finetune.space import (
    Categorical,
    Condition,
    Ordinal,
    SearchSpace,
    blank_inactive,
)

_CONDITIONS = {
    "auto_augment": ("data_augmentation", ("auto_augment",)),
    "ra_num_ops": ("data_augmentation", ("random_augment",)),
    "ra_magnitude": ("data_augmentation", ("random_augment",)),
    "opt_betas": ("opt", ("adam", "adamw", "adamp")),
    "momentum": ("opt", ("momentum",)),
    "decay_rate": ("sched", ("step", "multistep")),
    "decay_epochs": ("sched", ("step", "multistep")),
    "patience_epochs": ("sched", ("plateau",)),
}


def is_quick_tune(space: SearchSpace) -> bool:
    """Tell whether a space is Quick-Tune's: every name of its conditions occurs.

    A user's table that has an "opt" and a "momentum" of its own is left as it is.
    """
    names = {h.name for h in space.hyperparameters}
    return {*_CONDITIONS, *(parent for parent, _ in _CONDITIONS.values())} <= names


def with_conditions(
    space: SearchSpace, vectors: np.ndarray
) -> tuple[SearchSpace, np.ndarray]:
    """Add Quick-Tune's conditions to its inferred space.

    Inactive hyperparameters, which the table fills with the defaults of the training
    script, become absent, and choices of a number that occur only there are dropped.

    Returns:
        The space with conditions and the vectors ``[N, H]``.
    """
    names = {h.name for h in space.hyperparameters}
    found = []
    for h in space.hyperparameters:
        name, values = _CONDITIONS.get(h.name, ("", ()))
        parent = space[name] if name in names else None
        if isinstance(parent, Categorical):
            known = tuple(v for v in values if v in parent.choices)
            if known:
                h = dataclasses.replace(h, condition=Condition(name, known))
        found.append(h)
    space = SearchSpace(tuple(found))
    vectors = blank_inactive(space, vectors)
    found = []
    for h in space.hyperparameters:
        if isinstance(h, Ordinal) and h.condition is not None:
            seen = vectors[:, space.columns.index(h.name)]
            kept = [c for c in h.choices if np.isclose(seen, c, rtol=1e-5).any()]
            h = dataclasses.replace(h, choices=tuple(kept) or h.choices, optional=False)
        elif isinstance(h, Categorical) and h.condition is not None:
            h = dataclasses.replace(h, optional=False)
        found.append(h)
    return SearchSpace(tuple(found)), vectors
