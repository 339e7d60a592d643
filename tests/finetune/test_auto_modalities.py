"""Texts, series, pictures and several labels: reading, encoding, learning."""

import csv
import dataclasses

import numpy as np
import pytest

import finetune
from finetune.automl.inputs import read_examples
from finetune.automl.labels import decide, encode_labels, score
from finetune.automl.members import start_run
from finetune.automl.portfolio import MEMBERS, make_portfolio, make_space
from finetune.automl.signals import shrink, summaries
from finetune.automl.text import NUM_BUCKETS, TextView, hashed_tokens
from finetune.automl.views import prepare

pytest.importorskip("sklearn")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

_WORDS = {
    "sea": ["wave", "boat", "salt", "fish"],
    "hill": ["rock", "goat", "path", "snow"],
}


def _texts(num, seed=0):
    """Three words of noise around one that says where."""
    random = np.random.default_rng(seed)
    y = np.array(["sea", "hill"])[np.arange(num) % 2]
    noise = [f"w{i}" for i in range(20)]
    return [
        " ".join(
            random.permutation([*random.choice(noise, 3), random.choice(_WORDS[c])])
        )
        for c in y
    ], y


def _series(num, seed=0):
    """Slow and fast waves of any phase."""
    random = np.random.default_rng(seed)
    y = np.arange(num) % 2
    t = np.arange(40)[:, None]
    phase = random.uniform(0, 6, num)
    x = np.sin(t * np.where(y, 0.9, 0.5) + phase).T
    return (x + random.normal(0, 0.3, x.shape))[..., None], y


def _pictures(num, seed=0):
    """Stripes along the rows or the columns."""
    random = np.random.default_rng(seed)
    y = np.arange(num) % 2
    stripe = (np.arange(8)[None] + random.integers(0, 4, (num, 1))) // 2 % 2
    x = np.where(y[:, None, None], stripe[:, :, None], stripe[:, None, :])
    return (255 * x.repeat(1, 1)).astype(np.uint8) * np.ones((1, 8, 8), np.uint8), y


def _clock():
    """A clock that goes on by a second whenever it is looked at."""
    now = iter(range(10**6))
    return lambda: next(now)


SLOW = pytest.mark.slow  # the same calls on other numbers
_MAKE = {"text": _texts, "series": _series, "image": _pictures}


def test_what_users_bring_is_recognised():
    y = [0, 1, 0, 1]
    for x, kind in (
        (["a b", "c", "d", "e"], "text"),
        (np.array(["a b", "c", "d", "e"]), "text"),
        (np.zeros((4, 9, 2)), "series"),
        (np.zeros((4, 8, 8), np.uint8), "image"),
        (np.zeros((4, 8, 8, 3)), "image"),
        (np.zeros((4, 5)), "table"),
    ):
        assert read_examples((x, y))[0].kind == kind
    series, test = read_examples((np.zeros((4, 5)), y), np.ones((2, 5)), kind="series")
    assert series.content.shape == (4, 5, 1) and test.content.shape == (2, 5, 1)


def test_a_csv_file_may_hold_texts_and_several_labels(tmp_path):
    path = tmp_path / "train.csv"
    rows = [f"it is number {i} of them,{i},{i % 2},{int(i < 3)}" for i in range(6)]
    path.write_text("\n".join(["text,size,odd,small", *rows]))
    found, _ = read_examples(path, label=("odd", "small"))
    assert found.kind == "text" and found.content[1] == "it is number 1 of them"
    assert found.label_names == ("odd", "small")
    np.testing.assert_array_equal(found.labels[:, 1], np.arange(6) < 3)
    np.testing.assert_array_equal(found.table.columns["size"], np.arange(6))
    x = prepare(found, found, 0)[1].x
    np.testing.assert_allclose(x[:, -1], (np.arange(6) - 2.5) / np.arange(6).std())
    other = tmp_path / "test.csv"  # one row of two words: the same column all the same
    other.write_text("small,text,size\n1,two words,7\n")
    _, test = read_examples(path, other, label=("odd", "small"))
    assert test.content == ["two words"] and list(test.table.columns) == ["size"]
    other.write_text("size\n7\n")
    with pytest.raises(ValueError, match=r"test: columns \['text'\] missing"):
        read_examples(path, other, label=("odd", "small"))
    with pytest.raises(ValueError, match=r"column 'size': .* must be 0 or 1"):
        read_examples(path, label=("odd", "size"))


