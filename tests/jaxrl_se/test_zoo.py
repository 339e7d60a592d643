"""Saved and shipped synthetic environments: round trips, and files that are not one."""

import io
import json
import pickle
import zipfile
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl_se
from jaxrl_se import (
    MultiStepEnv,
    OneStepEnv,
    RewardConfig,
    Spaces,
    SyntheticConfig,
    load,
    save,
)

CARTPOLE = envs.make("CartPole-v1")
DISCRETE = Spaces(4, 2)
MULTI_STEP = SyntheticConfig("multi-step", (3,), max_steps=7, obs_bound=None)


def with_weights(env, **changes):
    """Params with weights that no initialisation gives."""
    shapes = jax.eval_shape(env.init_weights, jax.random.key(0))
    weights = jax.tree.map(lambda x: np.full(x.shape, 0.25, np.float32), shapes)
    return env.default_params.replace(weights=weights, **changes)


@pytest.mark.parametrize(
    "env",
    [
        OneStepEnv(SyntheticConfig(hidden_sizes=(3, 2)), DISCRETE),
        OneStepEnv(
            SyntheticConfig(
                hidden_sizes=(), initial_states="target", reward_heads=False
            ),
            DISCRETE,
            CARTPOLE[0],
        ),
        OneStepEnv(
            SyntheticConfig(hidden_sizes=(3,), reward_bound=2.0),
            Spaces(2, None, (-1.0, -2.0), (1.0, 2.0)),
        ),
        MultiStepEnv(MULTI_STEP, DISCRETE),
        MultiStepEnv(
            SyntheticConfig("multi-step", (3,), obs_bound=1.5, learn_termination=True),
            DISCRETE,
        ),
    ],
)
def test_round_trip(tmp_path, env):
    ranges = np.float32([[-2, 2]] * env.spaces.obs_size)
    params = with_weights(env, max_steps_in_episode=9, obs_range=ranges)
    if env.target is not None:
        params = params.replace(target_params=CARTPOLE[1])
    report = {"return_mean": 499.5, "seeds": [0, 1], "note": "\u03b8"}
    path = save(tmp_path / "new" / "mine", env, params, task="CartPole-v1", card=report)
    assert path == tmp_path / "new" / "mine.npz"
    assert [p.name for p in path.parent.iterdir()] == ["mine.npz"]
    loaded, loaded_params = load(path)
    assert loaded == env and jaxrl_se.read_card(path) == report
    assert jax.tree.structure(loaded_params) == jax.tree.structure(params)
    for a, b in zip(*map(jax.tree.leaves, (loaded_params, params)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(loaded_params.weights))


@pytest.mark.parametrize(
    ("config", "task", "repeat"),
    [
        (RewardConfig(hidden_sizes=()), "Cliff", 1),
        (RewardConfig("exclusive", (3,), "tanh", None, False), "CartPole-v0", 1),
        (RewardConfig("additive", (3, 2)), "MountainCarContinuous-v0", 2),
    ],
)
def test_reward_networks_round_trip(tmp_path, config, task, repeat):
    target, target_params = envs.make(task)
    if repeat > 1:
        target = envs.ActionRepeat(target, repeat)
    env, params = config.make(target, target_params, 0.8)
    weights = jax.tree.map(lambda x: jnp.full(x.shape, 0.25), params.weights)
    params = params.replace(weights=weights)
    path = save(tmp_path / "mine", env, params, task=task, card={"note": 1})
    loaded, loaded_params = load(path)
    assert loaded == env and loaded.target == target
    assert jaxrl_se.read_card(path) == {"note": 1}
    for a, b in zip(*map(jax.tree.leaves, (loaded_params, params)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_reward_networks_of_other_tasks_are_refused(tmp_path):
    env, params = RewardConfig("additive").make(*CARTPOLE)
    with pytest.raises(ValueError, match=r"must name .* makes another environment"):
        save(tmp_path / "x", env, params, task="Acrobot-v1")
    with pytest.raises(ValueError, match="target_params are not those of 'CartPole-v0"):
        save(tmp_path / "x", env, params, task="CartPole-v0")
    path = save(tmp_path / "x", env, params, task="CartPole-v1")
    rewrite(path, lambda metadata: {**metadata, "task": "Acrobot-v1"})
    assert_refused(path, "spaces .* are not those of Acrobot-v1")
    rewrite(path, lambda metadata: {**metadata, "task": "CartPole-v1", "discount": 2})
    assert_refused(path, "discount must be a number above 0")


def test_reward_networks_of_tasks_without_a_name(tmp_path):
    env, params = RewardConfig("additive").make(*CARTPOLE)
    path = save(tmp_path / "x", env, params)
    with pytest.raises(ValueError, match=r"task must be the one .* load\(path, task="):
        load(path)
    loaded, loaded_params = load(path, task=CARTPOLE)
    assert loaded == env
    jax.tree.map(np.testing.assert_array_equal, loaded_params, params)
    with pytest.raises(ValueError, match=r"spaces .* are not those of Acrobot"):
        load(path, task="Acrobot-v1")


def test_what_is_no_environment_is_told_with_a_remedy(tmp_path):
    with pytest.raises(ValueError, match="task must be left out"):
        load("CartPole-v1", task=CARTPOLE)
    for name in ("Cartpole-v1", "CartPole-v1.one-step"):
        with pytest.raises(ValueError, match=r"did you mean load\('CartPole-v1'\)\? S"):
            load(name)
    with pytest.raises(ValueError, match=r"load\('CartPole-v0', 'reward-network'\)"):
        load("CartPole-v0.reward-network")
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(FileNotFoundError, match=r"saved as .npz, not mine.py"):
        load(tmp_path / "mine.py")
    with pytest.raises(ValueError, match="float32 is not JSON serializable in 'n'"):
        save(tmp_path / "x", *load("CartPole-v1"), card={"a": 1, "n": np.float32(1)})


def test_two_loads_share_one_compilation(tmp_path):
    env = SyntheticConfig(hidden_sizes=(3,)).make(*CARTPOLE)[0]
    paths = [
        save(tmp_path / name, env, with_weights(env), task="CartPole-v1")
        for name in "ab"
    ]
    traces = []

    @partial(jax.jit, static_argnames="env")
    def first_reward(key, params, env):
        traces.append(1)
        _, state = env.reset(key, params)
        return env.step(key, state, jnp.int32(0), params)[2]

    for path in (*paths, paths[0]):
        loaded, params = load(path)
        first_reward(jax.random.key(0), params, loaded)
    assert len(traces) == 1


@pytest.fixture
def path(tmp_path):
    env = SyntheticConfig(hidden_sizes=(3,)).build(DISCRETE)
    return save(tmp_path / "good", env, with_weights(env), task="CartPole-v1")


def rewrite(path, metadata=None, **arrays):
    """Saves the file again with some of its contents changed."""
    with np.load(path) as file:
        content = dict(file)
    if metadata is not None:
        original = json.loads(str(content["metadata"]))
        content["metadata"] = np.array(json.dumps(metadata(original)))
    for name, array in arrays.items():
        content[name] = array
    np.savez(path, **{k: v for k, v in content.items() if v is not None})


def assert_refused(path, match=""):
    with pytest.raises(ValueError, match=match) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))


def test_damaged_files_are_refused(path):
    good = path.read_bytes()
    for content in (b"", b"not a zip", good[: len(good) // 2], good[:-40]):
        path.write_bytes(content)
        assert_refused(path, "not readable as a synthetic environment")
    num_refused = 0
    for position in range(0, len(good), 97):
        flipped = bytearray(good)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        try:  # Some bytes of a zip file, such as times, are never read.
            _, params = load(path)
            assert all((x == 0.25).all() for x in jax.tree.leaves(params.weights))
        except ValueError as error:
            num_refused += 1
            assert str(error).startswith(str(path))
    assert num_refused > 10


def test_pickles_are_refused(path):
    """An object array would run code of whoever wrote the file."""

    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("the pickle was loaded",)

    payload = np.empty(1, object)
    payload[0] = Bomb()
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, payload, allow_pickle=True)
    for name in ("metadata.npy", "['reward'][0]['bias'].npy", "more.npy"):
        with zipfile.ZipFile(path) as archive:
            members = {n: archive.read(n) for n in archive.namelist()}
        other = path.with_name("bomb.npz")
        with zipfile.ZipFile(other, "w") as archive:
            for member, content in {**members, name: buffer.getvalue()}.items():
                archive.writestr(member, content)
        assert_refused(other, "not readable as|holds Python objects")
    other.write_bytes(pickle.dumps(Bomb()))
    assert_refused(other, "not readable as")


def test_another_format_version_is_named(path):
    rewrite(path, lambda metadata: {**metadata, "format_version": 2})
    assert_refused(path, "format version 2, this version reads 1")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: [m], "metadata is no object"),
        (lambda m: {k: v for k, v in m.items() if k != "spaces"}, "KeyError: 'spaces'"),
        (lambda m: {**m, "config": {"width": 3}}, "width"),
        (lambda m: {**m, "config": {**m["config"], "variant": "x"}}, "variant must be"),
        (lambda m: {**m, "config": {**m["config"], "activation": "x"}}, "activation"),
        (lambda m: {**m, "config": {**m["config"], "hidden_sizes": [4]}}, "have shape"),
        (lambda m: {**m, "config": {**m["config"], "hidden_sizes": None}}, "None"),
        (lambda m: {**m, "max_steps_in_episode": "many"}, "many"),
        (
            lambda m: {
                **m,
                "task": "Nowhere-v0",
                "config": {**m["config"], "initial_states": "target"},
            },
            "unknown task 'Nowhere-v0'",
        ),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(path, change, match):
    rewrite(path, change)
    assert_refused(path, match)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (None, "is missing"),
        (np.zeros((2, 3), np.float32), "must have shape"),
        (np.zeros(3, np.float64), "must be float32, got float64"),
        (np.array([0, np.nan, 0], np.float32), r"\['reward'\].*NaN or infinity"),
        (np.array([0, 0, np.inf], np.float32), r"\['reward'\].*NaN or infinity"),
        (np.array(["a", "b", "c"]), "must be float32"),
    ],
)
def test_weights_that_do_not_fit_are_refused(path, array, match):
    rewrite(path, **{"['reward'][0]['bias']": array})
    assert_refused(path, match)


