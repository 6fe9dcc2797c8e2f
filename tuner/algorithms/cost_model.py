"""What the epochs of a configuration take, predicted from those of others. Pure.

For expected improvement per second (Snoek, Larochelle & Adams 2012, arXiv:1206.2944, section 3.2). A Gaussian process
on logarithms, with the prior's hyperparameters: seconds are smooth and hardly noisy, so there is no need to fit them.
"""

from __future__ import annotations

import numpy as np

from tuner.algorithms.gaussian_process import GaussianProcess, prior

MODELLED = 140


class CostModel:
    """The process.

    Args:
        points: float [n, coordinates]: where epochs were timed.
        seconds: float [n], above 0: what an epoch took there.
        groups: int [coordinates]: as of `GaussianProcess`.
    """

    def __init__(self, points: np.ndarray, seconds: np.ndarray, groups: np.ndarray) -> None:
        kept = np.linspace(0, len(points) - 1, min(MODELLED, len(points))).round().astype(int)
        logarithms = np.log(np.maximum(seconds[kept], 1e-6))
        self._centre, self._spread = float(logarithms.mean()), float(logarithms.std()) or 1.0
        targets = (logarithms - self._centre) / self._spread
        levels = np.zeros(len(kept), int)
        self._process = GaussianProcess(points[kept], levels, targets, groups, prior(int(groups.max()) + 1))

    def log_seconds(self, points: np.ndarray) -> np.ndarray:
        """Float [m]: the logarithm of the seconds that an epoch is expected to take at `points`."""
        return self._process.mean(points, 0) * self._spread + self._centre
