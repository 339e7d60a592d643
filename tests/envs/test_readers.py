"""Logs of other programs: files, tables, datasets and vector environments."""

import builtins

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from test_episodes import LIMIT, log, taken

import envs
from envs.canonical import as_flags
from envs.transitions import FIELDS, Transitions

ROWS = taken(log(terminates=True), slice(0, 200))
D4RL = {
    "obs": "observations",
    "action": "actions",
    "reward": "rewards",
    "next_obs": "next_observations",
    "terminated": "terminals",
    "truncated": "timeouts",
}


def arrays(names=None):
    return {(names or {}).get(name, name): getattr(ROWS, name) for name in FIELDS}


def assert_equal(actual, expected=ROWS, rtol=0.0):
    for name in FIELDS:
        a, b = getattr(actual, name), getattr(expected, name)
        np.testing.assert_allclose(a, b, rtol=rtol, err_msg=name)


def write_npz(path, content):
    np.savez(path, **content)


def write_hdf5(path, content):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in content.items():
            file[name] = array
        file["infos/qpos"] = np.zeros(3)
        file["metadata/algorithm"] = b"random"


@pytest.mark.parametrize("write", [write_npz, write_hdf5])
@pytest.mark.parametrize("names", [None, D4RL], ids=["ours", "D4RL"])
def test_files_of_arrays(write, names, tmp_path):
    path = tmp_path / f"data.{write.__name__[6:]}"
    write(path, arrays(names))
    assert_equal(envs.read_transitions(path))
    assert_equal(envs.read_transitions(str(path)))
    with pytest.raises(ValueError, match=rf"{path}.*more than the limit of 500"):
        envs.read_transitions(path, max_bytes=500)


def columns():
    parts = {f"obs_{i}": ROWS.obs[:, i] for i in range(3)}
    parts |= {f"next_obs_{i}": ROWS.next_obs[:, i] for i in range(3)}
    rest = ("action", "reward", "terminated", "truncated")
    return parts | {name: getattr(ROWS, name) for name in rest}


def csv_of(table):
    lines = [",".join(table)]
    lines += [
        ",".join(str(cell) for cell in row) for row in zip(*table.values(), strict=True)
    ]
    return "\n".join(lines) + "\n\n"


