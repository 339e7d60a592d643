"""From raw data to predictions: reading, encoding, mixing, and the time limit."""

import csv
import sys

import numpy as np
import pytest

import finetune
from finetune.__main__ import main
from finetune.automl.data import Encoder, RawTable, from_arrays, read_table
from finetune.automl.ensemble import (
    area_under_learning_curve,
    greedy_ensemble,
    log_loss,
)
from finetune.automl.members import start_run
from finetune.automl.portfolio import make_portfolio, make_space
from finetune.automl.views import Folds

pytest.importorskip("sklearn")


def _blobs(num, seed=0, num_classes=3):
    random = np.random.default_rng(seed)
    y = np.arange(num) % num_classes
    x = random.normal(size=(num, 5)) + 3 * np.eye(5)[y]
    return x, y


def _clock(step):
    """A clock that goes on by so many seconds whenever it is looked at."""
    now = [0.0]

    def read():
        now[0] += step
        return now[0]

    return read


def test_a_csv_file_is_read_with_words_and_gaps(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("size,colour,Target\n1,red,a\n,blue,b\n3,red,a\n5,,b\n")
    table = read_table(path)
    assert table.labels.tolist() == ["a", "b", "a", "b"]
    np.testing.assert_array_equal(table.columns["size"], [1, np.nan, 3, 5])
    x = Encoder(table)(table)
    assert x.shape == (4, 5)  # the size, its gap, and "", blue, red
    assert x[1, 0] == pytest.approx(x[2, 0])  # the median
    other = RawTable({"size": np.array([3.0]), "colour": np.array(["green"])}, None)
    assert np.isfinite(Encoder(table)(other)).all()
    with pytest.raises(ValueError, match="'colour' is missing"):
        Encoder(table)(RawTable({"size": np.array([3.0])}, None))
    path.write_text("a,b\n1,2\n3\n")
    with pytest.raises(ValueError, match=r"row 3: must have 2 cells, got 1"):
        read_table(path)


def test_arrays_are_read_and_never_unpickled(tmp_path):
    x, y = _blobs(6)
    np.savez(tmp_path / "train.npz", images=x.reshape(6, 5, 1), labels=y)
    table = read_table(tmp_path / "train.npz")
    assert len(table.columns) == 5 and table.labels.tolist() == y.tolist()
    np.savez(tmp_path / "bad.npz", x=np.array([{}], object))
    with pytest.raises(ValueError, match=r"bad\.npz: cannot be read"):
        read_table(tmp_path / "bad.npz")
    with pytest.raises(ValueError, match=r"y must have shape \(6,\), got \(5,\)"):
        from_arrays(x, y[:5])


def test_the_ensemble_is_better_than_its_best_member():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 200)
    members = []
    for _ in range(6):
        p = np.clip(labels + random.normal(0, 0.6, 200), 0.05, 0.95)
        members.append(np.stack([1 - p, p], 1))
    weights = greedy_ensemble(members, labels)
    mixed = np.tensordot(weights, np.stack(members), 1)
    assert weights.sum() == pytest.approx(1)
    assert log_loss(mixed, labels) < min(log_loss(m, labels) for m in members)
    perfect = np.eye(2)[labels]
    assert greedy_ensemble([*members, perfect], labels)[-1] == 1.0


def test_area_under_the_learning_curve():
    assert area_under_learning_curve([0.0], [0.8], 60) == pytest.approx(0.8)
    half = 60 * (np.sqrt(2) - 1)  # where log(1 + t / 60) is half of log(2)
    assert area_under_learning_curve([half], [1.0], 60) == pytest.approx(0.5)
    area = area_under_learning_curve([0.0, half], [0.4, 0.8], 60)
    assert area == pytest.approx(0.6)
    assert area_under_learning_curve([100.0], [1.0], 60) == 0.0


@pytest.mark.parametrize(
    "config",
    [  # Boosting grows by the same code as the forest.
        pytest.param(
            c,
            id=c["member"],
            marks=[pytest.mark.slow] * (c["member"] == "boosting"),
        )
        for c in make_portfolio("table")
    ],
)
def test_every_member_learns_on_every_fold(config):
    make_space("table").validate(config)
    x, y = _blobs(90)
    test, truth = _blobs(30, seed=1)
    valid = [np.arange(0, 45), np.arange(45, 90)]
    folds = Folds(x.astype(np.float32), y, valid[::-1], valid, test, 3)
    run = start_run(config, folds, 0)
    fitted = run.train_epoch(lambda: None)
    for _ in range(8 * (not fitted.is_last)):
        fitted = run.train_epoch(lambda: None)
    assert fitted.is_last and log_loss(fitted.held_out, y) < 0.7
    for found in (fitted.held_out, fitted.test):
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert (fitted.held_out.argmax(1) == y).mean() > 0.85
    assert (fitted.test.argmax(1) == truth).mean() > 0.85


def test_predictions_improve_until_the_time_is_over(tmp_path):
    random = np.random.default_rng(0)
    both = random.normal(size=(210, 3))
    y, truth = np.split((both[:, 0] * both[:, 1] > 0).astype(int), [150])
    x, test = np.split(both, [150])
    names = np.array(["left", "right"])
    result = finetune.auto(
        (x, names[y]),
        test,
        minutes=0.5,
        out=tmp_path,
        progress=False,
        clock=_clock(0.3),
    )
    seconds = [when for when, _ in result.predictions]
    assert seconds == sorted(seconds) and seconds[-1] < 33
    losses = [row["ensemble_loss"] for row in result.log]
    assert losses == sorted(losses, reverse=True)
    assert len(result.predictions) > 1
    assert (result.labels == names[truth]).mean() > 0.8 and result.score > 0.8
    assert sum(weight for _, weight in result.ensemble) == pytest.approx(1)
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["label", "left", "right"]
    assert [row[0] for row in rows[1:]] == result.labels.tolist()
    # no time at all: one model all the same
    short = finetune.auto((x, y), minutes=1e-9, progress=False)
    assert len(short.log) == 1 and short.probabilities.shape == (0, 2)


def test_the_command_line_reads_a_folder(tmp_path, monkeypatch, capsys):
    x, y = _blobs(60)
    for name, rows in (("train", slice(0, 45)), ("test", slice(45, 60))):
        np.savez(tmp_path / f"{name}.npz", x=x[rows], y=y[rows])
    command = ["finetune", "auto", "--data", str(tmp_path)]
    command += ["--out", str(tmp_path / "out"), "--minutes", "0.01"]
    monkeypatch.setattr(sys, "argv", command)
    main()
    assert "held-out accuracy" in capsys.readouterr().out
    lines = (tmp_path / "out/predictions.csv").read_text().splitlines()
    assert len(lines) == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minutes": 0}, "minutes must be a number above 0"),
        ({"data": 3}, r"data must be a folder, a csv or npz file, or a pair \(x, y\)"),
        ({"data": (np.zeros((4, 2)), [0, 0, 1, 1])}, "every column is constant"),
        ({"data": (np.eye(4), [0, 0, 0, 1])}, "two classes or more, with two rows"),
        ({"data": "nowhere.csv"}, "nowhere.csv: there is no such file"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_bad_data_are_refused(change, message):
    settings = {"data": _blobs(9), "minutes": 1.0, "seed": 0, **change}
    data = settings.pop("data")
    with pytest.raises((TypeError, ValueError), match=message):
        finetune.auto(data, progress=False, **settings)
