"""Readers of published meta-datasets: npz table, four csv files, json and csv.

Every reader raises a ValueError that names the file, and the row and column where
there is one; accuracies given in percent are refused unless ``percent=True``.
"""

from __future__ import annotations

import csv
import json
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from finetune.meta_dataset import MetaDataset, check_duplicates, check_values
from finetune.quicktune import with_conditions
from finetune.space import Categorical, SearchSpace, blank_inactive, infer_space

_NPZ_KEYS = (
    "perf_top1_percent",
    "cost_seconds",
    "hp",
    "hp_names",
    "dataset",
    "dataset_names",
    "meta_features",
)
META_NAMES = ("num_train", "num_classes", "resolution", "num_channels")


def read(path: str | Path, percent: bool = True) -> MetaDataset:
    """Read a meta-dataset: an npz file, or a folder in one of the two other layouts.

    Args:
        path: File or folder.
        percent: Whether the accuracies of ``curve.csv`` are percent; the two other
            layouts always hold percent.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path.name}: no such file or folder")
    if path.is_file():
        if path.suffix != ".npz":
            raise ValueError(f"{path.name}: expected an .npz file or a folder")
        return read_npz(path)
    if (path / "config.csv").exists():
        return read_csv(path, percent=percent)
    if (path / "table.csv").exists():
        return read_json(path)
    return read_npz(
        _only_table(
            path,
            "config.csv, curve.csv, cost.csv, meta.csv, or table.csv with curves/ and "
            "meta/, or ",
        )
    )


def read_for(
    space: SearchSpace, meta_feature_names: Sequence[str], path: str | Path
) -> MetaDataset:
    """Read an npz table for surrogates that were fitted on another one.

    Datasets without runs are left out. Warns where the table has hyperparameters that
    the surrogates do not know, or lacks some that they do.

    Args:
        space: Search space of the surrogates.
        meta_feature_names: Their meta-features.
        path: The file, or a folder with one.

    Raises:
        ValueError: If it is no such table, or has other meta-features.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path.name}: no such file or folder")
    path = _only_table(path) if path.is_dir() else path
    with np.load(path, allow_pickle=False) as file:
        columns = [str(n) for n in file["hp_names"]] if "hp_names" in file else []
        known = set(columns) & set(space.columns)
        if columns and len(known) < len(space.columns) / 2:
            raise ValueError(
                f"{path.name}: a table of another search space: only {len(known)} of "
                f"the surrogates' {len(space.columns)} columns are among its hp_names"
            )
    data = read_npz(path, space=space)
    if data.meta_features.shape[1] != len(meta_feature_names):
        raise ValueError(
            f"{path.name}: {data.meta_features.shape[1]} meta-features, expected "
            f"{list(meta_feature_names)}"
        )
    with np.load(path, allow_pickle=False) as file:
        unknown = [n not in known for n in columns]
        num_unknown = int((file["hp"][:, unknown] > 0).any(1).sum())
    lacking = [n for n in space.columns if n not in known and n[:4] != "cat:"]
    if num_unknown or lacking:
        warnings.warn(
            f"{path.name}: {num_unknown} of {data.num_runs} runs have choices or "
            f"hyperparameters that the surrogates do not know; lacking: {lacking}",
            stacklevel=2,
        )
    return data.subset(np.unique(data.dataset).tolist())


def _only_table(folder: Path, alternatives: str = "") -> Path:
    """Find the one npz table of a folder."""
    tables = [table for table in sorted(folder.glob("*.npz")) if _is_table(table)]
    if len(tables) != 1:
        raise ValueError(
            f"{folder.name}: expected {alternatives}one npz table (found "
            f"{[table.name for table in tables]})"
        )
    return tables[0]


def _from_percent(curves: np.ndarray, source: str, advice: str = "") -> np.ndarray:
    """Divide by 100, and refuse what can only be fractions."""
    curves = np.asarray(curves, np.float32)
    largest = np.nanmax(curves, initial=0)
    if 0 < largest <= 1:
        raise ValueError(
            f"{source}: the largest accuracy is {largest:g}, expected percent; "
            + (advice or "multiply fractions by 100")
        )
    return curves / 100


def _is_table(path: Path) -> bool:
    with np.load(path, allow_pickle=False) as file:
        return "perf_top1_percent" in file