def test_tables(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(columns())
    for rows in (Transitions.from_dataframe(frame), envs.read_transitions(frame)):
        assert_equal(rows)
        assert rows.action.dtype.kind == "i"
    path = tmp_path / "log.csv"
    frame.to_csv(path, index=False)
    rows = Transitions.from_csv(path)
    assert_equal(rows, rtol=1e-7)
    assert rows.action.dtype.kind == "i"


def test_columns_of_any_name(tmp_path):
    names = ("x", "v", "w", "x2", "v2", "w2", "force", "pay", "fell", "late")
    table = dict(zip(names, columns().values(), strict=True))
    path = tmp_path / "log.csv"
    path.write_text(csv_of(table).replace(",", ", "))
    where = {
        "obs": ["x", "v", "w"],
        "next_obs": ["x2", "v2", "w2"],
        "action": "force",
        "reward": "pay",
        "terminated": "fell",
        "truncated": "late",
    }
    assert_equal(envs.read_transitions(path, columns=where), rtol=1e-6)
    ends = ("terminated", "truncated")
    without = {field: name for field, name in where.items() if field not in ends}
    with pytest.warns(UserWarning, match="not read: fell, late$"):
        envs.read_transitions(path, columns=without)
    with pytest.raises(ValueError, match=r"columns\['reward'\]: there is no 'gain'"):
        envs.read_transitions(path, columns={**where, "reward": "gain"})
    with pytest.raises(ValueError, match="columns must be fields among"):
        envs.read_transitions(path, columns={**where, "prize": "pay"})
    with pytest.raises(ValueError, match=r"log.csv: lacks the field 'obs' \(also"):
        envs.read_transitions(path)


FLAGS = [("Y", "N"), ("yes", "No"), ("on", "OFF"), ("true", "F"), ("1", "0")]


@pytest.mark.parametrize("comma", [",", "|"])
@pytest.mark.parametrize("head", ["", "# a log\n#\n", "# "])
def test_comments_bars_and_words_for_flags(comma, head, tmp_path):
    yes, no = FLAGS[len(head) % len(FLAGS)]
    path = tmp_path / "log.csv"
    lines = ["obs,action,reward,next_obs,terminated,truncated"]
    lines += [
        f"0.5,0,1,0.6,{no},{no}",
        f"0.6,1,2,0.7,{yes},{no}",
        f"0,0,1,1,{no},{yes}",
    ]
    path.write_text(head + "\n".join(lines).replace(",", comma))
    found = envs.read_transitions(path)
    assert np.asarray(found.terminated).tolist() == [False, True, False]
    assert np.asarray(found.truncated).tolist() == [False, False, True]
    assert np.asarray(found.reward).tolist() == [1, 2, 1]


@pytest.mark.parametrize(("yes", "no"), FLAGS)
def test_words_for_flags(yes, no):
    flags = as_flags("terminated", [yes, no, yes])
    assert flags.tolist() == [True, False, True]


BAD_CSV = {
    "got numbers": "0.5,1\n0.2,1\n",
    "expected a header": "\n\n",
    "expected 2 cells as in the header, got 3 in line 3": "a,b\n1,2\n0,5,1\n",
    "column 'reward': expected a number, got 'N/A' in line 3": "reward\n1\nN/A\n",
    "names of columns that differ": "a,a\n1,2\n",
}


@pytest.mark.parametrize("message", BAD_CSV)
def test_bad_csv(message, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(BAD_CSV[message])
    with pytest.raises(ValueError, match=rf"log.csv: .*{message}"):
        envs.read_transitions(path)


def test_rows_are_sorted_by_episode_and_step():
    episodes = envs.episodes_of(ROWS)
    number = np.repeat(np.arange(len(episodes.starts)), episodes.lengths)
    step = np.arange(200) - np.repeat(episodes.starts, episodes.lengths)
    order = np.random.default_rng(0).permutation(200)
    given = {**arrays(), "episode_id": number, "step": step}
    rows = envs.read_transitions({name: x[order] for name, x in given.items()})
    assert_equal(rows, taken(ROWS, np.argsort(rank_by_appearance(number, order))))
    # Steps that start anew within an environment do not say where a row belongs.
    given = {**arrays(), "env_id": np.zeros(200, int), "step": step}
    assert_equal(envs.read_transitions(given))


def rank_by_appearance(number, order):
    first = {n: np.flatnonzero(number[order] == n)[0] for n in set(number)}
    return [first[n] * 1000 + i for i, n in enumerate(number)]


def test_ends_that_are_not_told_apart():
    done = ROWS.terminated | ROWS.truncated
    given = {name: x for name, x in arrays().items() if name != "terminated"}
    assert_equal(envs.read_transitions({**given, "done": done}))
    del given["truncated"]
    with pytest.raises(ValueError, match="done: it does not say whether the task"):
        envs.read_transitions({**given, "done": done})


def test_next_observations_are_those_of_the_next_row():
    given = {name: x for name, x in arrays().items() if name != "next_obs"}
    with pytest.warns(UserWarning, match=r"what followed \d+ terminations is estim"):
        rows = envs.read_transitions(given)
    ended = ROWS.terminated | ROWS.truncated
    ended[-1] = True
    expected = taken(ROWS, ~ended | ROWS.terminated)
    for name in ("obs", "action", "reward", "terminated"):
        np.testing.assert_array_equal(getattr(rows, name), getattr(expected, name))
    known = ~expected.terminated
    np.testing.assert_array_equal(rows.next_obs[known], expected.next_obs[known])
    moves = np.abs(expected.next_obs - expected.obs).max(axis=1)
    off = np.abs(rows.next_obs - expected.next_obs).max(axis=1)
    assert off.max() < 0.5 * np.median(moves)
    starts = envs.episodes_of(rows).starts
    assert len(starts) == len(envs.episodes_of(ROWS).starts)
    assert envs.episodes_of(rows).time_limit == LIMIT - 1

    one = {name: x[:30] for name, x in given.items()}
    one["obs"] = np.append(ROWS.obs[:30], ROWS.next_obs[29:30], axis=0)
    assert_equal(envs.read_transitions(one), taken(ROWS, slice(0, 30)))


SPACE = gymnasium.spaces.Dict(
    {
        "place": gymnasium.spaces.Box(-9, 9, (2,)),
        "gear": gymnasium.spaces.Discrete(3),
    }
)


def test_mappings_are_flattened_as_gymnasium_does_it():
    nested = {"place": ROWS.obs[:, :2], "gear": ROWS.action}
    given = {**arrays(), "obs": nested, "next_obs": nested}
    rows = envs.read_transitions(given, observation_space=SPACE)
    first = {name: x[0] for name, x in nested.items()}
    np.testing.assert_array_equal(rows.obs[0], gymnasium.spaces.flatten(SPACE, first))
    assert rows.obs.shape == (200, 5)
    with pytest.raises(ValueError, match=r"obs must be .* give the observation_space"):
        envs.read_transitions(given)


class Clock(gymnasium.Env):
    """Observes place and gear; ends after six steps, or four in the third gear."""

    observation_space = SPACE
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.start = 0, self.np_random.uniform()
        return self.obs(0), {}

    def obs(self, gear):
        place = np.float32([self.start, self.time])
        return {"place": place, "gear": np.int64(gear)}

    def step(self, action):
        self.time += 1
        terminated = self.time >= 4 and action == 2
        return self.obs(action), float(action), terminated, self.time >= 6, {}


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("nested", [True, False])
def test_vector_environments_in_any_autoreset_mode(mode, nested):
    def make():
        return Clock() if nested else gymnasium.wrappers.FlattenObservation(Clock())

    vector = SyncVectorEnv([make] * 3, autoreset_mode=mode)
    rows = Transitions.from_vector_env(vector, 50, seed=0)
    resets = 0 if mode != AutoresetMode.NEXT_STEP else 3 * 50 - len(rows)
    assert len(rows) == 3 * 50 - resets and (resets > 20) == (resets > 0)
    # Gymnasium orders the keys: gear (one-hot) first, then place (start, time).
    np.testing.assert_array_equal(rows.next_obs[:, :3].argmax(1), rows.action)
    np.testing.assert_array_equal(rows.next_obs[:, 4], rows.obs[:, 4] + 1)
    np.testing.assert_array_equal(rows.next_obs[:, 3], rows.obs[:, 3])
    np.testing.assert_array_equal(rows.reward, rows.action)
    late = rows.next_obs[:, 4] == 6
    np.testing.assert_array_equal(rows.truncated, late)
    np.testing.assert_array_equal(
        rows.terminated, (rows.next_obs[:, 4] >= 4) & (rows.action == 2)
    )
    episodes = envs.episodes_of(rows)
    np.testing.assert_array_equal(episodes.starts, np.flatnonzero(rows.obs[:, 4] == 0))
    assert episodes.time_limit == 6


@pytest.mark.parametrize("how", ["one", "factory", "vector"])
def test_external_tasks_are_flattened_likewise(how):
    """`collect` and agents see vectors, and condition's environment gives them back."""
    task = {
        "one": Clock,
        "factory": lambda: Clock,
        "vector": lambda: SyncVectorEnv(
            [Clock] * 3, autoreset_mode=AutoresetMode.SAME_STEP
        ),
    }[how]()
    task = envs.external(task)
    assert task.spaces.obs_size == 5
    rows = task.collect(60, 0)
    np.testing.assert_array_equal(rows.next_obs[:, :3].argmax(1), rows.action)
    np.testing.assert_array_equal(rows.next_obs[:, 4], rows.obs[:, 4] + 1)
    assert rows.terminated.any() and rows.truncated.any()
    returns = task.play(lambda obs, key: (obs[..., 4] > 2).astype(int), 0, 2)[0].returns
    np.testing.assert_array_equal(returns, 3.0)
    task.close()


def test_external_tasks_of_other_spaces_are_refused():
    class Odd(Clock):
        action_space = gymnasium.spaces.Dict(a=gymnasium.spaces.Discrete(2))

    with pytest.raises(TypeError, match="actions must be single arrays, got Dict"):
        envs.external(Odd)


def test_vector_environments_follow_a_policy():
    vector = envs.GymnasiumVectorEnv(*envs.make("CartPole-v1"), num_envs=4)
    rows = Transitions.from_vector_env(
        vector, 30, lambda obs: (obs[:, 2] > 0).astype(int), seed=0
    )
    np.testing.assert_array_equal(rows.action, rows.obs[:, 2] > 0)
    assert rows.terminated.any() and len(rows) == 120
    with pytest.raises(TypeError, match="vector_env must be a gymnasium"):
        Transitions.from_vector_env(gymnasium.make("CartPole-v1"), 3)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        Transitions.from_vector_env(vector, 0)


def test_minari(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    collector = minari.DataCollector(
        gymnasium.wrappers.TimeLimit(Clock(), 6), record_infos=False
    )
    expected = []
    for seed in range(3):
        obs, _ = collector.reset(seed=seed)
        for _ in range(6):
            expected.append(gymnasium.spaces.flatten(SPACE, obs))
            obs, _, _terminated, _truncated, _ = collector.step(1)
    collector.create_dataset("clock/test-v0", eval_env=None)
    collector.close()
    for source in ("clock/test-v0", minari.load_dataset("clock/test-v0")):
        rows = Transitions.from_minari(source)
        np.testing.assert_array_equal(rows.obs, expected)
        np.testing.assert_array_equal(rows.next_obs[:-1, 4], rows.obs[:-1, 4] + 1)
        assert envs.episodes_of(rows).time_limit == 6
    by_path = envs.read_transitions(tmp_path / "clock" / "test-v0")
    np.testing.assert_array_equal(by_path.obs, expected)
    with pytest.raises(ValueError, match="take more than the limit of 100 bytes"):
        Transitions.from_minari("clock/test-v0", max_bytes=100)


@pytest.mark.parametrize("package", ["h5py", "minari"])
def test_what_is_missing_is_named(package, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args):
        if name == package:
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    path = tmp_path / "data.hdf5"
    path.write_bytes(b"x")
    with pytest.raises(ImportError, match=f"pip install {package}"):
        if package == "h5py":
            envs.read_transitions(path)
        else:
            Transitions.from_minari("pen/human-v2")


def test_other_sources_are_refused(tmp_path):
    with pytest.raises(TypeError, match="source must be a path, a mapping"):
        envs.read_transitions(3)
    for name in ("none.npz", "none.csv", "none.h5", "none"):
        with pytest.raises(FileNotFoundError):
            envs.read_transitions(tmp_path / name)
    (tmp_path / "bad.h5").write_bytes(b"text")
    with pytest.raises(ValueError, match="not readable as HDF5"):
        envs.read_transitions(tmp_path / "bad.h5")
    with pytest.raises(ValueError, match="obs must be one array, found obs and stat"):
        envs.read_transitions({**arrays(), "states": ROWS.obs})
    assert envs.read_transitions(ROWS) is ROWS
