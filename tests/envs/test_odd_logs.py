"""Logs as strangers keep them: padded, thinned out, with fields of another meaning."""

import collections
import warnings

import numpy as np
import pytest
from test_episodes import LIMIT, changed, log, taken

import envs
import oswm
from envs.transitions import FIELDS

ROWS = taken(log(terminates=True), slice(0, 400))
FOUND = envs.episodes_of(ROWS)
LENGTHS = FOUND.lengths
NUMBER = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
ENDED = FOUND.terminated | FOUND.truncated


def arrays(rows=ROWS):
    return {name: np.asarray(getattr(rows, name)) for name in FIELDS}


def padded(fields=FIELDS, fill=7):
    """Arrays [E, T, ...] that hold something wherever there is no step."""
    shape = len(LENGTHS), LENGTHS.max() + 1
    mask = np.arange(shape[1]) < LENGTHS[:, None]
    found = {}
    for name in fields:
        x = arrays()[name]
        found[name] = np.full((*shape, *x.shape[1:]), fill).astype(x.dtype)
        found[name][mask] = x
    return found, mask


def assert_rows(found, expected=ROWS):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def swapped(fields):
    return {name: np.swapaxes(x, 0, 1) for name, x in fields.items()}


def flat(fields):
    return {name: x.reshape(-1, *x.shape[2:]) for name, x in fields.items()}


def in_records(fields, **more):
    """One mapping for each episode."""
    return [
        {name: x[i] for name, x in fields.items()}
        | {name: x[i] for name, x in more.items()}
        for i in range(len(LENGTHS))
    ]