def test_folders_of_files_are_read(tmp_path):
    for part, num in (("train", 3), ("test", 1)):
        for name in ("a", "b"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(num):
                (folder / f"{i}.txt").write_text(f"{name} {part} {i}")
    train, test = read_examples(tmp_path)
    assert train.kind == "text" and train.labels.tolist() == ["a"] * 3 + ["b"] * 3
    assert test.content == ["a test 0", "b test 0"]
    assert test.files == ("a/0.txt", "b/0.txt") and test.labels is None
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "pictures").mkdir()
    for name, shade in (("dark", 10), ("light", 240)):
        (tmp_path / "pictures" / name).mkdir()
        image.new("L", (50, 40), shade).save(tmp_path / "pictures" / name / "0.png")
    found, _ = read_examples(tmp_path / "pictures")
    assert found.kind == "image" and found.content.shape == (2, 32, 32, 3)
    assert found.content[0].max() < 0.1 < 0.9 < found.content[1].min()
    (tmp_path / "pictures/dark/1.txt").write_text("dark")
    with pytest.raises(ValueError, match="holds both pictures and txt files"):
        read_examples(tmp_path / "pictures")


def test_labels_of_all_forms():
    sets = encode_labels([{"a"}, {"a", "b"}, set(), {"b"}])
    assert sets.several and sets.names.tolist() == ["a", "b"]
    flags = [[1, 0], [1, 1], [0, 0], [0, 1]]
    np.testing.assert_array_equal(sets.y, flags)
    np.testing.assert_array_equal(encode_labels(flags).y, flags)
    one = encode_labels(["x", "y", "x", "y"])
    assert not one.several and one.y.tolist() == [0, 1, 0, 1]
    p = np.array([[0.9, 0.1], [0.6, 0.7], [0.2, 0.4], [0.7, 0.8]])
    assert decide(sets.names, p, True)[3].tolist() == [True, True]
    assert decide(one.names, p, False).tolist() == ["x", "y", "y", "y"]
    assert score(p, one.y) == 0.75
    # of the first label one of four pairs is wrong, of the second none
    assert score(p, sets.y) == pytest.approx((0.75 + 1) / 2)
    assert score(p, sets.y.astype(int)) == score(p, sets.y)
    with pytest.raises(ValueError, match=r"in two rows or more.*\{'b': 1\}"):
        encode_labels([{"a"}, {"a", "b"}, set(), set()])


def test_hashes_do_not_depend_on_the_process():
    found = hashed_tokens(["Red fish", "red"])
    assert found.shape == (2, 3) and found[1, 1:].tolist() == [0, 0]
    assert found[0, 0] == found[1, 0] and 0 < found.max() < NUM_BUCKETS
    # CRC-32 of "red" is 0xfa615f8f
    assert found[1, 0] == 1 + 0xFA615F8F % (NUM_BUCKETS - 1)
    view = TextView(["red fish", "blue fish", "old man"], 0)
    dense, words, tokens = view(["blue blue fish of any length", "unheard"])
    assert dense.shape[0] == 2 and np.isfinite(dense).all()
    assert words[1].nnz == 0 and tokens.shape == (2, 3)


def test_summaries_of_series():
    t = np.arange(64)
    x = np.stack([t / 64, np.sin(np.pi * t / 2), np.full(64, 3.0)])[..., None]
    found = summaries(x)
    assert found.shape[0] == 3 and np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 0], x.mean((1, 2)), rtol=1e-5)
    slope = found[:, 11]  # after mean, deviation, seven quantiles, two moments
    assert slope[0] > 0.5 > abs(slope[1]) and slope[2] == 0
    with pytest.raises(ValueError, match="a channel holds no finite number"):
        finetune.auto((np.full((4, 6, 1), np.nan), [0, 1, 0, 1]), progress=False)


