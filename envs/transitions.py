"""Batches of transitions: a typed container and its file format."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import struct

from envs.canonical import EPISODE, FIELDS, canonical
from jaxrl_runs.weight_files import MAX_BYTES, read_weights, write_weights

_FORMAT_VERSION = 1


@struct.dataclass
class Transitions:
    """N transitions of one task, NumPy or JAX arrays, a pytree.

    Consecutive rows of one episode are in order of time. ``next_obs`` is what the
    action led to, also in the last row of an episode, where it is not the first
    observation of the next one. The last row may lie in the middle of an episode.

    Arrays of several environments in parallel, ``[T, N, ...]``, are taken as well, and
    what loggers write (lists, flags and rewards of any numeric dtype or as a column
    ``[N, 1]``): `validate` brings them into the form below.

    Attributes:
        obs: Observations [N, ...], floats, integers or bools.
        action: Discrete actions [N] (integers) or continuous ones [N, ...] (floats).
        reward: Rewards [N], floats.
        next_obs: Next observations [N, ...], of the dtype of ``obs``.
        terminated: Whether the task ended the episode there, [N] bool.
        truncated: Whether a time limit ended the episode there, [N] bool.
        episode: Optional: to which episode, or to which of several environments, each
            row belongs, [N]. Rows of different ones may be mixed; those of one are in
            order of time.
    """

    obs: Any
    action: Any
    reward: Any
    next_obs: Any
    terminated: Any
    truncated: Any
    episode: Any = None

    def __len__(self) -> int:
        return len(self.obs)

    def validate(self) -> Transitions:
        """Check shapes, dtypes and values; for concrete arrays, outside of jit.

        Returns:
            The transitions themselves if they are as the class describes, or equal
            ones that are: rows of one episode next to each other, ``[T, N, ...]``
            flattened, dtypes and shapes converted where nothing is lost.

        Raises:
            ValueError: Names the field that does not fit, and what was expected.
        """
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields = canonical(given)
        if all(array is given[name] for name, array in fields.items()):
            return self
        return Transitions(**fields)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz file with one array for each field, under its name.

        The file is written beside its place and then moved there: an interrupted
        save leaves what was there before.

        Args:
            path: File to write, used as it is given; missing folders are made.

        Raises:
            ValueError: If the transitions are not valid.
        """
        rows = self.validate()
        arrays = {name: getattr(rows, name) for name in (*FIELDS, EPISODE)}
        write_weights(
            os.fspath(path),
            {name: array for name, array in arrays.items() if array is not None},
            {"format_version": _FORMAT_VERSION, "kind": "transitions"},
            compressed=True,
        )

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], max_bytes: int = MAX_BYTES
    ) -> Transitions:
        """Read what `save`, or ``numpy.savez`` under the same names, wrote.

        Args:
            path: File to read. Arrays of other names in it are left alone.
            max_bytes: Largest size of all arrays together, unpacked.

        Returns:
            Valid transitions, as NumPy arrays.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not an npz file, is too large, lacks a field, or holds
                one that is not valid; names the file and the field.
        """
        _, arrays = read_weights(
            os.fspath(path), what="transitions", max_bytes=max_bytes
        )
        for name in FIELDS:
            if name not in arrays:
                raise ValueError(
                    f"{path}: lacks the field {name!r}; it has "
                    f"{', '.join(arrays) or 'none'}"
                )
        fields = {name: arrays.get(name) for name in (*FIELDS, EPISODE)}
        try:
            from envs.episodes import only_steps

            return only_steps(cls(**fields))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dataframe(
        cls, frame: Any, *, columns: Mapping[str, str | Sequence[str]] | None = None
    ) -> Transitions:
        """Read a table with named columns; see `envs.read_transitions`."""
        from envs.readers import read_table

        if any(getattr(getattr(frame, "index", None), "names", ())):
            frame = frame.reset_index()  # of pandas: (env_id, step), say
        names = [str(c) for c in getattr(frame, "column_names", frame.columns)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                "columns must have names that differ, found several of "
                f"{', '.join(twice)}"
            )
        table = {str(c): np.asarray(frame[c]) for c in frame.columns}
        return read_table(table, columns)

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        *,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> Transitions:
        """Read a CSV file with a header; see `envs.read_transitions`."""
        from envs.readers import read_transitions

        return read_transitions(path, columns=columns, max_bytes=max_bytes)

    @classmethod
    def from_minari(cls, dataset: Any, max_bytes: int = MAX_BYTES) -> Transitions:
        """Read a Minari dataset, or a local one by its id.

        Args:
            dataset: A ``minari.MinariDataset``, or the id of one that was downloaded
                before. Dict and Tuple observations are flattened as Gymnasium's
                ``flatten_space`` does it.
            max_bytes: Largest size of all rows together.

        Raises:
            ImportError: If an id is given and Minari is not installed.
            ValueError: If it holds no rows, or is too large.
        """
        from envs.recorded import from_minari

        return from_minari(dataset, max_bytes)

    @classmethod
    def from_vector_env(
        cls,
        vector_env: Any,
        num_steps: int,
        policy: Callable[[Any], Any] | None = None,
        seed: int | None = None,
    ) -> Transitions:
        """Step a ``gymnasium.vector.VectorEnv`` and keep what happened.

        It can have any autoreset mode: ``next_obs`` is always what the action led to,
        and steps that only reset are left out.

        Args:
            vector_env: N environments; it is reset at the start and not closed.
            num_steps: Steps of each.
            policy: ``policy(observations) -> actions`` for all N at once; by default
                actions are drawn from the action space.
            seed: Of the environments and of the drawn actions.

        Returns:
            Up to ``num_steps * N`` rows, one environment after another. Discrete
            actions count from 0; Dict and Tuple observations are flattened as
            Gymnasium's ``flatten_space`` does it.
        """
        from envs.recorded import from_vector_env

        return from_vector_env(vector_env, num_steps, policy, seed)
