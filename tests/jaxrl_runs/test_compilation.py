"""Compiler options for programs that run for less time than they compile."""

import jax
import jax.numpy as jnp
import pytest

from jaxrl_runs.compilation import quick_options


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
