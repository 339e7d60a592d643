"""Finetuning runs of the small language model: one program for many, and one alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.finetuning_lm.alone import trimmed
from benchmarks.finetuning_lm.model import (
    ModelConfig,
    Transformer,
    init_params,
    token_losses,
)
from benchmarks.finetuning_lm.questions import make_questions
from benchmarks.finetuning_lm.runs import (
    Shape,
    _start,
    _variables,
    draw_order,
    evaluate,
    make_data,
    rate,
    train_many,
    train_one,
)
from benchmarks.finetuning_lm.space import DEFAULT, as_numbers, draw_configs

pytestmark = pytest.mark.slow  # the training loop of one benchmark's own table
MODEL = ModelConfig(width=8, num_layers=2, num_heads=2, num_hidden=16)
MANY = {
    method: Shape(MODEL, method, num_epochs=2, microbatch=8, max_rank=4)
    for method in ("lora", "full")
}
AT_ONCE = {"lora": None, "full": 2}  # all together; in groups, the last one of one
FAST = {"learning_rate": 0.03, "warm_up": 0.1, "batch_size": 16, "lora_rank": 2}


def config(**changes):
    found = {**DEFAULT, **FAST, **changes}
    if found["method"] == "full":
        found = {k: v for k, v in found.items() if not k.startswith("lora")}
    return found


CONFIGS = {
    "lora": [
        config(lora_targets="all", frozen_layers=1),
        config(optimizer="lion", learning_rate=0.003, batch_size=8, lora_dropout=0),
        config(optimizer="sgd", lora_rank=4, batch_size=32, lora_dropout=0.3),
    ],
    "full": [
        config(method="full", loss_on="all", schedule="cosine"),
        config(method="full", frozen_layers=1, batch_size=32),
        config(method="full", optimizer="sgd", clip_norm=0.3, batch_size=8),
    ],
}


@pytest.fixture(scope="module")
def base():
    return init_params(jax.random.key(1), MODEL)


@pytest.fixture(scope="module")
def data():
    questions = make_questions("copying", 0)
    few = dataclasses.replace(
        questions, train=questions.train[:21], held_out=questions.held_out[:10]
    )
    return make_data(few, MODEL.length, max_train=32, num_held_out=12)


@pytest.fixture(scope="module")
def many(base, data):
    """Curves of three runs of a method, in one program, once it is asked for."""

    @functools.cache
    def curves(method):
        configs = CONFIGS[method]
        hps = [as_numbers(c, MODEL, max_rank=4) for c in configs]
        stacked = jax.tree.map(lambda *x: np.stack(x), *hps)
        keys = jax.random.split(jax.random.key(7), len(configs))
        shape, at_once = MANY[method], AT_ONCE[method]
        return train_many(base, stacked, data, keys, shape, at_once)

    return curves


@pytest.mark.parametrize(
    ("method", "run"),
    [
        ("lora", 0),
        ("lora", 2),
        ("full", 1),
    ],
)
def test_a_run_alone_gives_the_curve_of_the_batch(base, data, many, method, run):
    chosen = CONFIGS[method][run]
    shape = dataclasses.replace(
        MANY[method],
        microbatch=int(chosen["batch_size"]),  # the true one: nothing is added up
        max_rank=int(chosen.get("lora_rank", 1)),  # and no rank is padded
        num_frozen=int(chosen["frozen_layers"]),  # no gradients that are masked away
    )
    hp = as_numbers(chosen, MODEL, max_rank=shape.max_rank)
    key = jax.random.split(jax.random.key(7), 3)[run]
    alone = train_one(base, hp, trimmed(data), key, shape)  # without padded rows
    np.testing.assert_allclose(alone.loss, many(method).loss[run], rtol=1e-4)
    assert float(alone.loss[1]) < float(alone.loss[0])


def test_one_program_is_the_same_as_a_loop_with_optax(base, data, many):
    """Full finetuning with batches of 16 of 21 examples, written out."""
    chosen, key = CONFIGS["full"][0], jax.random.split(jax.random.key(7), 3)[0]
    hp = as_numbers(chosen, MODEL)
    network = Transformer(MODEL)

    @jax.jit
    def loss_fn(params, tokens, mask):
        losses = token_losses(network.apply({"params": params}, tokens), tokens)
        return jnp.mean((losses * mask[:, 1:]).sum(1) / mask[:, 1:].sum(1))

    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(lambda t: rate(hp, t, 4), weight_decay=0.01),
    )
    params, state = base, optimizer.init(base)
    for epoch in range(2):
        order_key = jax.random.fold_in(jax.random.split(key, 3)[1], epoch)
        order = np.asarray(draw_order(order_key, 21, 21))
        assert sorted(order) == list(range(21))
        for rows in (order[:16], order[16:]):
            tokens, mask = data.train.tokens[rows], data.train.is_text[rows]
            grads = jax.grad(loss_fn)(params, tokens, mask)
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        curves = evaluate({"params": params}, data.held_out, MODEL)
        np.testing.assert_allclose(curves.loss, many("full").loss[0, epoch], rtol=1e-4)


def test_an_adapter_without_scale_or_rank_leaves_the_model_as_it_is(base, data):
    before = evaluate({"params": base}, data.held_out, MODEL)
    hp = as_numbers(config(lora_targets="all"), MODEL, max_rank=4)
    off = [
        hp.replace(scale=0 * hp.scale),
        hp.replace(rank_mask=0 * hp.rank_mask),
        hp,
    ]
    stacked = jax.tree.map(lambda *x: np.stack(x), *off)
    keys = jax.random.split(jax.random.key(0), 3)
    curves = train_many(base, stacked, data, keys, MANY["lora"], AT_ONCE["lora"])
    for run in (0, 1):
        np.testing.assert_allclose(curves.loss[run], before.loss, rtol=1e-6)
    assert abs(float(curves.loss[2, 1] - before.loss)) > 1e-2
    # at the start an adapter changes nothing either
    weights = _start(keys[2], base, hp, MANY["lora"])
    fresh = evaluate(_variables(base, weights, hp, MANY["lora"]), data.held_out, MODEL)
    np.testing.assert_allclose(fresh.loss, before.loss, rtol=1e-6)


def test_a_run_that_diverges_scores_zero(base, data, many):
    hp = as_numbers(CONFIGS["full"][2], MODEL, max_rank=4)
    hp = hp.replace(learning_rate=np.float32(1e30), clip_norm=np.float32(1e30))
    stacked = jax.tree.map(lambda x: np.stack([x] * 3), hp)
    keys = jax.random.split(jax.random.key(0), 3)
    curves = train_many(base, stacked, data, keys, MANY["full"], AT_ONCE["full"])
    assert not np.isfinite(curves.loss).any()
    assert (np.asarray(curves.exact_match) == 0).all()


def test_exact_match_needs_every_token_of_the_answer(data):
    """A model that always says the same cannot copy; one that cheats is caught."""

    class Oracle:
        def __init__(self, wrong):
            self.wrong = wrong

        def apply(self, variables, tokens):
            told = jnp.roll(tokens, -1, 1).at[: self.wrong, -2].add(0)
            logits = jax.nn.one_hot(told, 192) * 50
            at = jnp.argmax(data.held_out.is_answer, 1)[: self.wrong]
            return logits.at[jnp.arange(self.wrong), at - 1].set(0.0)

    import benchmarks.finetuning_lm.runs as runs

    for wrong, expected in ((0, 1.0), (3, 0.7), (10, 0.0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runs, "Transformer", lambda _, w=wrong: Oracle(w))
            found = evaluate({}, data.held_out, MODEL)
        assert float(found.exact_match) == pytest.approx(expected)


def test_the_rate_rises_and_falls():
    hp = as_numbers(config(schedule="linear", warm_up=0.3, learning_rate=0.1), MODEL)
    rates = [float(rate(hp, jnp.int32(t), jnp.int32(10))) for t in range(10)]
    np.testing.assert_allclose(rates[:3], [0.1 / 3, 0.2 / 3, 0.1], rtol=1e-5)
    np.testing.assert_allclose(rates[3:], 0.1 * (1 - np.arange(7) / 7), rtol=1e-5)
    flat = as_numbers(config(schedule="constant", warm_up=0), MODEL)
    assert float(rate(flat, jnp.int32(0), jnp.int32(10))) == pytest.approx(0.03)


def test_drawn_configurations_are_valid_and_distinct():
    configs = draw_configs(np.random.default_rng(0), 12, 6)
    assert configs["lora"][0] == DEFAULT
    assert [len(c) for c in configs.values()] == [12, 6]
    assert len({repr(c) for rows in configs.values() for c in rows}) == 18


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_rank": 3}, "lora_rank must be one of"),
        ({"lora_rank": 8}, "lora_rank must be at most 4, got 8"),
        ({"learning_rate": 3.0}, "learning_rate must be a number in"),
        ({"speed": 1}, "unknown hyperparameters"),
    ],
)
def test_bad_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        as_numbers({**DEFAULT, **changes}, MODEL, max_rank=4)


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="width must be a multiple of num_heads"):
        ModelConfig(width=10, num_heads=4)
    with pytest.raises(ValueError, match="frozen_layers must be below num_layers"):
        as_numbers(config(frozen_layers=1), dataclasses.replace(MODEL, num_layers=1))
    with pytest.raises(ValueError, match="method must be one of"):
        Shape(MODEL, "prefix")