def test_large_pictures_are_averaged():
    x = np.arange(2 * 66 * 40, dtype=float).reshape(2, 66, 40, 1)
    small = shrink(x)
    assert small.shape == (2, 22, 20, 1)
    assert small[1, 2, 3, 0] == pytest.approx(x[1, 6:9, 6:8].mean())


@pytest.mark.parametrize(
    "kind", ["text", *(pytest.param(x, marks=SLOW) for x in ("series", "image"))]
)
def test_a_modality_is_learned_by_its_own_members(kind):
    x, y = _MAKE[kind](80)
    test, truth = _MAKE[kind](40, 1)
    labels, folds = prepare(*read_examples((x, y), test, kind=kind), 0)
    assert len(folds.train) == 5 and folds.kind == kind
    folds = dataclasses.replace(folds, train=folds.train[:2], valid=folds.valid[:2])
    own = {"text": ("counts", "words", "tokens")}.get(kind, ("convolution",))
    held_out = folds.y[np.concatenate(folds.valid)]
    for config in make_portfolio(kind):
        make_space(kind).validate(config)
        if config["member"] not in own:
            continue
        run = start_run(config, folds, 0)
        for _ in range(9):
            fitted = run.train_epoch(lambda: None)
            if fitted.is_last or score(fitted.held_out, held_out) > 0.9:
                break
        assert score(fitted.held_out, held_out) > 0.8, config
        code = np.searchsorted(labels.names, truth)
        assert score(fitted.test, code) > 0.8, config


@pytest.mark.parametrize(
    "member", ["forest", "linear", pytest.param("network", marks=SLOW)]
)
def test_several_labels_are_learned(member):
    random = np.random.default_rng(0)
    x, test = np.split(random.normal(size=(200, 4)), [140])
    rule = np.array([[1, 0, 0, 1], [0, 1, -1, 0]])
    y, truth = x @ rule.T > 0, test @ rule.T > 0
    names, folds = prepare(*read_examples((x, y), test), 0)
    assert names.several and folds.num_classes == 2
    config = next(c for c in make_portfolio("table") if c["member"] == member)
    run = start_run(config, folds, 0)
    for _ in range(3):
        fitted = run.train_epoch(lambda: None)
        if fitted.is_last:
            break
    assert fitted.held_out.shape == (140, 2) and score(fitted.test, truth) > 0.9


def test_a_rare_label_is_held_out_where_it_can_be():
    y = np.zeros((100, 2), bool)
    y[:2, 0] = y[50:, 1] = True
    x = np.random.default_rng(0).normal(size=(100, 3))
    _, folds = prepare(*read_examples((x, y)), 0)
    assert [len(v) for v in folds.valid] == [20] * 5
    # rows of like labels lie in different folds
    assert sorted(folds.y[v][:, 1].sum() for v in folds.valid) == [10] * 5
    assert max(folds.y[v][:, 0].sum() for v in folds.valid) == 1
    run = start_run({"member": "linear", "C": 0.1}, folds, 0)
    assert run.train_epoch(lambda: None).held_out.shape == (100, 2)


def test_from_texts_to_a_file_of_predictions(tmp_path):
    x, place = _texts(60)
    y = [{c, "even"} if i % 4 < 2 else {c} for i, c in enumerate(place)]
    test, truth = _texts(20, 1)
    result = finetune.auto(
        (x, y), test, minutes=1, out=tmp_path, progress=False, clock=_clock()
    )
    assert len(result.predictions) > 1  # from naive Bayes to logistic regression
    assert result.kind == "text" and result.several
    assert result.classes.tolist() == ["even", "hill", "sea"]
    assert result.labels.dtype == bool and result.labels.shape == (20, 3)
    assert score(result.probabilities[:, 1:], truth[:, None] == ["hill", "sea"]) > 0.9
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    told = ["sea" in row["label"].split(";") for row in rows]
    assert told == result.labels[:, 2].tolist()
    np.testing.assert_allclose(
        [float(row["sea"]) for row in rows], result.probabilities[:, 2], atol=1e-5
    )
    assert result.ensemble[0][0]["member"] in MEMBERS["text"]