def test_saving_what_could_not_be_loaded_is_refused(tmp_path):
    env = SyntheticConfig(hidden_sizes=(3,)).build(DISCRETE)
    params = env.default_params
    weights = jax.tree.map(lambda x: np.asarray(x) * np.inf, params.weights)
    with pytest.raises(
        ValueError, match=r"params.weights\['initial_state'\].*infinity"
    ):
        save(tmp_path / "x", env, params.replace(weights=weights))
    env, params = SyntheticConfig(initial_states="target").make(*CARTPOLE)
    for task in (None, "MountainCar-v0", "Nowhere-v0"):
        with pytest.raises(ValueError, match="task"):
            save(tmp_path / "x", env, params, task=task)
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"name_or_path must name .*'CartPole-v9'"):
        load("CartPole-v9")
    with pytest.raises(ValueError, match=r"variant must be one of .*got 'two-step'"):
        load("CartPole-v1", variant="two-step")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.npz")


# Not all reach Gymnasium's threshold; none may fall back behind these.
FLOORS = {
    "CartPole-v1": 475,
    "Acrobot-v1": -95,
    "MountainCar-v0": -115,
    "MountainCarContinuous-v0": 80,
    "Pendulum-v1": -200,
}
# Tasks outside JAX: what was asked for, or about what there is to have.
OUTSIDE_FLOORS = {
    "LunarLander-v3": 200,
    "HalfCheetah-v5": 4000,
    "Hopper-v5": 2000,
    "Swimmer-v5": 300,
    "BipedalWalker-v3": 250,
    "InvertedPendulum-v5": 900,
    "InvertedDoublePendulum-v5": 8000,
}
MULTI_STEP_FLOORS = FLOORS | {"MountainCar-v0": -118, "Pendulum-v1": -240}
# The same after as many steps as the card says, with the task's own dynamics.
REWARD_FLOORS = {"Cliff": -12.5, "CartPole-v0": 190, "MountainCarContinuous-v0": 90}


