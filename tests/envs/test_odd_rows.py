"""Rows of logs that are no steps: resets among them, padding; and odd columns."""

import dataclasses
import warnings

import numpy as np
import pytest

import envs
import oswm

LIMIT = 20


def log(num_rows=410, terminates=True, numbered=False):
    """A noisy pendulum-like task with ends of both kinds, NumPy arrays by name."""
    rng = np.random.default_rng(0)
    rows, state, time = [], rng.normal(size=2), 0
    for _ in range(num_rows):
        action = int(rng.integers(3))
        after = state + 0.1 * np.array([state[1], action - 1 - state[0]])
        after, time = after + 0.01 * rng.normal(size=2), time + 1
        terminated = bool(terminates and rng.uniform() < 0.03)
        truncated = time == LIMIT and not terminated
        rows.append((state, action, -state[0], after, terminated, truncated))
        state = after
        if terminated or truncated:
            state, time = rng.normal(size=2), 0
    names = ("obs", "action", "reward", "next_obs", "terminated", "truncated")
    return dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))


def ends(rows):
    return np.flatnonzero((rows["terminated"] | rows["truncated"])[:-1])


def shifted(rows):
    """As collectors write it that take the observation after a reset."""
    next_obs = rows["next_obs"].copy()
    next_obs[ends(rows)] = rows["obs"][ends(rows) + 1]
    return {**rows, "next_obs": next_obs}


def between(rows):
    """As collectors write it that reset in a step of its own."""
    at = ends(rows)
    extra = {"obs": rows["next_obs"][at], "next_obs": rows["obs"][at + 1]}
    return {
        name: np.insert(x, at + 1, extra.get(name, np.zeros_like(x[at])), axis=0)
        for name, x in rows.items()
    }


