"""Search spaces, the container, the readers and what they refuse."""

import csv
import dataclasses
import json

import numpy as np
import pytest

import finetune
from finetune import Categorical, Condition, Float, Ordinal, SearchSpace
from finetune.readers import read_for


def test_columns_count_choices_not_hyperparameters():
    space = finetune.example_space()
    assert space.num_columns == 3 + 2 + 1 + 1 + 1 + 1 + 1
    config = {
        "model": "large",
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "frozen_share": 0.5,
        "weight_decay": 0.0,
        "clip_norm": None,
    }
    vector = space.to_vector(config)
    assert vector[:5].tolist() == [0, 0, 1, 1, 0]
    assert np.isnan(vector[-1])
    back = space.to_config(vector)
    assert back["momentum"] == pytest.approx(0.9)
    assert back["clip_norm"] is None and back["model"] == "large"


def test_inactive_hyperparameters_are_absent():
    space = finetune.example_space()
    random = np.random.default_rng(0)
    for _ in range(50):
        config = space.sample(random)
        assert ("momentum" in config) == (config["optimizer"] == "sgd")
        again = space.to_config(space.to_vector(config))
        assert again.keys() == config.keys()
    assert SearchSpace.from_json(space.to_json()) == space


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "huge"}, r"model must be one of \['tiny', .*got 'huge'"),
        (
            {"learning_rate": 1.0},
            r"learning_rate must be a number in \[1e-05, 0.1\], got 1.0",
        ),
        ({"frozen_share": 0.3}, "frozen_share must be one of .* got 0.3"),
        ({"extra": 1}, r"unknown hyperparameters \['extra'\]"),
    ],
)
def test_space_refuses(change, message):
    space = finetune.example_space()
    config = space.sample(np.random.default_rng(1)) | change
    with pytest.raises(ValueError, match=message):
        space.to_vector(config)


def test_space_refuses_bad_conditions():
    with pytest.raises(ValueError, match="not in the space"):
        SearchSpace((Float("a", 0, 1, condition=Condition("b", (1,))),))
    with pytest.raises(
        ValueError, match=r"its condition on b must be one of .* got 'y'"
    ):
        SearchSpace(
            (
                Categorical("b", ("x",)),
                Ordinal("a", (1.0,), condition=Condition("b", ("y",))),
            )
        )


def _broken(data, name, row, column, value):
    array = getattr(data, name).copy()
    array[row, column] = value
    return dataclasses.replace(data, **{name: array})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("curves", 45.0, "row 3, epoch 1: accuracy 45 .* divide by 100"),
        ("curves", np.nan, "row 3, epoch 1: NaN inside a curve"),
        ("costs", -1.0, "row 3, epoch 1: -1 seconds"),
    ],
)
def test_container_refuses(synthetic, name, value, message):
    with pytest.raises(ValueError, match=message):
        _broken(synthetic, name, 3, 0, value)


def test_container_refuses_duplicate_runs(synthetic):
    with pytest.raises(ValueError, match="rows 0 and 1 are the same run"):
        synthetic.select(np.array([0, 0, 1]))


