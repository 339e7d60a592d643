"""Texts to what members read: weighted words, their projection, hashed tokens."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

NUM_BUCKETS = 8192  # of hashed words and pairs of words; 0 is none
MAX_TOKENS = 160
_MAX_WORDS = 30_000
_NUM_DIRECTIONS = 100
_WORD = re.compile(r"\w+")


def hashed_tokens(texts: Sequence[str]) -> np.ndarray:
    """Bucket of each word, then of each pair of neighbours, int32 ``[n, t]``.

    The first `MAX_TOKENS` of a text; padded with 0. Hashes are CRC-32, the same in
    every process.
    """
    rows = []
    for text in texts:
        words = _WORD.findall(text.lower())[: MAX_TOKENS // 2]
        pairs = [f"{a} {b}" for a, b in itertools.pairwise(words)]
        rows.append(
            [1 + zlib.crc32(w.encode()) % (NUM_BUCKETS - 1) for w in words + pairs]
        )
    length = max(1, *map(len, rows)) if rows else 1
    found = np.zeros((len(rows), length), np.int32)
    for row, tokens in zip(found, rows, strict=True):
        row[: len(tokens)] = tokens
    return found


class TextView:
    """Weighs words by inverse frequency, as learned from training texts.

    Args:
        texts: The training texts.
        seed: Of the projection.

    Raises:
        ValueError: If no text holds a word.
    """

    def __init__(self, texts: Sequence[str], seed: int):
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectorizer = TfidfVectorizer(
            token_pattern=r"\w+",
            ngram_range=(1, 2),
            min_df=1 if len(texts) < 1000 else 2,
            max_features=_MAX_WORDS,
            sublinear_tf=True,
            dtype=np.float32,  # type: ignore[arg-type]
        )
        try:
            words = self._vectorizer.fit_transform(texts)
        except ValueError:
            raise ValueError("x: no text holds a word") from None
        size = min(_NUM_DIRECTIONS, words.shape[1] - 1, len(texts) - 1)
        self._svd = None
        if size >= 1:
            self._svd = TruncatedSVD(size, random_state=seed).fit(words)
        self._scale = max(float(self._project(words).std()), 1e-9)
        self._length = hashed_tokens(texts).shape[1]

    def _project(self, words) -> np.ndarray:
        if self._svd is None:
            return words.toarray()
        return self._svd.transform(words)

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, Any, np.ndarray]:
        """Read texts.

        Returns:
            Projections float32 ``[n, d]``, weighted words (sparse) ``[n, words]``, and
            hashed tokens int32 ``[n, t]``, with ``t`` of the training texts.
        """
        words = self._vectorizer.transform(texts)
        tokens = np.zeros((len(texts), self._length), np.int32)
        found = hashed_tokens(texts)[:, : self._length]
        tokens[:, : found.shape[1]] = found
        dense = self._project(words) / self._scale
        return dense.astype(np.float32), words, tokens
