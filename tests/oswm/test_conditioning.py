"""What `condition` takes for a log, where episodes start, what it says, worlds."""

import jax
import numpy as np
import pandas as pd
import pytest

import envs
import jaxrl_se
import oswm

PENDULUM = envs.make("Pendulum-v1")
FIELDS = ("obs", "action", "reward", "next_obs", "terminated", "truncated")


@pytest.fixture(scope="module")
def rows():
    return envs.collect(PENDULUM, 300, key=0)


@pytest.fixture(scope="module")
def wanted(rows):
    return oswm.condition(rows, model=oswm.Ridge())[1]


def table(rows):
    columns = {name: np.asarray(getattr(rows, name)) for name in FIELDS}
    frame = {}
    for name, column in columns.items():
        if column.ndim == 1:
            frame[name] = column
        else:
            frame |= {f"{name}_{i}": x for i, x in enumerate(column.T)}
    return pd.DataFrame(frame)


@pytest.mark.parametrize("kind", ["arrays", "four arrays", "mapping", "table", "path"])
def test_a_log_of_any_kind(rows, wanted, kind, tmp_path):
    arrays = [np.asarray(getattr(rows, name)) for name in FIELDS]
    rows.save(tmp_path / "log.npz")
    log = {
        "arrays": tuple(arrays),
        "four arrays": tuple(x.astype(np.float64) for x in arrays[:4]),
        "mapping": dict(zip(FIELDS, arrays, strict=True)),
        "table": table(rows),
        "path": str(tmp_path / "log.npz"),
    }[kind]
    _, params = oswm.condition(log, max_steps=200, model=oswm.Ridge())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        params.cache,
        wanted.cache,
    )


@pytest.mark.parametrize(
    ("log", "kind", "message"),
    [
        ((np.zeros((9, 2)),), ValueError, "got 1 arrays"),
        ("no_such_file.npz", FileNotFoundError, "no_such_file"),
        (3, (TypeError, ValueError), "log|int"),
    ],
)
def test_what_is_no_log_is_refused(log, kind, message):
    with pytest.raises(kind, match=message):
        oswm.condition(log, model=oswm.Ridge())


def test_few_starts_are_replaced_by_the_context_and_it_says_so(rows, wanted, capsys):
    assert wanted.num_initial_obs == 300  # It holds two starts.
    _, params = oswm.condition(
        rows, model=oswm.Ridge(), initial_obs="starts", progress=True
    )
    assert params.num_initial_obs == 2
    assert "episodes start as its own do" in capsys.readouterr().err
    oswm.condition(rows, model=oswm.Ridge(), progress=True)
    said = capsys.readouterr().err
    assert "300 rows, 3 observations and 1 action dimensions" in said
    assert "start anywhere in it, as it holds 2 starts alone" in said
    assert "fitting Ridge" in said and said.endswith("s\n")


def test_a_time_limit_that_no_row_shows_is_said(rows, capsys):
    arrays = {name: np.asarray(getattr(rows, name)) for name in FIELDS}
    arrays["truncated"] = np.zeros(300, bool)
    arrays["terminated"] = np.arange(300) % 30 == 29
    _, params = oswm.condition(arrays, model=oswm.Ridge(), progress=True)
    assert params.max_steps_in_episode == 200
    assert "are cut after 200 steps, as none is in it" in capsys.readouterr().err


def test_a_script_is_told_what_takes_long(rows, monkeypatch, capsys):
    monkeypatch.setattr("oswm.progress._SECONDS_BEFORE_WORDS", 60.0)
    oswm.condition(rows, model=oswm.Ridge())
    oswm.condition(rows, model=oswm.Ridge(), progress=False)
    assert not capsys.readouterr().err
    monkeypatch.setattr("oswm.progress._SECONDS_BEFORE_WORDS", 1e-3)
    oswm.condition(rows, model=oswm.Ridge())
    said = capsys.readouterr().err
    assert "300 rows" in said and said.endswith("s\n")


def test_each_generation_has_a_world_of_its_own(rows):
    env, params = oswm.condition_worlds(rows, 3, fraction=0.5, model=oswm.Ridge())
    draw = jax.jit(oswm.draw_world)  # Key and generation may be traced.
    drawn = [draw(params, jax.random.key(0), g) for g in range(8)]
    weights = np.stack([x.cache.fit.weights for x in drawn])
    assert len(np.unique(weights.round(6), axis=0)) == 3
    again = draw(params, jax.random.key(0), 5).cache.fit.weights
    np.testing.assert_array_equal(again, weights[5])
    _, state = env.reset(jax.random.key(0), drawn[0])
    obs, *_ = env.step(jax.random.key(0), state, np.zeros(1, np.float32), drawn[0])
    assert np.isfinite(obs).all()
    with pytest.raises(ValueError, match="num_worlds must be an integer of at least 2"):
        oswm.condition_worlds(rows, 1, model=oswm.Ridge())


MODELS = {
    "ridge": "got 'ridge'",
    3: "got 3",
    oswm.KernelRidge: r"got the class KernelRidge; write KernelRidge\(\.\.\.\)",
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("how", ["condition", "solve", "LogConfig"])
def test_what_is_no_model_is_told_which_there_are(rows, model, how):
    call = {
        "condition": lambda: oswm.condition(rows, model=model),
        "solve": lambda: jaxrl_se.solve(rows, model=model, progress=False),
        "LogConfig": lambda: jaxrl_se.LogConfig(model=model),
    }[how]
    with pytest.raises(TypeError, match=f"model must be a .*{MODELS[model]}") as told:
        call()
    shown = str(told.value).split("got")[0]
    names = ("Ridge", "KernelRidge", "FastKernelRidge", "MLPEnsemble")
    for name in (*names, "NearestNeighbours", "LeaveOneOut"):
        assert f"oswm.{name}()" in shown and hasattr(getattr(oswm, name)(), "fit")
    assert "for the shipped transformer, oswm.load_model()" in shown


@pytest.mark.parametrize(
    "function",
    [oswm.condition, oswm.read_log, jaxrl_se.solve, jaxrl_se.evolve_from_log],
)
def test_names_of_columns_belong_to_reading(rows, function):
    message = (
        r"'columns'; read it first, log = envs.read_transitions\(log, columns=...\)"
    )
    with pytest.raises(TypeError, match=message):
        function(table(rows), columns={"reward": "paid"})