def _write(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def csv_folder(tmp_path):
    _write(
        tmp_path / "config.csv",
        [["", "dataset", "model", "lr"], ["a", "d", "x", 0.1], ["b", "d", "y", 0.2]],
    )
    _write(tmp_path / "curve.csv", [["", 0, 1], ["b", 0.2, 0.3], ["a", 0.1, ""]])
    _write(tmp_path / "cost.csv", [["", "cost"], ["a", 3], ["b", 4]])
    _write(
        tmp_path / "meta.csv",
        [["", "dataset", "kind", "num_train"], ["a", "d", "z", 9], ["b", "d", "z", 9]],
    )
    return tmp_path


def test_csv_reader_matches_rows_by_name(csv_folder):
    data = finetune.read_csv(csv_folder)
    assert data.lengths.tolist() == [1, 2]
    assert data.costs[1].tolist() == [4, 4]
    assert data.meta_feature_names == ("num_train",)
    assert data.space.columns == ["cat:model:x", "cat:model:y", "lr"]


@pytest.mark.parametrize(
    ("file", "rows", "message"),
    [
        (
            "curve",
            [["", 0, "loss"], ["a", 0.1, 1], ["b", 0.1, 1]],
            "columns must be epochs",
        ),
        (
            "cost",
            [["", "money"], ["a", 1], ["b", 1]],
            "cost.csv: columns must be 'cost'",
        ),
        ("meta", [["", "kind"], ["a", "z"], ["b", "z"]], "missing columns"),
        ("cost", [["", "cost"], ["a", 1]], r"cost.csv: runs missing \['b'\]"),
        ("cost", [["", "cost"], ["a", "x"], ["b", 1]], "row 2, column 'cost': 'x'"),
        ("curve", [["", 0], ["a", 0.1], ["a", 0.1]], "'a' occurs more than once"),
    ],
)
def test_csv_reader_refuses(csv_folder, file, rows, message):
    _write(csv_folder / f"{file}.csv", rows)
    with pytest.raises(ValueError, match=message):
        finetune.read_csv(csv_folder)


@pytest.mark.parametrize(
    ("file", "rows", "message"),
    [
        (
            "curve",
            [["", 0, 1, 2], ["b", 0.2, "", 0.3], ["a", 0.1, "", ""]],
            "curve.csv, row 2, column '1': NaN inside a curve",
        ),
        (
            "curve",
            [["", 0, 1], ["b", 0.2, 0.3], ["a", 0.1, 30]],
            "curve.csv, row 3, column '1': accuracy 30 .* divide by 100",
        ),
        (
            "cost",
            [["", "cost"], ["b", -4], ["a", 3]],
            "cost.csv, row 2, column 'cost': -4 seconds",
        ),
    ],
)
def test_csv_reader_counts_rows_as_the_file_does(csv_folder, file, rows, message):
    _write(csv_folder / f"{file}.csv", rows)
    with pytest.raises(ValueError, match=message):
        finetune.read_csv(csv_folder)


def test_one_configuration_may_be_repeated_but_not_one_run(csv_folder):
    twice = [["", "dataset", "model", "lr"], ["a", "d", "x", 1], ["b", "d", "x", 1]]
    _write(csv_folder / "config.csv", twice)
    data = finetune.read_csv(csv_folder)  # two seeds
    np.testing.assert_array_equal(data.vectors[0], data.vectors[1])
    _write(csv_folder / "curve.csv", [["", 0], ["b", 0.2], ["a", 0.2]])
    with pytest.raises(ValueError, match=r"config.csv: rows 2 and 3 are the same run"):
        finetune.read_csv(csv_folder)


def _plain(csv_folder, **tables):
    for name, rows in tables.items():
        _write(csv_folder / f"{name}.csv", rows)
    return finetune.read_csv(csv_folder)


@pytest.mark.parametrize("word", ["None", "N/A", "nan", "NULL", ""])
def test_words_for_missing_leave_a_column_of_numbers(csv_folder, word):
    config = [["", "model", "lr"], ["a", "x", word], ["b", "y", 0.2]]
    data = _plain(csv_folder, config=config)
    assert data.space.columns[-1] == "lr" and np.isnan(data.vectors[0, -1])
    if word == "None":  # but among words it is a choice
        config[1][2], config[2][2] = "None", "cosine"
        assert "cat:lr:None" in _plain(csv_folder, config=config).space.columns


def test_blanks_around_cells_and_blank_lines_are_dropped(csv_folder):
    plain = finetune.read_csv(csv_folder)
    for path in csv_folder.glob("*.csv"):
        text = path.read_text().replace(",", ", ").replace("\r\n", "\n")
        path.write_text("\ufeff" + text + "\n , \n\n", "utf-8")
    data = finetune.read_csv(csv_folder)
    assert data.space == plain.space and data.dataset_names == plain.dataset_names
    np.testing.assert_array_equal(data.curves, plain.curves)


def test_semicolons_with_decimal_commas_are_read(csv_folder):
    plain = finetune.read_csv(csv_folder)
    for path in csv_folder.glob("*.csv"):
        path.write_text(path.read_text().replace(",", ";").replace(".", ","))
    data = finetune.read_csv(csv_folder)
    assert data.space == plain.space
    np.testing.assert_array_equal(data.curves, plain.curves)


def test_a_file_in_the_place_of_the_folder_is_named(csv_folder):
    with pytest.raises(ValueError, match=r"config.csv.*got curve.csv, a file"):
        finetune.read_csv(csv_folder / "curve.csv")


@pytest.mark.parametrize("name", ["{}", "epoch_{}", "Epoch {}"])
def test_epochs_are_sorted_by_number(csv_folder, name):
    order = sorted(range(1, 12), key=str)  # 1, 10, 11, 2, ..
    rows = [["", *[name.format(e) for e in order]]]
    rows += [[run, *[e / 20 for e in order]] for run in "ab"]
    rows[2][1] = 0.06  # not the same run
    data = _plain(csv_folder, curve=rows)
    np.testing.assert_allclose(data.curves[0], np.arange(1, 12) / 20, rtol=1e-6)
    costs = [["", *rows[0][1:]], *[[r, *order] for r in "ab"]]
    np.testing.assert_array_equal(
        _plain(csv_folder, cost=costs).costs[0], np.arange(1, 12)
    )
    del rows[0][2], rows[1][2], rows[2][2]
    with pytest.raises(ValueError, match=r"curve.csv: columns must be the epochs .*10"):
        _plain(csv_folder, curve=rows)


@pytest.mark.parametrize("name", ["seed", "Seed", "SEED", "random_seed"])
def test_a_seed_is_no_hyperparameter(csv_folder, name):
    config = [["", "model", "lr", name], ["a", "x", 0.1, 0], ["b", "x", 0.1, 1]]
    data = _plain(csv_folder, config=config)
    assert [h.name for h in data.space.hyperparameters] == ["model", "lr"]
    again = finetune.read_csv(csv_folder, space=data.space)
    assert again.num_runs == 2


def test_words_for_truth_are_one_value_each(csv_folder):
    rows = [["a", "True"], ["b", "true"], ["c", "1"], ["d", "FALSE"], ["e", "0"]]
    runs = [row[0] for row in rows]
    tables = {
        "curve": [["", 0], *[[run, i / 9] for i, run in enumerate(runs)]],
        "cost": [["", "cost"], *[[run, 3] for run in runs]],
        "meta": [["", "dataset", "n"], *[[run, "d", 9] for run in runs]],
        "config": [["", "flip"], *rows],
    }
    data = _plain(csv_folder, **tables)
    assert data.space.columns == ["cat:flip:False", "cat:flip:True"]
    np.testing.assert_array_equal(data.vectors[:, 1], [1, 1, 1, 0, 0])
    space = SearchSpace((Categorical("flip", (False, True)),))
    again = finetune.read_csv(csv_folder, space=space)
    np.testing.assert_array_equal(again.vectors[:, 1], [1, 1, 1, 0, 0])
    for number, run in zip((0.1, 0.2, 0.3, "auto", 0.4), rows, strict=True):
        run[1] = number
    with pytest.raises(ValueError, match=r"column 'flip' must hold .*\['auto'\]"):
        _plain(csv_folder, config=[["", "flip"], *rows])


def test_bars_and_comments_are_read(csv_folder):
    plain = finetune.read_csv(csv_folder)
    for path in csv_folder.glob("*.csv"):
        path.write_text("# of a run\n" + path.read_text().replace(",", "|"))
    data = finetune.read_csv(csv_folder)
    assert data.space == plain.space
    np.testing.assert_array_equal(data.curves, plain.curves)


def test_conditions_are_those_of_the_table(csv_folder):
    # Quick-Tune's names "opt" and "momentum", which mean something else to this user
    config = [["", "opt", "momentum"], ["a", "sgd", 0.1], ["b", "momentum", 0.2]]
    data = _plain(csv_folder, config=config)
    assert data.space["momentum"].condition is None
    assert data.vectors[0, -1] == pytest.approx(0.1)


def test_csv_reader_checks_budget_percent_and_choices(csv_folder):
    with pytest.raises(ValueError, match="above the declared budget of 1"):
        finetune.read_csv(csv_folder, num_epochs=1)
    space = SearchSpace((Categorical("model", ("x",)), Float("lr", 0, 1)))
    with pytest.raises(
        ValueError, match=r"config.csv, row 3: model must be one of \['x'\], got 'y'"
    ):
        finetune.read_csv(csv_folder, space=space)
    space = SearchSpace((Categorical("model", ("x", "y")), Float("decay", 0, 1)))
    message = r"missing columns \['decay'\], unknown columns \['lr'\]"
    with pytest.raises(ValueError, match=f"config.csv: {message}"):
        finetune.read_csv(csv_folder, space=space)
    _write(csv_folder / "curve.csv", [["", 0], ["a", 40], ["b", 50]])
    with pytest.raises(ValueError, match="divide by 100"):
        finetune.read_csv(csv_folder)
    assert finetune.read_csv(csv_folder, percent=True).curves.max() == 0.5
    _write(csv_folder / "curve.csv", [["", 0], ["a", 0.4], ["b", 0.5]])
    with pytest.raises(ValueError, match=r"must hold percent, got 0\.5"):
        finetune.read(csv_folder)
    assert finetune.read(csv_folder, percent=False).curves.max() == 0.5


def test_json_reader(tmp_path):
    (tmp_path / "curves").mkdir()
    (tmp_path / "meta").mkdir()
    _write(
        tmp_path / "table.csv",
        [["", "cat:model:a", "cat:model:b", "lr"], [7, 1, 0, 0.1], [9, 0, 1, -1]],
    )
    curves = {"d": {"7": [10.0, 20.0], "9": [5.0]}}
    (tmp_path / "curves/eval_top1.json").write_text(json.dumps(curves))
    costs = {"d": {"7": [1.0, 1.0], "9": [2.0]}}
    (tmp_path / "curves/cost.json").write_text(json.dumps(costs))
    (tmp_path / "meta/descriptors.json").write_text('{"d": [100, 5, 32, 3]}')
    data = finetune.read(tmp_path)
    assert data.lengths.tolist() == [2, 1]
    assert data.curves[0, 1] == pytest.approx(0.2)
    assert np.isnan(data.vectors[1, 2])
    costs["d"]["9"] = [-2.0]
    (tmp_path / "curves/cost.json").write_text(json.dumps(costs))
    place = "cost.json, dataset 'd', run '9', epoch 1: -2 seconds"
    with pytest.raises(ValueError, match=place):
        finetune.read_json(tmp_path)
    costs["d"]["9"] = []
    (tmp_path / "curves/cost.json").write_text(json.dumps(costs))
    with pytest.raises(ValueError, match=r"run '9': 1 epochs but 0 in cost.json"):
        finetune.read_json(tmp_path)
    with pytest.raises(ValueError, match="run '7': 2 epochs, above the declared bud"):
        finetune.read_json(tmp_path, num_epochs=1)
    (tmp_path / "curves/cost.json").write_text("{")
    with pytest.raises(ValueError, match=r"cost\.json: cannot be read as json"):
        finetune.read_json(tmp_path)


def _quick_tune_set(folder):
    folder.mkdir(parents=True)
    content = {
        "eval_top1": {"mtlbm/A": {"r1": [10.0, 30.0], "r2": [20.0]}},
        "eval_time": {"mtlbm/A": {"r1": [1.0, 1.0], "r2": [1.5]}},
        "train_time": {"mtlbm/A": {"r1": [4.0, 5.0], "r2": [6.0]}},
        "args": {
            "r1": {"model": "beit", "lr": 0.1, "clip_grad": None, "dataset": "A"},
            "r2": {"model": "volo", "lr": 0.2, "clip_grad": 1.0, "dataset": "A"},
        },
    }
    for name, part in content.items():
        (folder / f"{name}.json").write_text(json.dumps(part))
    meta = folder.parent / "dataset-meta-features" / "meta-album"
    meta.mkdir(parents=True)
    (meta / "meta-features.json").write_text(
        json.dumps({"dataset_names": ["A"], "dataset_descriptors": [[9, 2, 32, 3]]})
    )


def test_quick_tunes_own_sets_are_read(tmp_path):
    folder = tmp_path / "qt_metadataset" / "micro"
    _quick_tune_set(folder)
    data = finetune.read(folder)
    names = ["clip_grad", "lr", "model"]
    assert [h.name for h in data.space.hyperparameters] == names
    np.testing.assert_allclose(data.curves[0, :2], [0.1, 0.3], rtol=1e-6)
    np.testing.assert_allclose(data.costs[0, :2], [5, 6])
    assert data.num_epochs == 50 and data.meta_features.tolist() == [[9, 2, 32, 3]]
    (folder / "train_time.json").unlink()
    with pytest.raises(ValueError, match=r"train_time.json: no such file in micro"):
        finetune.read(folder)


def test_lcbench_is_read(tmp_path):
    def run(lr, accuracies):
        log = {"Train/val_accuracy": accuracies, "time": [2.0, 5.0]}
        return {"config": {"lr": lr, "layers": 2, "act": "relu"}, "log": log}

    path = tmp_path / "data_2k_lw.json"
    table = {"adult": {"0": run(0.1, [40.0, 60.0]), "1": run(0.2, [30.0, 70.0])}}
    path.write_text(json.dumps(table))
    data = finetune.read(path)
    assert data.space.columns == ["lr"] and data.num_epochs == 2
    np.testing.assert_allclose(data.costs[0], [2, 3])
    np.testing.assert_allclose(data.curves[1], [0.3, 0.7], rtol=1e-6)
    del table["adult"]["0"]["log"]["time"]
    path.write_text(json.dumps(table))
    with pytest.raises(ValueError, match=r"dataset 'adult', run '0': missing \['time"):
        finetune.read(path)
    path.write_text('{"adult": [1, 2]}')
    with pytest.raises(ValueError, match="must be laid out as"):
        finetune.read(path)


def test_unknown_layouts_say_what_is_expected_and_found(tmp_path):
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(
        ValueError, match=r"(?s)found \['results.csv'\].*config.csv.*LC"
    ):
        finetune.read(tmp_path)


def test_small_and_wide_spaces():
    random = np.random.default_rng(0)
    small = SearchSpace((Categorical("a", (1, 2, 3)), Categorical("b", ("x", "y"))))
    assert len(small.sample_distinct(random, 400)) == 6
    wide = Categorical("model", tuple(f"m{i}" for i in range(5000)))
    assert wide.contains("m4999") and not wide.contains("m5000")
    assert not wide.contains(["m1"])
    assert SearchSpace((wide,)).to_vector({"model": "m7"})[7] == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Categorical("m", "resnet"), "m: choices must be a tuple .*'resnet'"),
        (lambda: Categorical("m", ()), "one value or more"),
        (lambda: Categorical("m", ("a", "a")), "choices must differ"),
        (lambda: Ordinal("m", (2, 1)), "choices must increase"),
        (lambda: Ordinal("m", ("a", "b")), "choices must be finite numbers, got 'a'"),
        (lambda: Float("m", 0, float("nan")), "m: high must be a number, got nan"),
        (lambda: Float("m", "0", 1), "m: low must be a number, got '0'"),
        (lambda: Float("m", 0, 1, log=True), "low must be positive with log=True"),
        (lambda: Float("", 0, 1), "name must be a non-empty string"),
        (lambda: Condition("m", "sgd"), "values must be a tuple"),
        (lambda: SearchSpace(()), "hyperparameters must hold one or more"),
        (lambda: SearchSpace(("lr",)), "must be Categorical, Ordinal or Float"),
        (
            lambda: SearchSpace(
                (Ordinal("a", (1, 2), condition=Condition("a", (1,))),)
            ),
            "leads back to itself",
        ),
    ],
)
def test_hyperparameters_are_checked_where_they_are_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_npz_reader_names_missing_arrays(tmp_path):
    np.savez(tmp_path / "t.npz", hp=np.zeros((1, 1)))
    with pytest.raises(
        ValueError, match=r"t.npz: missing arrays \['perf_top1_percent'"
    ):
        finetune.read_npz(tmp_path / "t.npz")


