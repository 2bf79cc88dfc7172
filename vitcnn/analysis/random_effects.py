"""Intervals over seeds and test images at once.

A study's numbers are means over seeds (subset, initialisation, order) and over the images of one finite test set. What
is wanted is their value for new seeds and new test images, so both count. With S seeds, N images and the influence ψ_si
of image i on seed s's value, two-way random effects (Cornfield & Tukey 1956) give

    variance = seeds' variance / S + images' own variance / N.

The first part is known with S − 1 degrees of freedom, the second with N − 1: the critical value is the mean of both
Student's t, weighted by the parts (Cochran 1964), and never less than makes the interval that of the seeds alone. Where
the images add nothing this is Student's paired t.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit
from threadpoolctl import ThreadpoolController


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error, the share of its variance that the finite test set is behind, its seeds and test
    images."""

    value: float
    se: float
    image_share: float
    seeds: int
    level: float = 0.95
    images: int | None = None  # None: they are known exactly

    @property
    def half(self) -> float:
        """Half the two-sided interval; nan where nothing varies."""
        return critical(self.level, self.seeds, self.image_share, self.images) * self.se if self.se else np.nan

    @property
    def low(self) -> float:
        return self.value - self.half

    @property
    def high(self) -> float:
        return self.value + self.half

    @property
    def p(self) -> float:
        """Two-sided, of "it is 0": the level at which the interval just reaches 0. nan where nothing varies."""
        if not self.se:
            return np.nan
        ratio = abs(self.value) / self.se

        def short(log_p: float) -> float:
            return critical(1 - np.exp(log_p), self.seeds, self.image_share, self.images) - ratio

        if short(-1e-12) > 0:
            return 1.0
        return float(np.exp(brentq(short, np.log(1e-15), -1e-12))) if short(np.log(1e-15)) > 0 else 1e-15


@lru_cache(maxsize=1000)
def _quantile(level: float, count: int | None) -> float:
    """Of Student's t with one degree of freedom less than `count`; None: of the normal distribution."""
    share = (1 + level) / 2
    return float(stdtrit(count - 1, share) if count else ndtri(share))


def critical(
    level: float, seeds: int, image_share: float | np.ndarray, images: int | None = None
) -> float | np.ndarray:
    """How many standard errors half an interval is: the mean of Student's t with S − 1 and with N − 1 degrees of
    freedom (None: of the normal quantile), weighted by the seeds' and the images' shares of the variance; at least the
    first times √(seeds' share)."""
    of_seeds, of_images = _quantile(level, seeds), _quantile(level, images)
    return np.maximum((1 - image_share) * of_seeds + image_share * of_images, of_seeds * np.sqrt(1 - image_share))


@dataclass(frozen=True)
class Sample:
    """K numbers of each of S seeds, ready for any weighted sum of them.

    `mean` (K,); `seed_cov` (K, K): covariance of the K over seeds; `image_cov` (K, K): the test images' own,
    already divided by their number; `seeds`, `images`: how many.
    """

    mean: np.ndarray
    seed_cov: np.ndarray
    image_cov: np.ndarray
    seeds: int
    images: int | None = None

    @classmethod
    def of(cls, values: np.ndarray, influence: np.ndarray | None = None) -> "Sample":
        """`values` (S, K); `influence` (S, K, N): what each test image adds to the value beyond the mean; None: no
        test image has a part in it. Raises ValueError below two seeds or test images, and on values that are not
        finite."""
        values = np.asarray(values, float)
        S, K = values.shape
        if S < 2:
            raise ValueError(f"{S} seeds; an interval takes two")
        if not np.isfinite(values).all():
            raise ValueError("values that are not finite")
        seed_cov = np.atleast_2d(np.cov(values, rowvar=False))
        if influence is None:
            return cls(values.mean(0), seed_cov, np.zeros((K, K)), S)
        if (N := np.shape(influence)[2]) < 2:
            raise ValueError(f"{N} test image; an interval over images takes two")
        return cls(values.mean(0), seed_cov, _images(np.asarray(influence)), S, N)

    def part(self, which: slice) -> "Sample":
        """Of some of the numbers."""
        seeds, images = self.seed_cov[which, which], self.image_cov[which, which]
        return replace(self, mean=self.mean[which], seed_cov=seeds, image_cov=images)

    def estimate(self, weights: Sequence[float], level: float = 0.95) -> Estimate:
        """Of Σ weights · numbers."""
        value, se, share = (float(a[0]) for a in self.along(np.asarray(weights, float)[None]))
        return Estimate(value, se, share, self.seeds, level, self.images)

    def along(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(P, K) weights -> (values, standard errors, the images' shares of the variance), (P,) each."""
        seeds = np.maximum(0.0, np.einsum("pk,kl,pl->p", weights, self.seed_cov, weights)) / self.seeds
        images = np.maximum(0.0, np.einsum("pk,kl,pl->p", weights, self.image_cov, weights))
        variance = seeds + images
        there = variance > 1e-18  # rounding
        share = np.divide(images, variance, out=np.zeros_like(variance), where=there)
        return weights @ self.mean, np.sqrt(np.where(there, variance, 0.0)), share


@cache  # to look for the libraries takes as long as to multiply
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _images(influence: np.ndarray) -> np.ndarray:
    """(K, K): the covariance of the images' effects (of all seeds alike), divided by their number; unbiased, so a
    diagonal element may come out below 0."""
    S, K, N = influence.shape
    centred = influence - influence.mean(2, keepdims=True, dtype=np.float64).astype(influence.dtype)
    by_image = centred.mean(0, dtype=np.float64)  # (K, N)
    total = np.zeros((K, K))
    with _blas().limit(limits=1, user_api="blas"):  # small products: waiting for threads costs more
        for one in centred:  # seed by seed: hundreds of them fit
            rest = one - by_image
            total += rest @ rest.T
    noise = total / ((S - 1) * (N - 1))
    return (by_image @ by_image.T / (N - 1) - noise / S) / N


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm 1979): a family-wise error of α where those up to α count. nan stays, uncounted."""
    order = [i for i in np.argsort(p) if np.isfinite(p[i])]
    out, worst = [float("nan")] * len(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p[i]))
        out[i] = worst
    return out
