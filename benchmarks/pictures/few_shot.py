"""Few-shot episodes after MetaDL: classes never seen, one or five pictures of each.

    python -m benchmarks.few_shot --data cifar10_10k_2k.npz

The ten classes of the CIFAR-10 subset are split into five that an encoder is trained on
and five that make 5-way episodes. Each query is given to the nearest class mean
(prototype) of the encoder's features, or to the nearest picture by pixels; untrained
features and prototypes of pixels show what the training brings. An interval is over
episodes; what other classes would give is seen from split to split.

Source: Snell et al., Prototypical Networks for Few-shot Learning (2017).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from benchmarks.shared.runtime import use_compilation_cache
from hardviews import ResNetConfig
from hardviews.networks import ResNet
from jaxrl_runs.run_folder import RunFolder, next_run_folder

NUM_WAYS = 5
_BATCH = 100
_SHIFT = 3  # pixels


@dataclasses.dataclass(frozen=True)
class Args:
    """Options.

    Attributes:
        data: npz with train_images, train_labels, test_images and test_labels.
        out: Folder of the run; without it, the next numbered one under runs/.
        num_splits: Ways of splitting the classes, each with an encoder of its own.
        num_episodes: Of each split and number of shots.
        shots: Labelled pictures of each class.
        num_queries: Pictures of each class to be classified in an episode.
        num_epochs: Of the encoder's training.
        width: Channels of the encoder's first stage.
        seed: Of everything.
    """

    data: Path
    out: Path | None = None
    num_splits: int = 3
    num_episodes: int = 600
    shots: tuple[int, ...] = (1, 5)
    num_queries: int = 15
    num_epochs: int = 15
    width: int = 16
    seed: int = 0

    def __post_init__(self):
        for name in ("num_splits", "num_episodes", "num_queries", "num_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not self.shots or min(self.shots) < 1:
            raise ValueError(f"shots must be 1 or more, got {self.shots}")


class Classifier(nn.Module):
    """A residual network with a linear layer on its features."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Features ``[b, f]`` and logits ``[b, 5]``."""
        features = ResNet(ResNetConfig(self.width))(x, train)
        return features, nn.Dense(NUM_WAYS)(features)