def quiet(read, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read(*args)


def readers(tmp_path):
    """Every way to hand over a log of N rows, by name."""

    def csv(rows):
        path = tmp_path / "log.csv"
        names = ["obs_0", "obs_1", "next_obs_0", "next_obs_1"]
        names += ["action", "reward", "terminated", "truncated"]
        wide = [*rows["obs"].T, *rows["next_obs"].T]
        columns = np.stack(wide + [rows[name] for name in names[4:]], axis=1)
        lines = [",".join(repr(float(x)) for x in row) for row in columns]
        path.write_text("\n".join([",".join(names), *lines]))
        return envs.read_transitions(path)

    def npz(rows):
        np.savez(tmp_path / "log.npz", **rows)
        return envs.read_transitions(tmp_path / "log.npz")

    def load(rows):
        np.savez(tmp_path / "log.npz", **rows)
        return envs.Transitions.load(tmp_path / "log.npz")

    def hdf5(rows):
        h5py = pytest.importorskip("h5py")
        with h5py.File(tmp_path / "log.h5", "w") as file:
            for name, array in rows.items():
                file[name] = array
        return envs.read_transitions(tmp_path / "log.h5")

    def dataframe(rows):
        pandas = pytest.importorskip("pandas")
        flat = {n: list(x) for n, x in rows.items()}
        return envs.Transitions.from_dataframe(pandas.DataFrame(flat))

    return {
        "mapping": envs.read_transitions,
        "transitions": lambda rows: envs.read_transitions(envs.Transitions(**rows)),
        "rows": lambda rows: envs.read_transitions(
            [{n: x[i] for n, x in rows.items()} for i in range(len(rows["obs"]))]
        ),
        "tuple": lambda rows: oswm.read_log(tuple(rows.values())),
        "in order": lambda rows: envs.in_order(envs.Transitions(**rows)),
        "csv": csv,
        "npz": npz,
        "load": load,
        "hdf5": hdf5,
        "dataframe": dataframe,
    }


NAMES = list(readers(None))


@pytest.mark.parametrize("name", NAMES)
def test_next_obs_of_the_next_episode_is_not_learned(tmp_path, name):
    rows, read = log(), readers(tmp_path)[name]
    assert len(quiet(read, rows)) == len(rows["obs"])
    with pytest.warns(UserWarning, match=f"give max_steps={LIMIT}") as said:
        found = read(shifted(rows))
    number = len(ends(rows))
    told = [str(w.message) for w in said if "already the first" in str(w.message)]
    assert len(told) == 1 and f"in {number} of" in told[0]
    inside = ~np.isin(np.arange(len(rows["obs"])), ends(rows))
    # What the task ended is kept, and what came of it is near the truth.
    kept = inside | (rows["terminated"] != 0)
    np.testing.assert_allclose(found.obs, rows["obs"][kept], rtol=1e-6)
    np.testing.assert_array_equal(found.terminated, rows["terminated"][kept])
    off = np.abs(found.next_obs - rows["next_obs"][kept])
    np.testing.assert_allclose(off[inside[kept]], 0, atol=1e-6)
    moves = np.abs(rows["next_obs"] - rows["obs"])[~inside & kept]
    assert off.max() < 0.5 * np.median(moves.max(axis=1))
    assert envs.episodes_of(found).time_limit == LIMIT - 1
    which = np.cumsum(np.insert(~inside, 0, False))[:-1]
    assert len(envs.episodes_of(found).starts) == len(np.unique(which[kept]))


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_only_reset_are_left_out(tmp_path, name):
    rows = log()
    with pytest.warns(UserWarning, match="next-step autoreset"):
        found = readers(tmp_path)[name](between(rows))
    for field, array in rows.items():
        np.testing.assert_allclose(getattr(found, field), array)
    assert envs.episodes_of(found).time_limit == LIMIT


def test_a_ring_of_observations_and_parallel_environments():
    rows = log()
    ring = np.roll(rows["obs"], -1, axis=0)
    with pytest.warns(UserWarning, match="already the first"):
        found = envs.read_transitions({**rows, "next_obs": ring})
    cut = ends(rows)[rows["terminated"][ends(rows)] == 0]
    assert len(found) == len(rows["obs"]) - len(cut) - 1
    half = {name: x[:400].reshape(2, 200, *x.shape[1:]) for name, x in rows.items()}
    wide = {name: np.swapaxes(x, 0, 1) for name, x in half.items()}
    odd = shifted(rows)["next_obs"][:400].reshape(2, 200, 2).swapaxes(0, 1)
    with pytest.warns(UserWarning, match="already the first"):
        found = envs.read_transitions({**wide, "next_obs": odd})
    inside = np.isin(np.arange(400), cut) & (np.arange(400) != 199)
    assert len(found) == 400 - inside.sum()


def test_numbered_states_that_are_shifted():
    """A corridor of five cells, one-hot: every step goes as far as any other."""
    rng = np.random.default_rng(0)
    rows, place = [], 1
    for _ in range(300):
        action = int(rng.integers(2))
        after = max(place + 2 * action - 1, 0)
        rows.append((place, action, float(after == 4), after, after == 4))
        place = 1 if after == 4 else after
    place, action, reward, after, terminated = map(np.array, zip(*rows, strict=True))
    fields = {"action": action, "reward": reward, "terminated": terminated}
    fields |= {"obs": np.eye(5)[place], "next_obs": np.eye(5)[after]}
    fields["truncated"] = np.zeros(300, bool)
    assert len(quiet(envs.read_transitions, fields)) == 300
    with pytest.warns(UserWarning, match="already the first"):
        found = envs.read_transitions(shifted(fields))
    assert len(found) == 300 - len(ends(fields))
    with pytest.warns(UserWarning, match="next-step autoreset"):
        assert len(envs.read_transitions(between(fields))) == 300


@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_what_only_looks_like_a_reset_is_kept(kind):
    """A task that goes on after a chunk of its log, and one that shows nothing."""
    rows = log(terminates=False)
    obs = np.cumsum(np.random.default_rng(0).normal(size=(411, 2)), axis=0)
    flags = np.arange(410) % 41 == 40
    none = np.zeros(410, bool)
    rows |= {"obs": obs[:-1], "next_obs": obs[1:], "terminated": none}
    rows |= {"truncated": none, kind: flags}
    assert len(quiet(envs.read_transitions, rows)) == 410
    rows |= {"obs": np.zeros((410, 1)), "next_obs": np.zeros((410, 1))}
    assert len(quiet(envs.read_transitions, rows)) == 410


@pytest.mark.parametrize("how", ["zeros", "repeated", "buffer", "without next_obs"])
def test_padding_without_a_mask_is_left_out(how):
    """Episodes of several lengths in arrays [N, T], and a buffer that is not full."""
    rows = log(num_rows=400)
    lengths = np.diff(np.append(-1, ends(rows)))
    number = len(lengths)
    if how == "buffer":
        padded = {n: np.concatenate([x, np.zeros_like(x)]) for n, x in rows.items()}
    else:
        padded = {
            n: np.zeros((number, LIMIT + 2, *x.shape[1:]), x.dtype)
            for n, x in rows.items()
        }
        start = 0
        for i, length in enumerate(lengths):
            for name, x in rows.items():
                padded[name][i, :length] = x[start : start + length]
                if how == "repeated":
                    padded[name][i, length:] = x[start + length - 1]
            start += length
    if how == "without next_obs":
        del padded["next_obs"]
    expected = 400 if how == "buffer" else int(lengths.sum())
    with pytest.warns(UserWarning, match="taken for padding"):
        found = envs.read_transitions(padded)
    if how == "without next_obs":
        # Without a next_obs are last rows; those that the task ended are kept.
        expected -= number - int(np.sum(rows["terminated"]))
    assert len(found) == expected
    real = np.asarray(rows["obs"])
    assert all((real == row).all(axis=1).any() for row in found.obs)


def test_rest_is_no_padding():
    """A robot that stands still at its origin, and goes on."""
    rows = log(num_rows=100, terminates=False)
    for name in ("obs", "next_obs", "action", "reward"):
        rows[name][45:55] = 0
    rows["next_obs"][44] = 0
    rows["obs"][55] = 0
    assert len(quiet(envs.read_transitions, rows)) == 100
    for name in ("obs", "next_obs", "action", "reward"):
        rows[name][20:24] = rows[name][98:] = 0  # the first state of all, and the last
    assert len(envs.read_transitions(rows)) == 100
    rows = {n: np.repeat(x[:1], 50, axis=0) for n, x in log().items()}
    assert len(envs.read_transitions(rows | {"terminated": np.ones(50, bool)})) == 50
    assert dataclasses.is_dataclass(envs.Transitions)


def table(**changes):
    """Columns of a log by name, as a CSV file or a DataFrame has them."""
    rows = log(num_rows=60)
    columns = {f"obs_{i}": rows["obs"][:, i] for i in range(2)}
    columns |= {f"next_obs_{i}": rows["next_obs"][:, i] for i in range(2)}
    names = ("action", "reward", "terminated", "truncated")
    return columns | {name: rows[name] for name in names} | changes


def with_gap():
    given = table()
    given["obs_3"], given["next_obs_3"] = given.pop("obs_1"), given.pop("next_obs_1")
    return given


def with_cell(name, cell, row=7):
    column = table()[name].astype(object)
    column[row] = cell
    return table(**{name: column})


WORDS = np.where(np.arange(60) % 2 == 0, "left", "right")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (with_gap(), "obs_1, obs_2 are missing beside obs_0, obs_3"),
        (with_cell("reward", "N/A"), "reward must .*'N/A'.* row 7; .*leave such rows"),
        (with_cell("obs_1", "None"), "obs_1 must .*'None'.* row 7; .* missing value"),
        (with_cell("obs_0", None), "obs_0 must be numbers, got NoneType .* row 7; le"),
        (table(action=WORDS), r"action .* 2 words .* \{'left': 0, 'right': 1\}"),
        (table(action=WORDS.astype(object)), "action .*'left'.* row 0.* 2 words"),
    ],
)
def test_cells_and_columns_that_are_wrong_are_named(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        envs.read_transitions(given)
    path = tmp_path / "log.csv"
    rows = zip(*given.values(), strict=True)
    path.write_text("\n".join(",".join(map(str, row)) for row in [given, *rows]))
    columns = message.split(" ")[0] if "missing beside" not in message else "obs_1"
    with pytest.raises(ValueError, match=columns):
        envs.read_transitions(path)


def test_numbers_in_text_are_numbers():
    """What `csv.DictReader` gives."""
    names = list(table())
    rows = [
        {n: str(x) for n, x in zip(names, row, strict=True)}
        for row in zip(*table().values(), strict=True)
    ]
    expected = envs.read_transitions(table())
    columns = {n: np.array([row[n] for row in rows]) for n in names}
    for given in (columns, rows):
        found = envs.read_transitions(given)
        np.testing.assert_array_equal(found.obs, expected.obs)
        np.testing.assert_array_equal(found.action, expected.action)
        assert found.action.dtype.kind == "i"


@pytest.mark.parametrize("absent", [True, False])
def test_flags_that_are_missing_are_told_whatever_holds_the_log(absent):
    rows = log(terminates=False)
    names = ["obs", "action", "reward", "next_obs"]
    mapping = {name: rows[name] for name in names}
    if not absent:
        mapping |= {"terminated": None, "truncated": None}
    found = []
    for given in (mapping, tuple(mapping.values())):
        with pytest.warns(UserWarning, match="log: terminated is missing"):
            found.append(oswm.read_log(given))
    for rows in found:
        assert not rows.terminated.any() and not rows.truncated.any()
        assert envs.episodes_of(rows).time_limit == LIMIT


def lists(separator):
    obs, next_obs = (
        [f"[{separator.join(map(repr, map(float, row)))}]" for row in log()[name]]
        for name in ("obs", "next_obs")
    )
    return log() | {"obs": np.array(obs), "next_obs": np.array(next_obs, object)}


@pytest.mark.parametrize("separator", [", ", "  "])
def test_lists_in_cells_are_rows(separator):
    found = envs.read_transitions(lists(separator))
    np.testing.assert_array_equal(found.obs, log()["obs"])
    np.testing.assert_array_equal(found.next_obs, log()["next_obs"])


PERCENT = np.array([f"{i}%" for i in range(410)])
EPISODE = np.where(np.arange(410) == 5, np.nan, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda rows: {"next_obs": rows["next_obs"] - rows["obs"]}, "the change of ob"),
        (lambda rows: {"reward": PERCENT}, "reward .*'0%' in row 0; write plain numbe"),
        (lambda rows: {"episode": EPISODE}, "episode must be known .* nan in row 5"),
    ],
)
def test_fields_that_hold_something_else_are_refused(changes, message):
    rows = log()
    with pytest.raises(ValueError, match=message):
        envs.read_transitions(rows | changes(rows))


def test_inverted_flags_and_one_array_for_all_rows_are_told():
    rows = log(terminates=False)
    none = np.zeros(410, bool)
    with pytest.warns(UserWarning, match="as if it was inverted"):
        envs.read_transitions(
            rows | {"terminated": ~rows["truncated"], "truncated": none}
        )
    with pytest.warns(UserWarning, match="kept without a copy"):
        envs.read_transitions(rows | {"next_obs": rows["obs"].copy()})
    still = rows | {"obs": np.ones((410, 2)), "next_obs": np.ones((410, 2))}
    with pytest.warns(UserWarning, match="all 410 rows are the same"):
        oswm.condition(still, model=oswm.Ridge(), max_steps=5)
    with pytest.warns(UserWarning, match="initial_obs: 1 of 2 are far outside"):
        oswm.condition(
            rows, model=oswm.Ridge(), max_steps=5, initial_obs=[[0, 0], [1e6, 0]]
        )
