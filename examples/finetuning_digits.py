"""Tune the finetuning of a small pretrained network, live, against random search.

Two networks (narrow and wide) are pretrained on the digits 0 to 4 of scikit-learn's
digits. The task is to finetune one of them on the digits 5 to 9: which one, how many
layers stay frozen, full weights or low-rank adapters of which rank, which learning
rate, schedule and weight decay. The tuner has seen finetuning before: on mirrored,
turned and shuffled pictures of the digits 0 to 4. Both methods get the same seconds of
wall time, decisions included. Nothing is downloaded.

    pip install -e ".[examples]"
    python examples/finetuning_digits.py
"""

from __future__ import annotations

import dataclasses
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from tqdm import tqdm

import finetune
from finetune import Categorical, Condition, Float, Ordinal

WIDTHS = {"narrow": 64, "wide": 512}
NUM_LAYERS, NUM_CLASSES, MAX_RANK, NUM_EPOCHS, BATCH = 3, 5, 8, 12, 32

SPACE = finetune.SearchSpace(
    (
        Categorical("model", tuple(WIDTHS)),
        Categorical("method", ("full", "low_rank")),
        Ordinal(
            "frozen_layers", (0.0, 1.0, 2.0), condition=Condition("method", ("full",))
        ),
        Ordinal("rank", (1.0, 2.0, 8.0), condition=Condition("method", ("low_rank",))),
        Float("learning_rate", 1e-5, 1e-1, log=True),
        Categorical("schedule", ("constant", "cosine")),
        Ordinal("weight_decay", (0.0, 1e-3, 1e-1), log=True),
    )
)


@dataclasses.dataclass(frozen=True)
class Task:
    """Pictures ``[n, 64]`` in [0, 1] and labels ``[n]`` for training and validation."""

    name: str
    train: tuple[np.ndarray, np.ndarray]
    valid: tuple[np.ndarray, np.ndarray]