def test_table_for_surrogates_of_another_space(synthetic, tmp_path):
    space, path = synthetic.space, tmp_path / "t.npz"
    names = ["new", *space.columns[:-1]]  # one is unknown, clip_norm is lacking
    vectors = np.concatenate([np.ones((320, 1)), synthetic.vectors[:, :-1]], 1)
    table = {
        "perf_top1_percent": 100 * synthetic.curves,
        "cost_seconds": synthetic.costs,
        "hp": np.where(np.isnan(vectors), -1, vectors),
        "hp_names": names,
        "dataset": synthetic.dataset,
        "dataset_names": [*synthetic.dataset_names, "without runs"],
        "meta_features": np.concatenate([synthetic.meta_features, np.ones((1, 4))]),
    }
    np.savez(path, **table)
    with pytest.warns(UserWarning, match=r"320 of 320 runs .*: \['clip_norm'\]"):
        data = read_for(space, synthetic.meta_feature_names, tmp_path)
    assert data.dataset_names == synthetic.dataset_names
    assert np.isnan(data.vectors[:, -1]).all()
    with pytest.raises(ValueError, match=r"meta-features must be .*, got 4 of them"):
        read_for(space, ("one",), path)
    np.savez(path, **{**table, "hp_names": [f"x{i}" for i in range(len(names))]})
    with pytest.raises(ValueError, match="a table of another search space: only 0"):
        read_for(space, synthetic.meta_feature_names, path)


