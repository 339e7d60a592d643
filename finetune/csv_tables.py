"""Reader of quicktunetool's four csv files, as people write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from finetune.assemble import assemble, from_percent
from finetune.cells import Rows, is_missing
from finetune.meta_dataset import MetaDataset, check_repetitions, check_values
from finetune.space import Categorical, SearchSpace
from jaxrl_runs.values import FLAG, PATH
from jaxrl_runs.warn import warn_user

_FILES = ("config", "curve", "cost", "meta")
_EPOCH = re.compile(r"(?:epoch[ _-]?)?(\d+)(?:\.0*)?", re.IGNORECASE)
_NO_HYPERPARAMETERS = ("dataset", "seed", "random_seed", "rng_seed")
_WORDS_OF_TRUTH = {"true": "True", "false": "False", "1": "True", "0": "False"}


def read_csv(
    folder: str | Path,
    percent: bool = False,
    num_epochs: int | None = None,
    meta_features: Sequence[str] | None = None,
    space: SearchSpace | None = None,
) -> MetaDataset:
    """Read the four csv files of quicktunetool: config, curve, cost and meta.

    The first column of each names the run. ``config.csv`` holds one column per
    hyperparameter (raw values; empty where it does not apply), ``curve.csv`` one per
    epoch, ``cost.csv`` the column ``cost`` (seconds of an epoch) or one per epoch, and
    ``meta.csv`` a column ``dataset`` and meta-features that are equal for all runs of
    a dataset. Meta-features that are not numbers are left out. Cells are separated by
    commas, semicolons (then with decimal commas) or tabs; empty cells, "nan", "NA",
    "N/A" and "null" are missing, and so is "None" in a column of numbers. Columns of
    epochs may stand in any order. One configuration may occur several times on a
    dataset, with other curves; a column ``seed`` (in capitals or not) is not taken for
    a hyperparameter. True, true and 1 are one value in a column of truth values.

    Args:
        folder: Where the files are.
        percent: Accuracies are percent.
        num_epochs: The declared budget; None: the number of columns of curve.csv.
        meta_features: Which columns of meta.csv to use; None: all that are numbers.
        space: The search space of config.csv, against which names and values are
            checked; None: inferred from the file.

    Raises:
        ValueError: On the first fault; the message names file, row and column.
    """
    PATH.check("folder", folder)
    FLAG.check("percent", percent)
    folder = Path(folder)
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "no such folder"
        raise ValueError(
            f"folder must be one with {', '.join(f'{name}.csv' for name in _FILES)}, "
            f"got {folder.name}, {kind}; see docs/guides/finetuning.md for what each "
            "holds, or use finetune.read for other layouts"
        )
    files = {name: Rows(folder / f"{name}.csv") for name in _FILES}
    names = list(files["config"].cells)
    _check_runs(files, names)
    curves, epochs = _read_curves(files["curve"], names, num_epochs)
    costs, cost_epochs = _read_costs(files["cost"], names, epochs, curves)
    dataset, dataset_names = _read_datasets(files["meta"], names)
    table, meta_names = _read_meta(
        files["meta"], names, dataset, dataset_names, meta_features
    )
    if space is None:
        columns, vectors = _config_columns(files["config"], names)
    else:
        columns = space.columns
        vectors = _config_vectors(space, files["config"], names)
    if percent:
        curves = from_percent(curves, "curve.csv", "read fractions with percent=False")

    def place(kind: str, row: int, column: int) -> str:
        labels = epochs if kind == "curve" else cost_epochs
        label = labels[min(column, len(labels) - 1)]
        line = files[kind].lines[names[row]]
        return f"{kind}.csv, row {line}, column {label!r}"

    check_values(curves, costs, place)
    lines = [files["config"].lines[name] for name in names]
    check_repetitions(
        vectors,
        dataset,
        curves,
        lambda a, b: f"config.csv: rows {lines[a]} and {lines[b]}",
    )
    return assemble(
        columns,
        vectors,
        curves,
        costs,
        dataset,
        dataset_names,
        table,
        meta_names,
        "curve.csv",
        space,
    )


def _check_runs(files: dict[str, Rows], names: list[str]) -> None:
    """All files must hold the runs of config.csv."""
    wanted = set(names)
    for name, rows in files.items():
        lacking = [n for n in names if n not in rows.cells]
        unknown = [n for n in rows.cells if n not in wanted]
        if lacking or unknown:
            raise ValueError(
                f"{name}.csv: runs missing {lacking[:3]}, runs not in config.csv "
                f"{unknown[:3]}"
            )


def _epoch_columns(rows: Rows) -> tuple[list[int], list[str]]:
    """Columns of epochs by number, and their names.

    Raises:
        ValueError: If a column names no epoch, or an epoch is left out.
    """
    found, unknown = {}, []
    for column, name in list(enumerate(rows.header))[1:]:
        match = _EPOCH.fullmatch(name)
        if match is None:
            unknown.append(name)
            continue
        epoch = int(match.group(1))
        if epoch in found:
            raise ValueError(f"{rows.path.name}: epoch {epoch} has two columns")
        found[epoch] = column
    if unknown:
        raise ValueError(f"{rows.path.name}: columns must be epochs, got {unknown[:4]}")
    epochs = sorted(found)
    absent = sorted(set(range(epochs[0], epochs[-1])) - set(epochs)) if epochs else []
    if absent or not epochs or epochs[0] > 1:
        raise ValueError(
            f"{rows.path.name}: columns must be the epochs from 0 or 1 on, got "
            f"{epochs[:3]}{' ...' if len(epochs) > 3 else ''} without "
            f"{absent[:3] or '0 or 1'}"
        )
    columns = [found[epoch] for epoch in epochs]
    return columns, [rows.header[c] for c in columns]


def _read_curves(rows: Rows, names: list[str], num_epochs: int | None):
    """Accuracies ``[N, T]`` in the order of epochs, and the names of the columns."""
    columns, labels = _epoch_columns(rows)
    curves = rows.numbers(names, columns)
    if num_epochs is None:
        return curves, labels
    too_long = np.isfinite(curves[:, num_epochs:]).any(1)
    for row in np.flatnonzero(too_long)[:1]:
        raise ValueError(
            f"curve.csv, row {rows.lines[names[row]]}: the curve has "
            f"{np.isfinite(curves[row]).sum()} epochs, above the declared budget of "
            f"{num_epochs}"
        )
    return curves[:, :num_epochs], labels[:num_epochs]


def _read_costs(rows: Rows, names: list[str], epochs: list[str], curves: np.ndarray):
    """Seconds ``[N, T]``, NaN where the curve is, and the names of the columns."""
    if [name.lower() for name in rows.header[1:]] == ["cost"]:
        columns, labels = [1], ["cost"]
    else:
        try:
            columns, labels = _epoch_columns(rows)
        except ValueError:
            labels = []
        if labels[: len(epochs)] != epochs:
            raise ValueError(
                "cost.csv: columns must be 'cost' or those of curve.csv, got "
                f"{rows.header[1:5]}"
            )
        columns = columns[: len(epochs)]
    costs = np.broadcast_to(rows.numbers(names, columns), curves.shape)
    return np.where(np.isfinite(curves), costs, np.nan), labels


def _read_datasets(rows: Rows, names: list[str]) -> tuple[np.ndarray, list[str]]:
    if "dataset" not in rows.header:
        raise ValueError("meta.csv: missing columns ['dataset']")
    column = rows.header.index("dataset")
    labels = [rows.text(name, column) for name in names]
    dataset_names = sorted(set(labels))
    position = {label: i for i, label in enumerate(dataset_names)}
    return np.array([position[label] for label in labels]), dataset_names


def _read_meta(rows: Rows, names, dataset, dataset_names, wanted):
    """Meta-features ``[D, M]`` and their names."""
    if wanted is None:
        wanted = []
        for column, name in list(enumerate(rows.header))[1:]:
            values = [rows.parse(rows.text(n, column)) for n in names]
            numbers = [v for v in values if v is not None and np.isfinite(v)]
            if name == "dataset" or not numbers:
                continue
            if len(numbers) == len(values):
                wanted.append(name)
            else:
                warn_user(
                    f"meta.csv: column {name!r} is left out: {len(numbers)} of "
                    f"{len(values)} cells are numbers",
                )
    absent = [name for name in wanted if name not in rows.header]
    if absent:
        raise ValueError(f"meta.csv: missing columns {absent}")
    values = rows.numbers(names, [rows.header.index(name) for name in wanted])
    first = np.array([np.argmax(dataset == i) for i in range(len(dataset_names))])
    table = values[first]
    for row in np.flatnonzero((values != table[dataset]).any(1))[:1]:
        raise ValueError(
            f"meta.csv, row {rows.lines[names[row]]}: meta-features differ from those "
            f"of another run on dataset {dataset_names[dataset[row]]!r}"
        )
    return table, list(wanted)


def _differences(wanted: set[str], given: set[str]) -> str:
    """How the columns of a table differ from the hyperparameters of a space."""
    absent, unknown = sorted(wanted - given), sorted(given - wanted)
    told = []
    if absent:
        told.append(f"missing columns {absent}")
    if unknown:
        told.append(f"unknown columns {unknown}")
    if not absent:
        told.append("which the space does not have: add them to it, or leave them out")
    elif not unknown:
        told.append(f"which the space has; there are {sorted(given)}")
    return ", ".join(told)


def _config_vectors(space: SearchSpace, rows: Rows, names: list[str]) -> np.ndarray:
    """Check raw configurations against a space, and encode them."""
    wanted = {h.name for h in space.hyperparameters}
    given = {
        name
        for name in rows.header[1:]
        if name in wanted or name.lower() not in _NO_HYPERPARAMETERS
    }
    if given != wanted:
        raise ValueError(f"config.csv: {_differences(wanted, given)}")
    vectors = []
    for name in names:
        config = {}
        for h in space.hyperparameters:
            column = rows.header.index(h.name)
            cell = rows.text(name, column)
            if isinstance(h, Categorical):
                known = [c for c in h.choices if str(c) == cell]
                if not known and {True, False} >= set(h.choices):
                    word = _WORDS_OF_TRUTH.get(cell.lower())
                    known = [c for c in h.choices if str(bool(c)) == word]
                if known or not is_missing(cell):
                    config[h.name] = known[0] if known else cell
                elif h.optional:
                    config[h.name] = None
                continue
            value = rows.number(name, column)
            if np.isfinite(value):
                config[h.name] = value
            elif h.optional:
                config[h.name] = None
        active = {k: v for k, v in config.items() if space.is_active(k, config)}
        space.validate(active, f"config.csv, row {rows.lines[name]}")
        vectors.append(space.to_vector(active))
    return np.stack(vectors)


def _with_truth(cells: list[str]) -> list[str]:
    """Truth values in one spelling, where a column has words for them."""
    given = {cell.lower() for cell in cells if not is_missing(cell)}
    if given <= set(_WORDS_OF_TRUTH) and given & {"true", "false"}:
        return [_WORDS_OF_TRUTH.get(cell.lower(), cell) for cell in cells]
    return cells


def _check_words(rows: Rows, name: str, present: list[str]) -> None:
    """Raises ValueError for a few words in a column of numbers, such as "auto"."""
    numbers = [cell for cell in present if rows.parse(cell) is not None]
    words = [cell for cell in present if rows.parse(cell) is None]
    if len(numbers) > 2 and len(numbers) > len(words):
        raise ValueError(
            f"config.csv, column {name!r} must hold numbers or words, got "
            f"{len(numbers)} different numbers and {words[:3]}; leave the cells empty "
            "where there is no number, and say the word in a column of its own"
        )


def _config_columns(rows: Rows, names: list[str]) -> tuple[list[str], np.ndarray]:
    """Turn raw hyperparameter columns into one-hot and numeric ones."""
    columns, values = [], []
    for i, name in list(enumerate(rows.header))[1:]:
        if name.lower() in _NO_HYPERPARAMETERS:
            continue
        cells = _with_truth([rows.text(run, i) for run in names])
        numbers = [rows.parse(cell) for cell in cells]
        known = [v for v in numbers if v is not None and np.isfinite(v)]
        if known and None not in numbers:
            columns.append(name)
            values.append(numbers)
            continue
        present = sorted({cell for cell in cells if not is_missing(cell)})
        _check_words(rows, name, present)
        for choice in present:  # none: a hyperparameter that no run has
            columns.append(f"cat:{name}:{choice}")
            values.append([float(cell == choice) for cell in cells])
    return columns, np.array(values, np.float32).T.reshape(len(names), len(columns))
