"""Compiler options for programs that run for less time than they compile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_runs.compilation import fits_steps, quick_jit, quick_options


def test_options_are_for_cpus_and_flags_of_the_user_win(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    options = quick_options(0)
    assert options["xla_backend_optimization_level"] == 0
    lowered = jax.jit(lambda x: jnp.sin(x) @ x).lower(jnp.ones((3, 3)))
    quick, usual = lowered.compile(options), lowered.compile()
    assert quick(jnp.eye(3)) == pytest.approx(usual(jnp.eye(3)))
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    assert "xla_backend_optimization_level" not in quick_options()
    assert "xla_llvm_disable_expensive_passes" in quick_options()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert quick_options() == {}


def test_a_quick_program_is_part_of_what_calls_it():
    def power(x, n):
        return x**n

    program = quick_jit(power, static_argnames="n")
    assert program(3.0, n=2) == 9.0
    assert jax.jit(lambda x: program(x, n=2) + 1)(3.0) == 10.0
    assert jax.jit(lambda: program(3.0, n=2))() == 9.0
    assert jax.grad(lambda x: program(x, n=2))(3.0) == 6.0
    np.testing.assert_array_equal(
        jax.vmap(lambda x: program(x, n=3))(np.arange(3.0)), [0, 1, 8]
    )
    assert jax.eval_shape(lambda: program(3.0, n=2)).shape == ()


def test_long_trainings_compile_thoroughly():
    program = quick_jit(lambda x: x)
    assert fits_steps(program, 100) is program
    assert fits_steps(program, 10**6) is program.thorough
