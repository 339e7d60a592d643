"""Readers of json layouts: Quick-Tune's two, and LCBench's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from finetune.assemble import assemble, from_percent, name_meta_features
from finetune.cells import Rows, is_missing, to_number
from finetune.meta_dataset import MetaDataset, check_repetitions, check_values
from jaxrl_runs.values import PATH

# what Quick-Tune's tables record beside hyperparameters
_NO_HYPERPARAMETERS = frozenset(
    """
    dataset experiment project project_name device distributed rank world_size seed
    prefetcher epochs curve_length device_count final_batch_size invalid_loss_value
    max_memory_allocated test_mode initial_eval_top1 initial_eval_top5
    initial_eval_loss num_classes max_eval_top1 max_eval_top5
    """.split()  # noqa: SIM905
)


def is_json_layout(folder: Path) -> bool:
    """Tell whether a folder looks like one of Quick-Tune's json layouts."""
    return (folder / "table.csv").exists() or (folder / "eval_top1.json").exists()


def read_json(path: str | Path, num_epochs: int = 50) -> MetaDataset:
    """Read a table of runs in one of three json layouts.

    * ``DIR/table.csv`` (encoded configurations, run number first),
      ``curves/eval_top1.json`` (percent) and ``curves/cost.json`` (seconds), both
      ``{dataset: {run: [values]}}``, ``meta/descriptors.json`` ``{dataset: [values]}``;
    * Quick-Tune's own sets: ``DIR/eval_top1.json``, ``eval_time.json``,
      ``train_time.json``, ``args.json`` (``{run: {name: value}}``) or
      ``unnormalized_args_table.csv``, and ``meta-features.json`` there or in
      ``../dataset-meta-features/*/``;
    * LCBench's file ``{dataset: {run: {"config": {..}, "log": {..}}}}``, with
      ``Train/val_accuracy`` (percent) and ``time`` (seconds since the start).

    Args:
        path: The folder, or LCBench's file.
        num_epochs: The declared budget.

    Raises:
        ValueError: If something is missing or out of range; the message says where.
    """
    PATH.check("path", path)
    path = Path(path)
    if path.is_file():
        return _read_lcbench(path)
    if (path / "table.csv").exists():
        return _read_described(path, num_epochs)
    return _read_quick_tune_set(path, num_epochs)


def load_json(path: Path, name: str) -> dict[str, Any]:
    """Read a json object.

    Raises:
        ValueError: If there is none.
    """
    if not path.exists():
        raise ValueError(f"{name}: no such file in {path.parent.name}")
    try:
        content = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise ValueError(f"{name}: cannot be read as json ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{name} must be a json object, got {type(content).__name__}")
    return content


class _Runs:
    """Collects runs, and lays them out."""

    def __init__(self, file: str, cost_file: str, num_epochs: int):
        self.file, self.cost_file, self.num_epochs = file, cost_file, num_epochs
        self.names: list[str] = []
        self.datasets: list[str] = []
        self.curves: list[list[float]] = []
        self.costs: list[list[float]] = []

    def where(self, dataset: str, run: str) -> str:
        """Say where a run stands."""
        return f"{self.file}, dataset {dataset!r}, run {run!r}"

    def add(self, dataset: str, run: str, values: Any, seconds: Any) -> None:
        """Add a run; the values after its last epoch may be missing."""
        where = self.where(dataset, run)
        for name, part in (("accuracies", values), ("seconds", seconds)):
            if not isinstance(part, list):
                raise ValueError(f"{where}: {name} must be a list, got {part!r}")
        if len(values) > self.num_epochs:
            raise ValueError(
                f"{where}: {len(values)} epochs, above the declared budget of "
                f"{self.num_epochs}"
            )
        if len(seconds) != len(values):
            raise ValueError(
                f"{where}: {len(values)} epochs but {len(seconds)} in {self.cost_file}"
            )
        numbers = []
        for part in (values, seconds):
            row = [np.nan if v is None else _json_number(v, where) for v in part]
            numbers.append(row + [np.nan] * (self.num_epochs - len(row)))
        self.names.append(run)
        self.datasets.append(dataset)
        self.curves.append(numbers[0])
        self.costs.append(numbers[1])

    def build(
        self,
        columns: list[str],
        vectors: np.ndarray,
        meta: Mapping[str, Any],
        meta_names: tuple[str, ...] | None,
        row_name: Callable[[int], str],
    ) -> MetaDataset:
        """Check everything, and make the meta-dataset."""
        if not self.names:
            raise ValueError(f"{self.file}: no runs")
        names = sorted(set(self.datasets))
        lacking = [name for name in names if name not in meta]
        if lacking:
            raise ValueError(f"meta-features: missing datasets {lacking[:3]}")
        position = {name: i for i, name in enumerate(names)}
        dataset = np.array([position[name] for name in self.datasets])
        table = np.array([meta[name] for name in names], np.float32)
        curves, costs = np.array(self.curves), np.array(self.costs, np.float32)
        curves = from_percent(curves, self.file)

        def place(kind: str, row: int, column: int) -> str:
            file = self.file if kind == "curve" else self.cost_file
            return (
                f"{file}, dataset {self.datasets[row]!r}, run {self.names[row]!r}, "
                f"epoch {column + 1}"
            )

        check_values(curves, costs, place)
        check_repetitions(
            vectors, dataset, curves, lambda a, b: f"{row_name(a)} and {row_name(b)}"
        )
        return assemble(
            columns,
            vectors,
            curves,
            costs,
            dataset,
            names,
            table,
            meta_names or name_meta_features(table.shape[1]),
            self.file,
        )