def test_real_table(data_folder):
    data = finetune.read(data_folder / "quicktune_extended")
    assert (data.num_runs, data.num_datasets, data.space.num_columns) == (3783, 21, 71)
    for run in range(0, data.num_runs, 97):
        vector = data.space.to_vector(data.config(run))
        np.testing.assert_allclose(vector, data.vectors[run], rtol=1e-5)
    laid_out = finetune.read_npz(
        data_folder / "quicktune_extended/quicktune_extended_21.npz", space=data.space
    )
    np.testing.assert_array_equal(laid_out.vectors, data.vectors)
    medical = finetune.read(data_folder / "medquicktune")
    assert (medical.num_runs, medical.num_datasets, medical.num_epochs) == (505, 6, 25)


def test_meta_features():
    images = np.zeros((30, 8, 8))
    labels = np.arange(30) % 5
    found = finetune.extract_image_meta_features(images, labels)
    assert found.tolist() == [30, 5, 8, 1]
    with pytest.raises(ValueError, match="num_classes"):
        finetune.image_meta_features(10, 0, 32)
    for swapped in ((10, 50_000, 32), (50_000, 10, 3, 32)):
        with pytest.raises(ValueError, match="the order is num_train, num_classes"):
            finetune.image_meta_features(*swapped)
    values, names = finetune.text_meta_features(["a b", "a"], ["c", "d e"], 1.5)
    assert dict(zip(names, values, strict=True))["vocabulary_size"] == 5
