"""An epoch of finetuning a timm image model, by a configuration of the shipped space.

Needs the extra ``timm``. Weights come from timm's hub, or from ``DIR/NAME.pth`` or
``.safetensors`` where the environment variable ``FINETUNE_WEIGHTS`` names a folder;
``FINETUNE_WEIGHTS=random`` pretrains nothing, for trials of the machinery.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

try:
    import timm
    import torch
    from torch import nn
except ImportError:
    raise ImportError(
        'finetuning timm models needs timm: pip install "jaxrl-se[timm]"'
    ) from None

from finetune.image_folder import ImageFolder
from finetune.space import Config
from finetune.workers import Epoch

NUM_EPOCHS = 50  # of the shipped surrogates; the schedules end there


def make_model(name: str, num_classes: int, drop: float, side: int) -> nn.Module:
    """Make a model with a new head and pretrained weights."""
    place = os.environ.get("FINETUNE_WEIGHTS", "")
    settings: dict[str, Any] = {"num_classes": num_classes, "drop_rate": drop}
    if place and place != "random":
        files = [Path(place) / f"{name}{kind}" for kind in (".pth", ".safetensors")]
        found = next((file for file in files if file.exists()), None)
        if found is None:
            raise ValueError(f"FINETUNE_WEIGHTS: no weights of {name} in {place}")
        settings["pretrained_cfg_overlay"] = {"file": str(found)}
    try:
        return timm.create_model(
            name, pretrained=place != "random", img_size=side, **settings
        )
    except TypeError:  # a convolutional model: any size will do
        return timm.create_model(name, pretrained=place != "random", **settings)


def freeze(model: nn.Module, config: Config) -> None:
    """Freeze the first share of the weights' tensors; the head always learns."""
    share = config.get("pct_to_freeze", 0.0)
    share = 1.0 if config.get("linear_probing") else share
    parameters = list(model.parameters())
    for parameter in parameters[: int(share * len(parameters))]:
        parameter.requires_grad = False
    for parameter in model.get_classifier().parameters():  # type: ignore[operator]
        parameter.requires_grad = True


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """The optimiser of a configuration."""
    weights = [p for p in model.parameters() if p.requires_grad]
    lr, decay = config["lr"], config.get("weight_decay", 0.0)
    if config["opt"] in ("adam", "adamw"):
        betas = config.get("opt_betas", "None")
        pair = (0.9, 0.999)
        if betas != "None":
            low, high = betas.strip("[]").split(",")
            pair = float(low), float(high)
        kind = torch.optim.AdamW if config["opt"] == "adamw" else torch.optim.Adam
        return kind(weights, lr=lr, betas=pair, weight_decay=decay)
    momentum = config.get("momentum", 0.9) if config["opt"] == "momentum" else 0.0
    return torch.optim.SGD(weights, lr=lr, momentum=momentum, weight_decay=decay)


def learning_rate(config: Config, epoch: int, stale: int = 0) -> float:
    """Learning rate of an epoch, counted from 1.

    Args:
        config: With ``sched``, ``warmup_epochs``, ``warmup_lr`` and what they need.
        epoch: Counted from 1.
        stale: Epochs since the best score, for ``plateau``.
    """
    base, warm = config["lr"], int(config.get("warmup_epochs", 0))
    if epoch <= warm:
        low = config.get("warmup_lr", 0.0)
        return low + (base - low) * epoch / (warm + 1)
    if config["sched"] == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / NUM_EPOCHS))
    if config["sched"] == "plateau":
        return base * 0.1 ** (stale // int(config.get("patience_epochs", 5)))
    steps = (epoch - 1) // int(config.get("decay_epochs", 20))
    return base * config.get("decay_rate", 0.1) ** steps


def _tensor(images: np.ndarray, model: nn.Module, device: Any) -> torch.Tensor:
    """Pictures as the model was trained on them, ``[b, 3, side, side]``."""
    given = model.pretrained_cfg  # type: ignore[attr-defined]
    mean, std = np.array(given["mean"]), np.array(given["std"])  # type: ignore[index]
    scaled = ((images - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(scaled)).to(device)


def train_epoch(epoch: Epoch, folder: ImageFolder, side: int) -> float:
    """Train one epoch from the run's checkpoint; returns the held-out accuracy.

    Args:
        epoch: Of `finetune.run`.
        folder: The pictures.
        side: Of the pictures, in pixels.
    """
    config = epoch.config
    torch.manual_seed(epoch.seed + epoch.number)
    random = np.random.default_rng([epoch.seed, epoch.number])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = make_model(
        config["model"], len(folder.classes), config.get("drop", 0.0), side
    ).to(device)
    freeze(model, config)
    optimizer = make_optimizer(model, config)
    best, stale = 0.0, 0
    if epoch.previous is not None:
        state = torch.load(epoch.previous / "state.pth", device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        best, stale = state["best"], state["stale"]
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, epoch.number, stale)
    loss_of = nn.CrossEntropyLoss(label_smoothing=config.get("smoothing", 0.0))
    model.train()
    size = int(config["batch_size"])
    for images, labels in folder.batches(side, size, seed=int(random.integers(2**31))):
        if len(labels) < 2 and len(folder.train) > 1:
            continue  # batch normalisation needs two
        x, y = _tensor(images, model, device), torch.from_numpy(labels).to(device)
        share, other = _mixup(config, len(labels), random)
        x = share * x + (1 - share) * x[other]
        logits = model(x)
        loss = share * loss_of(logits, y) + (1 - share) * loss_of(logits, y[other])
        optimizer.zero_grad()
        loss.backward()
        if config.get("clip_grad"):
            nn.utils.clip_grad_norm_(model.parameters(), config["clip_grad"])
        optimizer.step()
    accuracy = _accuracy(model, folder, side, size, device)
    best, stale = (accuracy, 0) if accuracy > best else (best, stale + 1)
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**content, "best": best, "stale": stale}, epoch.folder / "state.pth")
    return accuracy


def _mixup(config: Config, num: int, random: np.random.Generator):
    """Share of each picture itself, and the rows that are mixed in."""
    alpha = config.get("mixup", 0.0)
    if alpha == 0 or random.uniform() >= config.get("mixup_prob", 0.0):
        return 1.0, np.arange(num)
    return float(random.beta(alpha, alpha)), random.permutation(num)


@torch.no_grad()
def _accuracy(model, folder: ImageFolder, side: int, size: int, device) -> float:
    model.eval()
    right = 0
    for images, labels in folder.batches(side, size):
        found = model(_tensor(images, model, device)).argmax(1).cpu().numpy()
        right += int((found == labels).sum())
    return right / len(folder.valid_labels)