def _json_number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{where}: {value!r} is not a number")
    return float(value)


def _read_described(folder: Path, num_epochs: int) -> MetaDataset:
    """The layout with table.csv and descriptors."""
    rows = Rows(folder / "table.csv")
    performance, cost, meta = (
        load_json(folder / name, name)
        for name in (
            "curves/eval_top1.json",
            "curves/cost.json",
            "meta/descriptors.json",
        )
    )
    lacking = [n for n in performance if n not in cost or n not in meta]
    if lacking:
        raise ValueError(
            f"cost.json or descriptors.json: missing datasets {lacking[:3]}"
        )
    runs = _Runs("eval_top1.json", "cost.json", num_epochs)
    for dataset in sorted(performance):
        for run, values in performance[dataset].items():
            if run not in rows.cells:
                raise ValueError(f"{runs.where(dataset, run)}: not in table.csv")
            runs.add(dataset, run, values, cost[dataset].get(run, []))
    vectors = rows.numbers(runs.names, list(range(1, len(rows.header))))
    return runs.build(
        rows.header[1:],
        np.where(vectors == -1, np.nan, vectors).astype(np.float32),
        meta,
        None,
        lambda i: f"table.csv: row {rows.lines[runs.names[i]]}",
    )


def _read_quick_tune_set(folder: Path, num_epochs: int) -> MetaDataset:
    """Quick-Tune's own layout of the sets micro, mini and extended."""
    performance, evaluation, training = (
        load_json(folder / f"{name}.json", f"{name}.json")
        for name in ("eval_top1", "eval_time", "train_time")
    )
    meta, meta_names = _quick_tune_meta(folder, sorted(performance))
    runs = _Runs("eval_top1.json", "train_time.json", num_epochs)
    for dataset in sorted(performance):
        for run, values in performance[dataset].items():
            parts = [
                times.get(dataset, {}).get(run, []) for times in (evaluation, training)
            ]
            if len(parts[0]) != len(parts[1]):
                raise ValueError(
                    f"{runs.where(dataset, run)}: {len(parts[0])} epochs in "
                    f"eval_time.json but {len(parts[1])} in train_time.json"
                )
            seconds = [a + b for a, b in zip(*parts, strict=True)]
            runs.add(dataset, run, values[:num_epochs], seconds[:num_epochs])
    if (folder / "args.json").exists():
        configs = load_json(folder / "args.json", "args.json")
        columns, vectors = _encode_configs(configs, runs.names, "args.json")
    else:
        columns, vectors = _encoded_arguments(folder, runs.names)
    return runs.build(
        columns, vectors, meta, meta_names, lambda i: f"run {runs.names[i]!r}"
    )


def _quick_tune_meta(folder: Path, datasets: list[str]):
    """Descriptors by dataset; those of Meta-Album go without their prefix."""
    above = folder.parent / "dataset-meta-features"
    found = [folder / "meta-features.json", *sorted(above.glob("*/meta-features.json"))]
    for path in [path for path in found if path.exists()]:
        content = load_json(path, path.name)
        missing = {"dataset_names", "dataset_descriptors"} - set(content)
        if missing:
            raise ValueError(f"{path.name}: missing keys {sorted(missing)}")
        part = content["dataset_descriptors"]
        if isinstance(part, dict):  # by column
            names = tuple(part)
            rows = list(zip(*[list(_values(v)) for v in part.values()], strict=True))
        elif part and isinstance(part[0], dict):
            names = tuple(part[0])
            rows = [[row[name] for name in names] for row in part]
        else:
            names, rows = None, part
        by_name = dict(zip(content["dataset_names"], rows, strict=True))
        by_name |= {f"mtlbm/{name}": row for name, row in by_name.items()}
        if all(name in by_name for name in datasets):
            return by_name, names
    raise ValueError(
        f"{folder.name}: no meta-features.json with all of {datasets[:3]} ... there or "
        "in ../dataset-meta-features/*/"
    )