def read_pictures(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All pictures, float32 ``[n, side, side, 3]``, standardised, and labels.

    Raises:
        ValueError: If the file is another one.
    """
    with np.load(path, allow_pickle=False) as file:
        names = ("train_images", "test_images", "train_labels", "test_labels")
        missing = sorted(set(names) - set(file.files))
        if missing:
            raise ValueError(f"{path.name}: missing {missing}")
        images = np.concatenate([file[name] for name in names[:2]])
        labels = np.concatenate([file[name] for name in names[2:]])
    x = images.astype(np.float32) / 255
    return (x - x.mean((0, 1, 2))) / x.std((0, 1, 2)), labels.astype(int)


@functools.partial(jax.jit, static_argnames="network")
def _start(key, network: Classifier):
    return network.init(key, jnp.zeros((1, 32, 32, 3)), False)


@functools.partial(jax.jit, static_argnames="num_steps")
def _optimizer_state(variables, num_steps):
    return _optimizer(num_steps).init(variables["params"])


def _optimizer(num_steps: int):
    rate = optax.warmup_cosine_decay_schedule(0.0, 3e-3, num_steps // 10, num_steps)
    return optax.adamw(rate, weight_decay=5e-2)


@functools.partial(jax.jit, static_argnames=("network", "num_steps"))
def _train_step(variables, moments, key, x, y, network: Classifier, num_steps: int):
    """One step on pictures that are flipped and shifted."""
    flip, shift = jax.random.split(key)
    x = jnp.where(jax.random.bernoulli(flip, shape=(len(x), 1, 1, 1)), x[:, :, ::-1], x)
    widths = ((0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0))
    corners = jax.random.randint(shift, (len(x), 2), 0, 2 * _SHIFT + 1)

    def cut(picture, corner):
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(picture, start, x.shape[1:])

    x = jax.vmap(cut)(jnp.pad(x, widths), corners)

    def loss(params):
        (_, logits), state = network.apply(
            {**variables, "params": params}, x, True, mutable=["batch_stats"]
        )
        target = optax.smooth_labels(jax.nn.one_hot(y, NUM_WAYS), 0.1)
        return optax.softmax_cross_entropy(logits, target).mean(), state  # type: ignore[arg-type]

    gradient, state = jax.grad(loss, has_aux=True)(variables["params"])
    update, moments = _optimizer(num_steps).update(
        gradient, moments, variables["params"]
    )
    params = optax.apply_updates(variables["params"], update)
    return {"params": params, **state}, moments


def train_encoder(
    key: jax.Array, x: np.ndarray, y: np.ndarray, network: Classifier, num_epochs: int
):
    """Train on the classes of the encoder; its variables.

    Args:
        key: Of weights, minibatches and augmentations.
        x: Pictures.
        y: Classes 0 to 4.
        network: Encoder and linear layer.
        num_epochs: Passes.
    """
    variables = _start(jax.random.fold_in(key, 0), network)
    num_steps = num_epochs * (len(x) // _BATCH)
    moments = _optimizer_state(variables, num_steps)
    step = 0
    for epoch in range(num_epochs):
        shuffled = jax.random.permutation(jax.random.fold_in(key, epoch + 1), len(x))
        kept = np.asarray(shuffled)[: len(x) // _BATCH * _BATCH]
        for rows in kept.reshape(-1, _BATCH):
            step_key = jax.random.fold_in(jax.random.fold_in(key, 2**20), step)
            variables, moments = _train_step(
                variables, moments, step_key, x[rows], y[rows], network, num_steps
            )
            step += 1
    return variables


@functools.partial(jax.jit, static_argnames="network")
def _features(variables, x, network: Classifier):
    features, _ = network.apply(variables, x, False)  # type: ignore[misc]
    return features


def features_of(variables, x: np.ndarray, network: Classifier) -> np.ndarray:
    """Features of pictures, ``[n, f]``, a few hundred at a time."""
    padded = np.concatenate([x, np.zeros((-len(x) % 400, *x.shape[1:]), x.dtype)])
    parts = [
        _features(variables, part, network)
        for part in np.split(padded, len(padded) // 400)
    ]
    return np.concatenate(parts)[: len(x)]


def directions(x: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Rows less their centre, of length one."""
    x = x - center
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def play_episode(
    random: np.random.Generator,
    rows: list[np.ndarray],
    views: dict[str, tuple[np.ndarray, bool]],
    num_shots: int,
    num_queries: int,
) -> dict[str, float]:
    """Accuracy of each arm on one draw of pictures.

    Args:
        random: Draws them.
        rows: Of the pictures of each class.
        views: Features ``[n, f]`` by arm, and whether each class is its mean (or
            whatever picture is nearest).
        num_shots: Labelled pictures of each class.
        num_queries: Other pictures of each class.
    """
    drawn = np.stack(
        [random.choice(r, num_shots + num_queries, replace=False) for r in rows]
    )
    support, queries = drawn[:, :num_shots], drawn[:, num_shots:].reshape(-1)
    truth = np.repeat(np.arange(len(rows)), num_queries)
    found = {}
    for name, (x, is_mean) in views.items():
        known = x[support].mean(1) if is_mean else x[support.reshape(-1)]
        classes = np.arange(len(rows))
        owner = classes if is_mean else np.repeat(classes, num_shots)
        gaps = (known**2).sum(1) - 2 * x[queries] @ known.T
        found[name] = float((owner[gaps.argmin(1)] == truth).mean())
    return found


def play_split(args: Args, split: int, images: np.ndarray, labels: np.ndarray):
    """Train an encoder on half of the classes, and play episodes of the others.

    Returns:
        The five classes of the episodes, CPU-seconds of training, and accuracies
        ``[episodes]`` by number of shots and arm.
    """
    random = np.random.default_rng([args.seed, split])
    classes = random.permutation(np.unique(labels))
    seen, unseen = np.sort(classes[:-NUM_WAYS]), np.sort(classes[-NUM_WAYS:])
    base = np.flatnonzero(np.isin(labels, seen))
    key = jax.random.fold_in(jax.random.key(args.seed), split)
    started = time.process_time()
    numbers = np.searchsorted(seen, labels[base])
    network = Classifier(args.width)
    variables = train_encoder(key, images[base], numbers, network, args.num_epochs)
    seconds = time.process_time() - started
    novel = np.flatnonzero(np.isin(labels, unseen))
    pixels = images[novel].reshape(len(novel), -1)
    views = {}
    for name, weights in (("trained", variables), ("untrained", _start(key, network))):
        center = features_of(weights, images[base[:1000]], network).mean(0)
        encoded = directions(features_of(weights, images[novel], network), center)
        views[f"prototypes, {name} encoder"] = encoded, True
    views["prototypes, pixels"] = pixels, True
    views["nearest neighbour, pixels"] = pixels, False
    rows = [np.flatnonzero(labels[novel] == c) for c in unseen]
    found = {}
    for shots in args.shots:
        episodes = [
            play_episode(random, rows, views, shots, args.num_queries)
            for _ in range(args.num_episodes)
        ]
        found[str(shots)] = {name: [e[name] for e in episodes] for name in views}
    return unseen.tolist(), seconds, found


def summarise(splits: list[dict]) -> list[dict]:
    """Mean accuracies with 95 % intervals over episodes, and means of the splits."""
    lines = []
    for shots, arms in splits[0].items():
        for arm in arms:
            by_split = np.array([split[shots][arm] for split in splits])
            error = np.sqrt(by_split.var(1).mean() / by_split.size)
            lines.append(
                {
                    "shots": int(shots),
                    "arm": arm,
                    "accuracy": float(by_split.mean()),
                    "half_width": float(1.96 * error),
                    "of_splits": by_split.mean(1).tolist(),
                }
            )
    return lines


def table(lines: list[dict]) -> str:
    """Markdown."""
    rows = [
        "| shots | arm | accuracy | lowest and highest split |",
        "|---|---|---|---|",
    ]
    for line in lines:
        low, high = min(line["of_splits"]), max(line["of_splits"])
        rows.append(
            f"| {line['shots']} | {line['arm']} | {line['accuracy']:.3f} +- "
            f"{line['half_width']:.3f} | {low:.3f}, {high:.3f} |"
        )
    return "\n".join(rows) + "\n"


def run(args: Args) -> dict:
    """Play all splits and write ``summary.json`` and ``table.md``."""
    out = args.out or next_run_folder("runs/few_shot")
    images, labels = read_pictures(args.data)
    settings = {**dataclasses.asdict(args), "out": None, "data": None}
    with RunFolder(out, settings) as folder:
        found, about = [], []
        for split in range(args.num_splits):
            unseen, seconds, accuracies = play_split(args, split, images, labels)
            found.append(accuracies)
            about.append({"unseen": unseen, "training_cpu_seconds": seconds})
            print(f"split {split}: classes {unseen}, {seconds:.0f} CPU-s", flush=True)
        lines = summarise(found)
        summary = {"settings": settings, "splits": about, "results": lines}
        folder.write_json("summary.json", json.loads(json.dumps(summary)))
        (Path(out) / "table.md").write_text(table(lines))
    print(table(lines))
    return summary


def main() -> None:
    """Parse the options and run."""
    use_compilation_cache()
    run(tyro.cli(Args))