def load_tasks(seed: int = 0) -> tuple[Task, list[Task], Task]:
    """Return the pretraining task, the past tasks, and the task to be tuned."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = (digits.images / 16).astype(np.float32), digits.target
    random = np.random.default_rng(seed)
    shuffle = random.permutation(64)

    def task(name, classes, change=lambda x: x, num_train=200, noise=0.0):
        rows = random.permutation(np.flatnonzero(np.isin(labels, classes)))
        x = change(images[rows]).reshape(len(rows), 64)
        x = x + noise * random.normal(size=x.shape).astype(np.float32)
        y = (labels[rows] - min(classes)).astype(np.int32)
        cut = num_train if num_train else 700
        return Task(name, (x[:cut], y[:cut]), (x[cut:], y[cut:]))

    first, second = range(5), range(5, 10)
    past = [
        task("inverted", first, lambda x: 1 - x),
        task("turned", first, lambda x: np.rot90(x, axes=(1, 2))),
        task("mirrored", first, lambda x: x[:, :, ::-1], noise=0.3),
        task("shuffled", first, lambda x: x.reshape(-1, 64)[:, shuffle]),
        task("few", first, lambda x: np.rot90(x, 2, axes=(1, 2)), 60),
    ]
    return task("pretraining", first, num_train=None), past, task("target", second)


def init_network(key: jax.Array, width: int) -> list[dict]:
    """Draw a perceptron with two hidden layers."""
    sizes = [64, width, width, NUM_CLASSES]
    keys = jax.random.split(key, NUM_LAYERS)
    return [
        {"w": jax.random.normal(k, (a, b)) * np.sqrt(2 / a), "b": jnp.zeros(b)}
        for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def add_adapters(key: jax.Array, network: list[dict]) -> list[dict]:
    """Add low-rank adapters that change nothing yet."""
    found = []
    for layer, k in zip(network, jax.random.split(key, len(network)), strict=True):
        rows, columns = layer["w"].shape
        down = jax.random.normal(k, (rows, MAX_RANK)) / np.sqrt(rows)
        found.append({**layer, "down": down, "up": jnp.zeros((MAX_RANK, columns))})
    return found


def forward(network: list[dict], x: jax.Array) -> jax.Array:
    """Return logits ``[n, 5]``."""
    for i, layer in enumerate(network):
        x = x @ layer["w"] + (x @ layer["down"]) @ layer["up"] + layer["b"]
        x = jax.nn.relu(x) if i < len(network) - 1 else x
    return x


def trainable(network: list[dict], config: dict) -> list[dict]:
    """Return 1 for what a configuration trains and 0 for what it keeps."""
    low_rank = config["method"] == "low_rank"
    ranks = jnp.arange(MAX_RANK) < config.get("rank", 0)
    mask = []
    for i, layer in enumerate(network):
        is_head = i == NUM_LAYERS - 1
        open_layer = is_head or (not low_rank and i >= config.get("frozen_layers", 0))
        adapter = low_rank and not is_head
        mask.append(
            {
                "w": jnp.full_like(layer["w"], open_layer),
                "b": jnp.full_like(layer["b"], open_layer),
                "down": jnp.ones_like(layer["down"]) * ranks * adapter,
                "up": jnp.ones_like(layer["up"]) * ranks[:, None] * adapter,
            }
        )
    return mask


@functools.partial(jax.jit, donate_argnums=(0, 1))
def train_epoch(network, moments, mask, key, x, y, rate, decay):
    """One epoch of Adam on what the mask leaves open."""
    optimizer = optax.scale_by_adam()
    num_batches = len(x) // BATCH
    order = jax.random.permutation(key, len(x))[: num_batches * BATCH]

    def step(carry, rows):
        network, moments = carry

        def loss_fn(network):
            logits = forward(network, x[rows])
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, y[rows])
            return loss.mean()

        grads = jax.tree.map(jnp.multiply, jax.grad(loss_fn)(network), mask)
        updates, moments = optimizer.update(grads, moments)
        network = jax.tree.map(
            lambda w, u, m: w - rate * m * (u + decay * w), network, updates, mask
        )
        return (network, moments), None

    rows = order.reshape(num_batches, BATCH)
    (network, moments), _ = jax.lax.scan(step, (network, moments), rows)
    return network, moments


@jax.jit
def accuracy(network, x, y):
    """Share of right answers."""
    return jnp.mean(jnp.argmax(forward(network, x), -1) == y)


class Run:
    """One finetuning run that can be frozen and thawed."""

    def __init__(self, networks: dict, task: Task, config: dict, seed: int = 0):
        self.config, self.task, self.epoch = config, task, 0
        self.key = jax.random.key(seed)
        network = networks[config["model"]]
        head = init_network(self.key, WIDTHS[config["model"]])[-1]
        network = [*network[:-1], {**network[-1], **head}]
        self.network = jax.tree.map(jnp.array, network)
        self.moments = optax.scale_by_adam().init(self.network)
        self.mask = trainable(self.network, config)

    def train(self) -> tuple[float, float]:
        """Train one more epoch; returns validation accuracy and seconds."""
        start = time.perf_counter()
        rate = self.config["learning_rate"]
        if self.config["schedule"] == "cosine":
            rate *= 0.5 * (1 + np.cos(np.pi * self.epoch / NUM_EPOCHS))
        # repeat small data, so that an epoch takes a while
        x, y = (np.resize(a, (1600, *a.shape[1:])) for a in self.task.train)
        self.network, self.moments = train_epoch(
            self.network,
            self.moments,
            self.mask,
            jax.random.fold_in(self.key, self.epoch),
            x,
            y,
            rate,
            self.config["weight_decay"],
        )
        self.epoch += 1
        value = float(accuracy(self.network, *self.task.valid))
        return value, time.perf_counter() - start


def pretrain(task: Task, num_epochs: int = 5) -> dict[str, list[dict]]:
    """Pretrain both networks."""
    full = {
        "method": "full",
        "frozen_layers": 0,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "weight_decay": 0.0,
    }
    networks = {}
    for name, width in WIDTHS.items():
        blank = add_adapters(jax.random.key(1), init_network(jax.random.key(0), width))
        run = Run({name: blank}, task, {**full, "model": name})
        for _ in range(num_epochs):
            value, _ = run.train()
        networks[name] = run.network
        print(f"pretrained {name}: accuracy {value:.3f} on the digits 0 to 4")
    return networks


def meta_features(task: Task) -> list[float]:
    """Training pictures, classes, side and channels."""
    return [len(task.train[0]), NUM_CLASSES, 8, 1]


def collect(networks: dict, tasks: list[Task], num_runs: int, seed: int = 0):
    """Run random configurations on the past tasks, as a meta-dataset."""
    random = np.random.default_rng(seed)
    vectors, curves, costs, dataset = [], [], [], []
    progress = tqdm(tasks, "past tasks", leave=False, disable=None)
    for i, task in enumerate(progress):
        for _ in range(num_runs):
            config = SPACE.sample(random)
            run = Run(networks, task, config)
            values = [run.train() for _ in range(NUM_EPOCHS)]
            vectors.append(SPACE.to_vector(config))
            curves.append([v for v, _ in values])
            costs.append([s for _, s in values])
            dataset.append(i)
    return finetune.MetaDataset(
        space=SPACE,
        vectors=np.stack(vectors),
        curves=np.asarray(curves),
        costs=np.asarray(costs),
        dataset=np.asarray(dataset),
        dataset_names=tuple(task.name for task in tasks),
        meta_features=np.asarray([meta_features(task) for task in tasks]),
        meta_feature_names=("num_train", "num_classes", "resolution", "num_channels"),
        source="digits",
    )


def tune(tuner: finetune.Tuner, networks: dict, task: Task, seconds: float):
    """Tune for so many seconds; returns times and best accuracies so far."""
    runs: dict[int, Run] = {}
    times, best = [0.0], [0.0]
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        trial = tuner.suggest()
        if trial.id not in runs:
            runs[trial.id] = Run(networks, task, trial.config)
        value, spent = runs[trial.id].train()
        tuner.observe(trial, value, spent)
        times.append(time.perf_counter() - start)
        best.append(max(best[-1], value))
    return np.array(times), np.array(best)


def random_search(networks: dict, task: Task, seconds: float, seed: int):
    """Train random configurations to their end for so many seconds."""
    random = np.random.default_rng(seed)
    times, best = [0.0], [0.0]
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        run = Run(networks, task, SPACE.sample(random))
        for _ in range(NUM_EPOCHS):
            value, _ = run.train()
            times.append(time.perf_counter() - start)
            best.append(max(best[-1], value))
            if times[-1] > seconds:
                break
    return np.array(times), np.array(best)


def compare(seconds: float = 6.0, num_seeds: int = 5, num_past_runs: int = 15):
    """Run everything; returns traces ``{method: [(times, best), ...]}``."""
    pretraining, past, target = load_tasks()
    networks = pretrain(pretraining)
    print(f"finetuning {num_past_runs} times on each of {len(past)} past tasks ...")
    data = collect(networks, past, num_past_runs)
    traces: dict = {"tuner": [], "random search": []}
    print("meta-training ...")
    config = finetune.FitConfig(
        performance=finetune.MetaTrainConfig(num_steps=600, num_members=2),
        cost=finetune.MetaTrainConfig(num_steps=200, num_members=1),
        reference=None,
    )
    bundle = finetune.fit_surrogates(jax.random.key(0), data, config)[0]
    warm = finetune.Tuner(surrogates=bundle, meta_features=meta_features(target))
    tune(warm, networks, target, 0.1)  # compiles outside the clock
    for seed in range(num_seeds):
        tuner = finetune.Tuner(
            surrogates=bundle, meta_features=meta_features(target), seed=seed
        )
        traces["tuner"].append(tune(tuner, networks, target, seconds))
        traces["random search"].append(
            random_search(networks, target, seconds, 1000 + seed)
        )
        print(
            f"seed {seed}: "
            + ", ".join(f"{k} {v[-1][1][-1]:.3f}" for k, v in traces.items())
        )
    return traces


def draw(traces: dict, path: str | None = None):
    """Draw the mean best accuracy over wall time, with the range over seeds."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for name, runs in traces.items():
        grid = np.linspace(0, min(times[-1] for times, _ in runs), 100)
        rows = np.array(
            [best[np.searchsorted(times, grid, "right") - 1] for times, best in runs]
        )
        axes.plot(grid, rows.mean(0), label=name)
        axes.fill_between(grid, rows.min(0), rows.max(0), alpha=0.2)
    axes.set_xlabel("seconds, decisions included")
    axes.set_ylabel("best validation accuracy so far")
    axes.legend()
    figure.tight_layout()
    if path:
        figure.savefig(path, dpi=150)
    return figure


def main(
    seconds: float = 6.0,
    num_seeds: int = 5,
    num_past_runs: int = 15,
    picture: str = "finetuning_digits.png",
) -> None:
    """Compare the tuner with random search on scikit-learn's digits."""
    traces = compare(seconds, num_seeds, num_past_runs)
    for name, runs in traces.items():
        for share in (0.25, 1.0):
            found = [
                best[np.searchsorted(times, share * seconds, "right") - 1]
                for times, best in runs
            ]
            print(
                f"{name:14s} after {share * seconds:4.1f} s: mean {np.mean(found):.3f} "
                f"(min {min(found):.3f}, max {max(found):.3f})"
            )
    draw(traces, picture)
    print(f"Wrote {picture}")


if __name__ == "__main__":
    tyro.cli(main)