P, MASK = padded()
PADDED = {
    "mask": P | {"mask": MASK},
    "valid": P | {"valid": MASK.astype(float)},
    "lengths": P | {"lengths": LENGTHS},
    "mask, steps first": swapped(P | {"mask": MASK}),
    "lengths, steps first": swapped(P) | {"episode_lengths": LENGTHS},
    "rows": flat(P | {"padding_mask": MASK}),
    "records, mask": in_records(P, mask=MASK),
    "records, length": in_records(P, length=LENGTHS),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("how", PADDED)
def test_what_a_mask_or_lengths_leave_out_is_no_data(how):
    found = envs.read_transitions(PADDED[how])
    assert_rows(found)
    assert envs.episodes_of(found).time_limit == LIMIT


def test_masks_that_are_something_else():
    with pytest.raises(ValueError, match="as if it was 1 - done"):
        envs.read_transitions(arrays() | {"masks": 1.0 - ROWS.terminated})
    assert_rows(envs.read_transitions(arrays() | {"mask": np.zeros((len(ROWS), 2))}))
    with pytest.raises(ValueError, match="mask leaves out all rows"):
        envs.read_transitions(P | {"mask": 0 * MASK})
    holes = np.ones_like(MASK)
    holes[2, 3] = False
    with pytest.raises(ValueError, match="and others come after them"):
        envs.read_transitions(P | {"mask": holes})
    with pytest.raises(ValueError, match="lengths must be at most"):
        envs.read_transitions(P | {"lengths": LENGTHS + 100})


def test_without_next_obs_no_row_is_joined_over_a_hole():
    given = arrays() | {"valid": np.arange(len(ROWS)) % 10 != 4}
    del given["next_obs"]
    with pytest.warns(UserWarning, match="next_obs is missing"):
        found = envs.read_transitions(given)
    row = {obs.tobytes(): i for i, obs in enumerate(ROWS.obs)}
    at = np.array([row[obs.tobytes()] for obs in found.obs])
    known = ~np.asarray(found.terminated)
    np.testing.assert_array_equal(found.next_obs[known], ROWS.next_obs[at][known])


@pytest.mark.filterwarnings("ignore:next_obs is missing")
def test_one_flag_for_an_episode_is_that_of_its_last_row():
    starts = FOUND.starts
    episodes = []
    for i, (start, length) in enumerate(zip(starts, LENGTHS, strict=True)):
        rows = slice(start, start + length)
        obs = np.append(ROWS.obs[rows], ROWS.next_obs[rows][-1:], axis=0)
        episodes.append(
            {
                "observations": obs,
                "actions": ROWS.action[rows],
                "rewards": ROWS.reward[rows],
                "terminated": bool(FOUND.terminated[i]),
                "truncated": [FOUND.truncated[i]],
                "episode": i,
            }
        )
    assert_rows(envs.read_transitions(episodes))
    short = [{**e, "observations": e["observations"][:-1]} for e in episodes]
    found = envs.read_transitions(short)
    assert found.terminated.sum() == FOUND.terminated.sum()
    with pytest.raises(ValueError, match="step must have one entry for each"):
        envs.read_transitions([{**e, "step": 0} for e in short])


@pytest.mark.parametrize("every", [2, 3])
def test_rows_that_are_missing_are_told(every):
    thin = taken(log(terminates=True), slice(None, None, every))
    with pytest.warns(UserWarning, match="rows are missing between nearly all others"):
        envs.read_transitions(thin)
    with (
        pytest.warns(UserWarning, match="rows are missing"),
        pytest.raises(envs.OrderError, match="pass both max_steps and initial_obs"),
    ):
        oswm.condition(thin, model=oswm.Ridge())


def test_columns_in_another_order_are_told():
    other = changed(ROWS, next_obs=np.asarray(ROWS.next_obs)[:, [1, 0, 2]])
    with pytest.raises(ValueError, match=r"column 0 of obs is column 1 of next_obs"):
        envs.read_transitions(other)


def test_sums_of_rewards_are_told():
    total = np.cumsum(np.abs(np.asarray(ROWS.reward)) + 0.1)
    with pytest.warns(UserWarning, match="reward: within episodes it only grows"):
        envs.read_transitions(changed(ROWS, reward=total))


def test_a_game_that_pays_in_the_end_is_no_sum(recwarn):
    """Every other step is the last one, and won."""
    number = len(ROWS.reward)
    ends = np.arange(number) % 2 == 1
    envs.read_transitions(changed(ROWS, reward=1.0 * ends, terminated=ends))
    assert not [w for w in recwarn if "only grows" in str(w.message)]


def test_resets_without_a_flag_are_told():
    """A climb of 20 to 29 steps, again and again, and a row that leads back."""
    lengths = np.random.default_rng(0).integers(20, 30, 12)
    heights = np.concatenate([np.arange(n) for n in lengths]) * 1.0
    given = {"obs": heights[:-1], "next_obs": heights[1:], "action": heights[1:] % 2}
    given |= {"reward": heights[1:] % 3, "terminated": 0 * heights[1:]}
    with pytest.warns(UserWarning, match="11 of .* further than all others, first row"):
        envs.read_transitions(given)


def test_flags_that_belong_to_the_other_kind_are_told():
    rows = log(terminates=True)
    other = changed(rows, terminated=rows.truncated, truncated=rows.terminated)
    with pytest.warns(UserWarning, match="as if the two were swapped"):
        envs.episodes_of(other)
    ended = np.asarray(rows.terminated | rows.truncated)
    both = changed(rows, terminated=ended, truncated=ended & False)
    with pytest.warns(UserWarning, match=f"exactly {LIMIT} steps, .* as a time limit"):
        envs.episodes_of(both)
    late = arrays(rows) | {"terminated": np.roll(ended, 1), "truncated": ended & False}
    del late["next_obs"]
    with pytest.warns(UserWarning, match="where observations have just jumped"):
        envs.read_transitions(late)


def test_nothing_of_this_is_said_of_what_is_right():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs.episodes_of(ROWS)
        envs.episodes_of(log())


@pytest.mark.parametrize("separator", ["\t", "|"])
def test_decimal_commas_between_tabs(separator, tmp_path):
    pandas = pytest.importorskip("pandas")
    columns = {f"obs_{i}": ROWS.obs[:, i] for i in range(3)}
    columns |= {f"next_obs_{i}": ROWS.next_obs[:, i] for i in range(3)}
    columns |= {n: x for n, x in arrays().items() if "obs" not in n}
    path = tmp_path / "log.csv"
    pandas.DataFrame(columns).to_csv(path, sep=separator, decimal=",", index=False)
    np.testing.assert_allclose(envs.read_transitions(path).obs, ROWS.obs, rtol=1e-6)


def test_named_tuples_are_mappings():
    fields = ("action", "next_obs", "reward", "terminated", "truncated", "obs")
    kind = collections.namedtuple("Step", fields)
    whole = kind(**arrays())
    rows = collections.deque(
        kind(*row) for row in zip(*(arrays()[f] for f in fields), strict=True)
    )
    for given in (whole, rows):
        assert_rows(envs.read_transitions(given))
        assert_rows(oswm.read_log(given))