def spaces_outside(name):
    """Of a task outside JAX, where something is installed that has it."""
    try:
        return envs.external(name).spaces
    except (ImportError, gymnasium.error.DependencyNotInstalled):
        return None


@pytest.mark.parametrize("name_and_variant", jaxrl_se.available(), ids="/".join)
def test_shipped_environments(name_and_variant):
    """They are there, agents did well in the real task, and each has a card."""
    name, variant = name_and_variant
    env, params = load(name, variant=variant)
    is_reward = variant == "reward-network"
    assert variant == ("reward-network" if is_reward else env.config.variant)
    report = jaxrl_se.read_card(name, variant)
    floors = MULTI_STEP_FLOORS if variant == "multi-step" else FLOORS
    if name in OUTSIDE_FLOORS:
        floors = OUTSIDE_FLOORS
        spaces = spaces_outside(name)
    else:
        spaces = Spaces.of(*envs.make(name))
    assert spaces is None or Spaces.of(env, params) == spaces
    assert report["return_mean"] >= (REWARD_FLOORS if is_reward else floors)[name]


def test_a_saved_file_is_found_without_its_suffix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = SyntheticConfig(hidden_sizes=(3,)).build(DISCRETE)
    for name in ("dbl", "CartPole-v1"):
        save(name, env, with_weights(env), card={"name": name})
    assert load("dbl")[0] == env and jaxrl_se.read_card("dbl") == {"name": "dbl"}
    # A shipped environment of that name and a file: neither is guessed.
    with pytest.raises(ValueError, match=r"the file is '\./CartPole-v1.npz'"):
        load("CartPole-v1")
    assert jaxrl_se.read_card("./CartPole-v1.npz") == {"name": "CartPole-v1"}