@pytest.mark.parametrize(
    ("x", "y", "settings", "message"),
    [
        (["a", 3], [0, 1], {}, "texts must be strings, one or more, got int"),
        (["!", "?"] * 2, [0, 1] * 2, {}, "no text holds a word"),
        (["a", "b"], [0], {}, r"y must hold one entry per row \(2\), got 1"),
        ([[1, 2], [3]], [0, 1], {}, "rows must have one length"),
        (np.eye(4), [0, 1] * 2, {"kind": "sound"}, "kind must be one of"),
        (np.eye(4), [0, 1] * 2, {"kind": "image"}, r"image must be numbers \[n, h"),
        (np.eye(4), np.full((4, 2), 2), {}, "must hold 0 and 1"),
        (np.zeros((4, 3, 1)), [0, 1] * 2, {"test": np.zeros((2, 4, 1))}, r"\(3, 1\)"),
    ],
)
def test_what_does_not_fit_is_refused(x, y, settings, message):
    with pytest.raises(ValueError, match=message):
        finetune.auto((x, y), progress=False, **settings)


def test_the_label_column_is_the_first_name_that_says_so(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("x,y,label\n" + "1,0,a\n2,1,b\n" * 4)
    examples, _ = read_examples(path)
    assert examples.label_columns == ("label",)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_separators_are_read(tmp_path, mark):
    path = tmp_path / "train.csv"
    path.write_text(f"x{mark}label\n" + f"1,5{mark}a\n2,5{mark}b\n" * 4)
    examples, _ = read_examples(path)
    assert list(examples.content.columns) == ["x"]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match="there is no such file or folder"):
        read_examples(tmp_path / "nowhere")


def test_rows_without_labels_are_refused():
    for labels in ([0, 1, None] * 4, ["a", "b", ""] * 4, [0.0, 1.0, np.nan] * 4):
        with pytest.raises(ValueError, match="labels are missing in 4 of 12 rows"):
            encode_labels(labels)


def test_what_is_predicted_is_what_was_learned(tmp_path):
    x = np.random.default_rng(0).normal(size=(12, 4))
    y = [0, 1] * 6
    with pytest.raises(ValueError, match="rows must have 4 columns, got 8"):
        read_examples((x, y), np.zeros((3, 8)))
    with pytest.raises(ValueError, match=r"x must be numbers .* got <U3"):
        read_examples((x, y), ["one", "two"])
    texts, pictures = tmp_path / "texts", tmp_path / "pictures"
    for name in "ab":
        (texts / name).mkdir(parents=True)
        (texts / name / "one.txt").write_text("some words")
    pictures.mkdir()
    (pictures / "one.txt").write_text("some words")
    rows = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"must hold pictures, .* got texts"):
        read_examples((rows, [0, 1] * 2), pictures)
    folder = tmp_path / "data"
    folder.mkdir()
    np.savez(folder / "Test.npz", x=x[:3], y=y[:3])
    (folder / "train.csv").write_text("x0,label\n" + "1,a\n2,b\n" * 4)
    with pytest.raises(ValueError, match="rows must have 1 columns, got 4"):
        read_examples(folder)


def test_columns_of_frames_keep_their_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0] * 4, "b": [5.0, None] * 4})
    train, rows = read_examples((frame, ["u", "v"] * 4), frame[["b", "a"]])
    assert list(train.content.columns) == ["a", "b"]
    np.testing.assert_array_equal(rows.content.columns["a"], frame["a"])
