"""Damaged, foreign and lying files, for everything that reads one."""

from __future__ import annotations

import io
import pickle
import random
import resource
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
import finetune
import jaxrl_se
import oswm
from benchmarks.faults.runs import Row
from finetune import bundle
from jaxrl_runs.checkpoints import tree_sha256
from oswm.weights import PRETRAINED

_HUGE = 2**40
_ROOM = 200 * 2**20  # Bytes that a refusal may take.


class Touched:
    """What a pickle of it does when it is opened."""

    ran = False

    def __reduce__(self) -> Any:
        """Sets `ran`."""
        return (_touch, ())


def _touch() -> None:
    Touched.ran = True


def loaders(folder: Path) -> dict[str, tuple[Path, Callable[[], Any]]]:
    """Good files, and what reads them, by name."""
    env, params = envs.make("CartPole-v1")
    log = envs.collect(env, params, 64, 0)
    log.save(folder / "log.npz")
    agent = jaxrl_se.DDQN(hidden_sizes=(4,), buffer_size=32, batch_size=4)
    trained = jaxrl_se.train(agent, env, params, 0, 40)
    jaxrl_se.save_agent(folder / "agent.npz", trained)
    state = jaxrl_se.start(agent, env, params, 0, num_steps=40)
    jaxrl_se.save_state(folder / "state.npz", state)
    jaxrl_se.save(folder / "env.npz", *jaxrl_se.load("CartPole-v1"))
    copies = {
        "surrogates": Path(bundle.SHIPPED),
        "model": PRETRAINED,
    }
    for name, source in copies.items():
        (folder / name).mkdir()
        for file in source.iterdir():
            if file.is_file():
                (folder / name / file.name).write_bytes(file.read_bytes())
    found = {
        "envs.Transitions.load": ("log.npz", envs.Transitions.load),
        "envs.read_transitions": ("log.npz", envs.read_transitions),
        "jaxrl_se.load": ("env.npz", jaxrl_se.load),
        "jaxrl_se.load_agent": ("agent.npz", jaxrl_se.load_agent),
        "jaxrl_se.load_state": (
            "state.npz",
            lambda path: jaxrl_se.load_state(path, state),
        ),
        "finetune.Surrogates.load": (
            "surrogates/weights.npz",
            lambda path: finetune.Surrogates.load(path.parent),
        ),
        "oswm.load_model": (
            "model/weights.npz",
            lambda path: oswm.load_model(path.parent),
        ),
    }
    return {
        name: (folder / file, lambda read=read, file=file: read(folder / file))
        for name, (file, read) in found.items()
    }


def damaged(name: str, path: Path, read: Callable[[], Any], number: int) -> Row:
    """Every way to damage one file.

    Args:
        name: Of the loader.
        path: Its file, which is brought back in the end.
        read: Reads it.
        number: Truncations, and flipped bits.
    """
    good = path.read_bytes()
    expected = _digest(read())
    draw = random.Random(0)
    cases: list[tuple[str, bytes]] = []
    for _ in range(number):
        cases.append(("truncated", good[: draw.randrange(len(good))]))
        place = draw.randrange(len(good))
        flipped = bytearray(good)
        flipped[place] ^= 1 << draw.randrange(8)
        cases.append(("bit-flipped", bytes(flipped)))
    cases += foreign() + lying(good)
    refused, same, wrong = 0, 0, []
    try:
        for kind, content in cases:
            path.write_bytes(content)
            before = _peak()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = _digest(read())
            except (ValueError, OSError) as error:
                refused += 1
                if not str(error).strip() or _peak() - before > _ROOM:
                    wrong.append(f"{kind}: {error}, {_peak() - before} bytes")
            except Exception as error:  # what should not come
                wrong.append(f"{kind}: {type(error).__name__}: {error}")
            else:
                same += found == expected
                if found != expected:
                    wrong.append(f"{kind}: read as something else")
    finally:
        path.write_bytes(good)
    if Touched.ran:
        wrong.append("a pickle was executed")
    found = f"{refused} refused, {same} read unharmed" + "".join(
        f"; {text:.200}" for text in wrong[:3]
    )
    return Row(f"damaged files, `{name}`", len(cases), found, not wrong)


def foreign() -> list[tuple[str, bytes]]:
    """Files of other kinds."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "no array")
    other = io.BytesIO()
    np.savez(other, something=np.zeros(3))
    objects = io.BytesIO()
    np.savez(objects, obs=np.array([Touched()], object))
    return [
        ("empty", b""),
        ("foreign", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        ("foreign", b"obs,action\n1,2\n"),
        ("a zip of text", archive.getvalue()),
        ("an npz of others", other.getvalue()),
        ("a pickle", pickle.dumps(Touched())),
        ("an npz with a pickle", objects.getvalue()),
    ]


def lying(good: bytes) -> list[tuple[str, bytes]]:
    """The arrays of a good file, one of which announces a terabyte."""
    found = []
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        names = archive.namelist()
        contents = {name: archive.read(name) for name in names}
    for shape in ((_HUGE,), (2**20, 2**20), (2**62, 4)):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"shape": shape, "fortran_order": False, "descr": "<f4"}
        )
        lie = io.BytesIO()
        with zipfile.ZipFile(lie, "w") as archive:
            for name, content in {**contents, names[0]: header.getvalue()}.items():
                archive.writestr(name, content)
        found.append(("oversized", lie.getvalue()))
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
        archive.filelist[0].file_size = _HUGE  # as the directory will say
    return [*found, ("a zip bomb", bomb.getvalue())]


def _digest(loaded: Any) -> str:
    leaves = [x for x in jax.tree.leaves(vars_of(loaded)) if hasattr(x, "dtype")]
    return tree_sha256(
        [np.asarray(jax.random.key_data(x) if _is_key(x) else x) for x in leaves]
    )


def vars_of(loaded: Any) -> Any:
    """A pytree of what was loaded, whatever class it is of."""
    is_leaf = jax.tree.leaves(loaded) == [loaded]
    return vars(loaded) if is_leaf and hasattr(loaded, "__dict__") else loaded


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rows(folder: Path, number: int) -> Iterator[Row]:
    """A row for each loader."""
    for name, (path, read) in loaders(folder).items():
        yield damaged(name, path, read, number)