def read_npz(path: str | Path, space: SearchSpace | None = None) -> MetaDataset:
    """Read a table in the npz layout of the Quick-Tune "extended" meta-dataset.

    Keys: ``perf_top1_percent [N, T]`` (NaN after the last epoch), ``cost_seconds
    [N, T]``, ``hp [N, H]`` with ``hp_names`` (``cat:<name>:<choice>`` for one-hot
    columns; -1 where a numeric hyperparameter is absent), ``dataset [N]`` into
    ``dataset_names``, ``meta_features [D, M]``.

    Args:
        path: The file.
        space: Lay the hyperparameters out for this space instead of inferring one:
            columns are matched by name, those it does not have are left out, those
            that the file does not have are absent.
    """
    path = Path(path)
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path.name}: no such npz file, or not one")
    with np.load(path, allow_pickle=False) as file:
        missing = [key for key in _NPZ_KEYS if key not in file]
        if missing:
            raise ValueError(f"{path.name}: missing arrays {missing}")
        table = {key: file[key] for key in _NPZ_KEYS}
    columns = [str(name) for name in table["hp_names"]]
    vectors = np.asarray(table["hp"], np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != len(columns):
        raise ValueError(
            f"{path.name}: hp has shape {vectors.shape}, expected one column for each "
            f"of the {len(columns)} hp_names"
        )
    meta_features = np.asarray(table["meta_features"], np.float32)
    return _assemble(
        columns,
        np.where(vectors == -1, np.nan, vectors),
        _from_percent(table["perf_top1_percent"], f"{path.name}: perf_top1_percent"),
        table["cost_seconds"],
        table["dataset"],
        [str(name) for name in table["dataset_names"]],
        meta_features,
        _meta_names(meta_features.shape[-1]),
        path.name,
        space,
    )


def _meta_names(count: int) -> tuple[str, ...]:
    extra = tuple(f"meta_{i}" for i in range(len(META_NAMES), count))
    return META_NAMES[:count] + extra


def _assemble(
    columns: Sequence[str],
    vectors: np.ndarray,
    curves: np.ndarray,
    costs: np.ndarray,
    dataset: np.ndarray,
    dataset_names: Sequence[str],
    meta_features: np.ndarray,
    meta_names: Sequence[str],
    source: str,
    space: SearchSpace | None = None,
) -> MetaDataset:
    """Infer or apply the search space, and build the meta-dataset."""
    if space is None:
        space, vectors = with_conditions(infer_space(columns, vectors), vectors)
    else:
        vectors = blank_inactive(space, match_columns(space, columns, vectors))
    return MetaDataset(
        space=space,
        vectors=vectors,
        curves=curves,
        costs=costs,
        dataset=dataset,
        dataset_names=tuple(dataset_names),
        meta_features=meta_features,
        meta_feature_names=tuple(meta_names),
        source=source,
    )


def match_columns(
    space: SearchSpace, columns: Sequence[str], vectors: np.ndarray
) -> np.ndarray:
    """Lay out ``vectors [N, len(columns)]`` in the columns of another space.

    Columns are matched by name. Missing one-hot columns are 0, missing numbers NaN.
    """
    position = {column: i for i, column in enumerate(columns)}
    found = [
        vectors[:, position[column]]
        if column in position
        else np.full(len(vectors), 0.0 if column.startswith("cat:") else np.nan)
        for column in space.columns
    ]
    return np.stack(found, 1).astype(np.float32)


def _read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Read a csv file with a header and the run's name in the first column."""
    if not path.exists():
        raise ValueError(f"{path.name}: no such file in {path.parent.name}")
    with path.open(newline="") as file:
        lines = list(csv.reader(file))
    if len(lines) < 2:
        raise ValueError(f"{path.name}: no rows")
    header, rows = lines[0], lines[1:]
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(
                f"{path.name}, row {number + 2}: {len(row)} cells, expected "
                f"{len(header)}"
            )
    names = [row[0] for row in rows]
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ValueError(f"{path.name}: run {twice!r} occurs more than once")
    return header, rows


def _number(text: str, path: Path, row: int, column: str) -> float:
    """Parse a cell; an empty one is NaN."""
    if text.strip() == "":
        return np.nan
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"{path.name}, row {row + 2}, column {column!r}: {text!r} is not a number"
        ) from None


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
    a dataset. Meta-features that are not numbers are left out.

    Args:
        folder: Where the files are.
        percent: Accuracies are percent.
        num_epochs: The declared budget; None: the number of columns of curve.csv.
        meta_features: Which columns of meta.csv to use; None: all that are numbers.
        space: The search space of config.csv, against which names and values are
            checked; None: inferred from the file.
    """
    folder = Path(folder)
    paths = {
        name: folder / f"{name}.csv" for name in ("config", "curve", "cost", "meta")
    }
    tables = {name: _read_rows(path) for name, path in paths.items()}
    names = [row[0] for row in tables["config"][1]]
    ordered = {}
    for name, (_, rows) in tables.items():
        by_name = {row[0]: (number, row) for number, row in enumerate(rows)}
        lacking = [n for n in names if n not in by_name]
        unknown = [n for n in by_name if n not in set(names)]
        if lacking or unknown:
            raise ValueError(
                f"{name}.csv: runs missing {lacking[:3]}, runs not in config.csv "
                f"{unknown[:3]}"
            )
        ordered[name] = [by_name[n] for n in names]

    def numbers(name: str, columns: Sequence[str]) -> np.ndarray:
        header = tables[name][0]
        absent = [c for c in columns if c not in header]
        if absent:
            raise ValueError(f"{name}.csv: missing columns {absent}")
        where = [header.index(c) for c in columns]
        return np.array(
            [
                [_number(row[i], paths[name], n, header[i]) for i in where]
                for n, row in ordered[name]
            ]
        )

    curve_header = tables["curve"][0][1:]
    not_epochs = [c for c in curve_header if not c.strip().isdigit()]
    if not_epochs:
        raise ValueError(f"curve.csv: unknown columns {not_epochs}, expected epochs")
    curves = numbers("curve", curve_header)
    if num_epochs is not None:
        too_long = np.isfinite(curves[:, num_epochs:]).any(1)
        for row in np.flatnonzero(too_long)[:1]:
            length = np.isfinite(curves[row]).sum()
            raise ValueError(
                f"curve.csv, row {ordered['curve'][row][0] + 2}: the curve has {length}"
                f" epochs, above the declared budget of {num_epochs}"
            )
        curves = curves[:, :num_epochs]
    cost_header = tables["cost"][0][1:]
    if cost_header != ["cost"] and cost_header != curve_header:
        raise ValueError(
            f"cost.csv: unknown columns {cost_header[:4]}, expected 'cost' or those "
            "of curve.csv"
        )
    costs = numbers("cost", cost_header)[:, : curves.shape[1]]
    costs = np.where(np.isfinite(curves), np.broadcast_to(costs, curves.shape), np.nan)

    meta_header = tables["meta"][0]
    if "dataset" not in meta_header:
        raise ValueError("meta.csv: missing columns ['dataset']")
    column = meta_header.index("dataset")
    labels = [row[column] for _, row in ordered["meta"]]
    dataset_names = sorted(set(labels))
    dataset = np.array([dataset_names.index(label) for label in labels])
    if meta_features is None:
        meta_features = [
            name
            for i, name in enumerate(meta_header)
            if i > 0 and name != "dataset" and _all_numbers(ordered["meta"], i)
        ]
    values = numbers("meta", meta_features)
    table = np.stack([values[dataset == i][0] for i in range(len(dataset_names))])
    for row in np.flatnonzero((values != table[dataset]).any(1))[:1]:
        raise ValueError(
            f"meta.csv, row {ordered['meta'][row][0] + 2}: meta-features differ from "
            f"those of another run on dataset {labels[row]!r}"
        )
    if space is None:
        columns, vectors = _config_columns(tables["config"][0], ordered["config"])
    else:
        columns = space.columns
        vectors = _config_vectors(space, tables["config"][0], ordered["config"])
    if percent:
        curves = _from_percent(curves, "curve.csv", "read fractions with percent=False")

    def place(name: str, row: int, column: int) -> str:
        header = curve_header if name == "curve" else cost_header
        column_name = header[min(column, len(header) - 1)]
        return f"{name}.csv, row {ordered[name][row][0] + 2}, column {column_name!r}"

    check_values(curves, costs, place)
    lines = [number + 2 for number, _ in ordered["config"]]
    check_duplicates(
        vectors, dataset, lambda a, b: f"config.csv: rows {lines[a]} and {lines[b]}"
    )
    return _assemble(
        columns,
        vectors,
        curves,
        costs,
        dataset,
        dataset_names,
        table,
        meta_features,
        "curve.csv",
        space,
    )


def _all_numbers(rows: Sequence[tuple[int, list[str]]], column: int) -> bool:
    try:
        return all(np.isfinite(float(row[column])) for _, row in rows)
    except ValueError:
        return False


def _config_vectors(
    space: SearchSpace, header: Sequence[str], rows: Sequence[tuple[int, list[str]]]
) -> np.ndarray:
    """Check raw configurations against a space, and encode them."""
    names = {h.name for h in space.hyperparameters}
    given = set(header[1:]) - {"dataset"}
    if given != names:
        raise ValueError(
            f"config.csv: missing columns {sorted(names - given)}, unknown columns "
            f"{sorted(given - names)}"
        )
    vectors = []
    for number, row in rows:
        config = {}
        for h in space.hyperparameters:
            cell = row[header.index(h.name)].strip()
            if isinstance(h, Categorical):
                known = [c for c in h.choices if str(c) == cell]
                if cell or known:
                    config[h.name] = known[0] if known else cell
            elif cell:
                config[h.name] = _number(cell, Path("config.csv"), number, h.name)
            elif h.optional:
                config[h.name] = None
        active = {k: v for k, v in config.items() if space.is_active(k, config)}
        space.validate(active, f"config.csv, row {number + 2}")
        vectors.append(space.to_vector(active))
    return np.stack(vectors)


def _config_columns(
    header: Sequence[str], rows: Sequence[tuple[int, list[str]]]
) -> tuple[list[str], np.ndarray]:
    """Turn raw hyperparameter columns into one-hot and numeric ones."""
    columns, values = [], []
    for i, name in enumerate(header):
        if i == 0 or name == "dataset":
            continue
        cells = [row[i].strip() for _, row in rows]
        present = sorted({cell for cell in cells if cell})
        if not present:
            continue  # a hyperparameter that no run has
        try:
            numeric = [float(cell) if cell else np.nan for cell in cells]
            columns.append(name)
            values.append(numeric)
        except ValueError:
            for choice in present:
                columns.append(f"cat:{name}:{choice}")
                values.append([float(cell == choice) for cell in cells])
    return columns, np.asarray(values, np.float32).T


def read_json(folder: str | Path, num_epochs: int = 50) -> MetaDataset:
    """Read Quick-Tune's layout: table.csv, curves/*.json and meta/descriptors.json.

    ``table.csv`` holds encoded configurations (run number first), ``eval_top1.json``
    percent and ``cost.json`` seconds, both as ``{dataset: {run: [values]}}``.

    Args:
        folder: Where ``table.csv`` is.
        num_epochs: The declared budget.
    """
    folder = Path(folder)
    header, rows = _read_rows(folder / "table.csv")
    columns = header[1:]
    position = {row[0]: number for number, row in enumerate(rows)}
    vectors = np.array(
        [
            [
                _number(cell, folder / "table.csv", number, name)
                for cell, name in zip(row[1:], columns, strict=True)
            ]
            for number, row in enumerate(rows)
        ],
        np.float32,
    )
    parts = {}
    for name in ("curves/eval_top1.json", "curves/cost.json", "meta/descriptors.json"):
        if not (folder / name).exists():
            raise ValueError(f"{name}: no such file in {folder.name}")
        try:
            parts[name] = json.loads((folder / name).read_text())
        except ValueError as error:
            raise ValueError(f"{name}: cannot be read as json ({error})") from None
    performance, cost, meta = parts.values()
    dataset_names = sorted(performance)
    lacking = [n for n in dataset_names if n not in cost or n not in meta]
    if lacking:
        raise ValueError(
            f"cost.json or descriptors.json: missing datasets {lacking[:3]}"
        )
    index, names, curves, costs, dataset = [], [], [], [], []
    for number, name in enumerate(dataset_names):
        for run, values in performance[name].items():
            where = f"eval_top1.json, dataset {name!r}, run {run!r}"
            if run not in position:
                raise ValueError(f"{where}: not in table.csv")
            if len(values) > num_epochs:
                raise ValueError(
                    f"{where}: {len(values)} epochs, above the declared budget of "
                    f"{num_epochs}"
                )
            seconds = cost[name].get(run, [])
            if len(seconds) != len(values):
                raise ValueError(
                    f"{where}: {len(values)} epochs but {len(seconds)} in cost.json"
                )
            pad = [np.nan] * (num_epochs - len(values))
            index.append(position[run])
            names.append(run)
            curves.append([*values, *pad])
            costs.append([*seconds, *pad])
            dataset.append(number)
    table = np.array([meta[name] for name in dataset_names], np.float32)
    vectors = vectors[index]
    curves = _from_percent(np.asarray(curves), "eval_top1.json")

    def place(name: str, row: int, column: int) -> str:
        file = "eval_top1.json" if name == "curve" else "cost.json"
        label = dataset_names[dataset[row]]
        return f"{file}, dataset {label!r}, run {names[row]!r}, epoch {column + 1}"

    check_values(curves, np.asarray(costs), place)
    check_duplicates(
        vectors,
        np.asarray(dataset),
        lambda a, b: f"table.csv: rows {index[a] + 2} and {index[b] + 2}",
    )
    return _assemble(
        columns,
        np.where(vectors == -1, np.nan, vectors),
        curves,
        np.asarray(costs, np.float32),
        np.asarray(dataset),
        dataset_names,
        table,
        _meta_names(table.shape[1]),
        "eval_top1.json",
    )