def _values(column: Any) -> list[Any]:
    return list(column.values()) if isinstance(column, dict) else list(column)


def _encoded_arguments(folder: Path, names: list[str]) -> tuple[list[str], np.ndarray]:
    """Quick-Tune's table of arguments, with its names for one-hot columns."""
    rows = Rows(folder / "unnormalized_args_table.csv")
    lacking = [name for name in names if name not in rows.cells]
    if lacking:
        raise ValueError(f"{rows.path.name}: runs missing {lacking[:3]}")
    columns, kept = [], []
    hot = ("model", "opt_betas", "opt", "sched", "auto_augment", "data_augmentation")
    for i, name in list(enumerate(rows.header))[1:]:
        if name.startswith("cat__"):
            owner = next((h for h in hot if name[5:].startswith(f"{h}_")), None)
            if owner is None:
                continue
            name = f"cat:{owner}:{name[6 + len(owner) :]}"
        elif name in _NO_HYPERPARAMETERS:
            continue
        columns.append(name)
        kept.append(i)
    order = sorted(range(len(columns)), key=lambda i: columns[i].split(":")[:2])
    vectors = rows.numbers(names, [kept[i] for i in order])
    return [columns[i] for i in order], np.where(vectors == -1, np.nan, vectors)


def _encode_configs(
    configs: Mapping[str, Any], names: list[str], file: str
) -> tuple[list[str], np.ndarray]:
    """Raw configurations by run to one-hot and numeric columns."""
    lacking = [name for name in names if not isinstance(configs.get(name), dict)]
    if lacking:
        raise ValueError(f"{file}: runs missing {lacking[:3]}")
    keys = sorted({k for n in names for k in configs[n]} - _NO_HYPERPARAMETERS)
    columns, values = [], []
    for key in keys:
        cells = [str(configs[name].get(key, "")) for name in names]
        numbers = [to_number(cell) for cell in cells]
        known = {v for v in numbers if v is not None and np.isfinite(v)}
        present = sorted({cell for cell in cells if not is_missing(cell)})
        if len(present) < 2 and len(set(cells)) < 2:
            continue  # the same in every run
        if known and None not in numbers:
            columns.append(key)
            values.append([np.nan if v == -1 else v for v in numbers])
            continue
        for choice in present:
            columns.append(f"cat:{key}:{choice}")
            values.append([float(cell == choice) for cell in cells])
    return columns, np.array(values, np.float32).T.reshape(len(names), len(columns))


def _read_lcbench(path: Path) -> MetaDataset:
    """LCBench's one file; it has no meta-features, so there is one constant."""
    shape = '{dataset: {run: {"config": {..}, "log": {"Train/val_accuracy": .., "time"'
    content = load_json(path, path.name)
    runs = _Runs(path.name, f"{path.name} (time)", _longest(content))
    configs: dict[str, Any] = {}
    for dataset, rows in content.items():
        for run, row in rows.items() if isinstance(rows, dict) else ():
            where = runs.where(dataset, run)
            log = row.get("log") if isinstance(row, dict) else None
            if not isinstance(log, dict) or not isinstance(row.get("config"), dict):
                raise ValueError(f"{where} must be laid out as {shape}: ..}}}}}}}}")
            absent = {"Train/val_accuracy", "time"} - set(log)
            if absent:
                raise ValueError(f"{where}: missing {sorted(absent)}")
            seconds = np.diff(np.array([0.0, *log["time"]], float))
            runs.add(dataset, run, log["Train/val_accuracy"], seconds.tolist())
            configs[f"{dataset}/{run}"] = row["config"]
    if not configs:
        raise ValueError(f"{path.name} must be laid out as {shape}: ..}}}}}}}}")
    names = [f"{d}/{r}" for d, r in zip(runs.datasets, runs.names, strict=True)]
    columns, vectors = _encode_configs(configs, names, path.name)
    meta = {name: [1.0] for name in content}
    return runs.build(
        columns, vectors, meta, ("constant",), lambda i: f"run {names[i]!r}"
    )


def _longest(content: Any) -> int:
    """Length of the longest list somewhere in a json object."""
    if isinstance(content, dict):
        return max((_longest(part) for part in content.values()), default=0)
    return len(content) if isinstance(content, list) else 0
