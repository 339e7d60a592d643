"""Meta-features of a user's own dataset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finetune.assemble import META_NAMES
from jaxrl_runs.values import POSITIVE


def image_meta_features(
    num_train: int, num_classes: int, resolution: int, num_channels: int = 3
) -> np.ndarray:
    """Return the four meta-features of Quick-Tune, float32 ``[4]``.

    Args:
        num_train: Training images.
        num_classes: Classes.
        resolution: Side of an image in pixels.
        num_channels: 1 or 3; 4 with transparency.

    Raises:
        ValueError: If a number is not positive, or they cannot be these in this order.
    """
    values = (num_train, num_classes, resolution, num_channels)
    for name, value in zip(META_NAMES, values, strict=True):
        POSITIVE.check(name, value)
    order = "; the order is num_train, num_classes, resolution, num_channels"
    if num_classes > num_train:
        raise ValueError(
            "num_train must be at least num_classes, an image of each, got "
            f"{num_train} and {num_classes}{order}"
        )
    if num_channels > 4:
        raise ValueError(f"num_channels must be at most 4, got {num_channels}{order}")
    return np.asarray(values, np.float32)


def extract_image_meta_features(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute them from arrays, float32 ``[4]``.

    Args:
        images: ``[n, side, side]`` or ``[n, side, side, channels]``.
        labels: One class per image, ``[n]``.

    Raises:
        ValueError: On other shapes.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim not in (3, 4):
        raise ValueError(
            f"images must be [n, side, side] or [n, side, side, channels], got shape "
            f"{images.shape}"
        )
    if labels.shape != (len(images),):
        raise ValueError(f"labels must have shape {(len(images),)}, got {labels.shape}")
    channels = images.shape[3] if images.ndim == 4 else 1
    return image_meta_features(
        len(images), len(np.unique(labels)), max(images.shape[1:3]), channels
    )


def text_meta_features(
    questions: Sequence[str],
    answers: Sequence[str],
    zero_shot_loss: float,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Describe a question-answer dataset for finetuning a language model.

    Args:
        questions: Prompts; tokens are split at white space.
        answers: One per question.
        zero_shot_loss: Loss of the base model before finetuning.

    Returns:
        The meta-features, float32 ``[8]``, and their names.
    """
    if len(questions) == 0 or len(questions) != len(answers):
        raise ValueError(
            f"answers must be one per question ({len(questions)}), got {len(answers)}"
        )
    if not np.isfinite(zero_shot_loss):
        raise ValueError(f"zero_shot_loss must be finite, got {zero_shot_loss!r}")
    question_tokens = [len(text.split()) for text in questions]
    answer_tokens = [len(text.split()) for text in answers]
    tokens = [token for text in (*questions, *answers) for token in text.split()]
    vocabulary = len(set(tokens))
    found = {
        "num_train": len(questions),
        "question_tokens_mean": np.mean(question_tokens),
        "question_tokens_p95": np.percentile(question_tokens, 95),
        "answer_tokens_mean": np.mean(answer_tokens),
        "answer_tokens_p95": np.percentile(answer_tokens, 95),
        "vocabulary_size": vocabulary,
        "type_token_ratio": vocabulary / max(len(tokens), 1),
        "zero_shot_loss": zero_shot_loss,
    }
    return np.asarray(list(found.values()), np.float32), tuple(found)
