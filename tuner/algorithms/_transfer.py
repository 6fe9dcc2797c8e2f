"""Transfer from earlier studies to a new one: configurations to begin with, and a prior for the model. Pure.

A model is fitted to each earlier study. The prior mean of the new one is a weighted sum of them (stacking with a ridge;
cf. Feurer, Letham & Bakshy 2018, arXiv:1802.02219), and it is used when the new study's own trials are more probable
with it than without. The configurations to begin with are a portfolio, good together over all earlier studies (greedy
as in Feurer et al. 2022, arXiv:2007.04074, section 3.1); what is drawn at random after them is drawn where the models
expect more than elsewhere. On new data another architecture may be best than on all earlier ones: so the best known
configuration of each comes before the portfolio, and guided draws keep to the architecture and branch that were drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial
from scipy.optimize import nnls

from tuner.algorithms._encoding import Encoding
from tuner.algorithms._gaussian_process import GaussianProcess, KernelHyperparameters, fit
from tuner.algorithms._observations import Observations, evidence_of, most_telling, observe
from tuner.common.metrics import Mode
from tuner.spec.space import Scalar

MODELLED = 80
"""Observations of an earlier study that its model rests on."""
LEAST_TRIALS = 8
"""Fewest informative trials of a study for which a model is made."""
FIRM = 10.0
"""Weight, in observations, of the penalty that holds the weights of earlier studies at 0: other data may differ."""
PORTFOLIO = 5
"""Configurations of earlier studies that are tried first."""
ARCHITECTURE = "architecture"
"""The parameter that tells kinds apart, be there parameters of one of them alone or not."""
CANDIDATES_OF_EACH = 20
RANDOM_PORTFOLIOS = 100
WORTH = 0.8
"""Share of the regret of random configurations to which portfolios of other studies must come down. Those of unrelated
synthetic problems are at 0.77 to 1.07, LCBench tasks at 0.64 to 0.87: the former lose by a portfolio."""
GUIDED = 4
"""Number of random configurations of which a guided one is the best: hardly ever in the worst quarter, and anywhere
else. Mean regret on the five hardest LCBench tasks after a tenth and a quarter of the budget, and at the end, with 1:
0.366, 0.223 and 0.076; with 4: 0.322, 0.199 and 0.069 (benchmarks/LOG.md)."""


class EarlierModel:
    """The Gaussian process of one earlier study, standardised over a set of points common to all.

    It knows which configurations get ahead from level to level: that is more alike on other data than what is best.
    """

    def __init__(self, process: GaussianProcess, top: int, common: np.ndarray) -> None:
        self._process, self._top = process, top
        expected = np.stack([process.mean(common, level) for level in range(top + 1)])
        self._centres, self._spread = np.median(expected, axis=1), float(expected[-1].std()) or 1.0

    def __call__(self, points: np.ndarray, levels: np.ndarray | None = None) -> np.ndarray:
        """Return the standardised expectation at `points` and levels (int [n] or [1]; None: the highest), float [n]."""
        levels = np.minimum(np.array([self._top]) if levels is None else levels, self._top)
        found: np.ndarray = (self._process.mean(points, levels) - self._centres[levels]) / self._spread
        return found


def earlier_models(studies: Sequence[Sequence[FrozenTrial]], encoding: Encoding, *, mode: Mode) -> list[EarlierModel]:
    """Return a model of each study with enough trials; `encoding` has all their parameters."""
    fitted: list[tuple[GaussianProcess, int, np.ndarray]] = []
    for trials in studies:
        shown = [(trial, evidence_of(trial)) for trial in trials if trial.params]
        informative = [(trial, one) for trial, one in shown if one.is_informative]
        if len(informative) < LEAST_TRIALS:
            continue
        observations = observe([one for _, one in informative], mode=mode)
        points = encoding.points(np.array([encoding.row(trial.params) for trial, _ in informative]))
        kept = observations.taken(most_telling(observations, MODELLED))
        data = points[kept.owner], kept.level, kept.target, encoding.groups
        fitted.append((GaussianProcess(*data, fit(*data)), int(observations.level.max()), points))
    common = np.concatenate([points for _, _, points in fitted]) if fitted else np.empty(0)
    return [EarlierModel(process, top, common) for process, top, _ in fitted]


class TransferPrior:
    """A weighted sum of models of earlier studies, as the mean of a new one before its own residuals.

    Args:
        models: of the earlier studies; with none the prior is 0.
        points: float [n, coordinates]: where the new study was observed.
        levels: int [n]: at which level.
        targets: float [n]: what was seen there.
    """

    def __init__(
        self, models: Sequence[EarlierModel], points: np.ndarray, levels: np.ndarray, targets: np.ndarray
    ) -> None:
        self._models = models
        self._weights = np.zeros(len(models))
        self._intercept = 0.0
        if models:
            self._weights, self._intercept = _stacked(_at_levels(models, points, levels), targets)

    @property
    def used(self) -> int:
        """The number of studies with a weight above 0."""
        return int((self._weights > 0).sum())

    def __call__(self, points: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Return the prior mean at `points` and `levels` (int [n] or [1]), float [n]."""
        used = self._weights > 0  # the others would take as long, for nothing
        models = [model for model, is_used in zip(self._models, used, strict=True) if is_used]
        found: np.ndarray = _at_levels(models, points, levels) @ self._weights[used] + self._intercept
        return found


def _at_levels(models: Sequence[EarlierModel], points: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the expectation of each model at `points` and `levels` (int [n] or [1]), float [n, models]."""
    found = np.empty((len(points), len(models)))
    for column, model in enumerate(models):
        found[:, column] = model(points, levels)
    return found


def _stacked(expected: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float]:
    """Return weights (none negative) and intercept for the columns that fit the targets best, shrunk to 0."""
    number = expected.shape[1]
    centre, level = expected.mean(axis=0), float(targets.mean())
    firmness = np.sqrt(FIRM) * np.eye(number)
    weights, _ = nnls(
        np.concatenate([expected - centre, firmness]), np.concatenate([targets - level, np.zeros(number)])
    )
    return weights, level - float(centre @ weights)


def fitted_with_prior(
    models: Sequence[EarlierModel], points: np.ndarray, observations: Observations, groups: np.ndarray
) -> tuple[KernelHyperparameters, TransferPrior | None]:
    """Return the hyperparameters of a process for these observations, and its prior if it is better with it.

    The prior has been fitted to the same observations, so it must gain more than its number of weights (Akaike 1974).
    """
    plain = fit(points, observations.level, observations.target, groups)
    if not models:
        return plain, None
    prior = TransferPrior(models, points, observations.level, observations.target)
    residuals = observations.target - prior(points, observations.level)
    informed = fit(points, observations.level, residuals, groups)
    return (informed, prior) if prior.used and informed.loss + prior.used < plain.loss else (plain, None)


@dataclass(frozen=True)
class Judged:
    """Trials of earlier studies, each with parameters of its own, none that failed; no trials: too little in common."""

    trials: Sequence[FrozenTrial]
    expected: np.ndarray
    """What the model of each study expects of them, float [models, trials]."""

    @property
    def regret(self) -> np.ndarray:
        """The regret of each trial in each study, float [models, trials]: 0 is the best, 1 the middle or worse."""
        return _regret(self.expected, self.expected.max(axis=1))


def judged(
    studies: Sequence[Sequence[FrozenTrial]], encoding: Encoding, number: int = PORTFOLIO, *, mode: Mode
) -> Judged:
    """Return the trials of earlier studies as their models see them; `encoding` has all their parameters.

    None of them where portfolios of `number` configurations show that the studies have too little in common: what is
    tried first is trained furthest, and leads a search astray when it is wrong.
    """
    models = earlier_models(studies, encoding, mode=mode)
    worked = [trial for one in studies for trial in one if trial.params and not evidence_of(trial).has_failed]
    # where a space is narrower than those of the studies, several of their trials are the same here
    trials = list({frozenset(trial.params.items()): trial for trial in worked}.values())
    if not models or not trials:
        return Judged([], np.empty((0, 0)))
    rows = np.array([encoding.row(one.params) for one in trials])
    if not are_alike(models, encoding, rows, number):
        return Judged([], np.empty((0, 0)))
    return Judged(trials, _expected(models, encoding.points(rows)))


def portfolio(known: Judged, number: int = PORTFOLIO) -> list[FrozenTrial]:
    """Return at most `number` trials of earlier studies, the most useful first.

    Each is the one that lowers most, in the mean over the studies, the regret that is expected of the best so far.
    """
    if not known.trials:
        return []
    return [known.trials[place] for place in _greedy(known.regret, known.expected, number)]


def best_of_each(known: Judged, kind: Callable[[FrozenTrial], Scalar]) -> list[FrozenTrial]:
    """Return the trial of each kind with the least regret that is expected over the studies, the best one first.

    `kind` returns the architecture of a trial. A portfolio lacks those that are behind on all earlier data, and one of
    them may be best on new data.
    """
    if not known.trials:
        return []
    found: dict[Scalar, FrozenTrial] = {}
    # by what is expected where regrets are alike, as of all that are behind in each study
    for place in np.lexsort((-known.expected.mean(axis=0), known.regret.mean(axis=0))):
        found.setdefault(kind(known.trials[place]), known.trials[place])
    return list(found.values())


def are_alike(models: Sequence[EarlierModel], encoding: Encoding, rows: np.ndarray, number: int = PORTFOLIO) -> bool:
    """Return whether a portfolio of all other studies serves a study better, on average, than random configurations.

    Args:
        models: of the earlier studies; a single one is believed.
        encoding: has all their parameters.
        rows: float [n, parameters]: what they tried.
        number: of configurations in a portfolio.
    """
    if len(models) < 2:
        return True
    generator = np.random.default_rng(0)
    random_rows = generator.random((RANDOM_PORTFOLIOS * number, len(encoding.names)))
    expected, at_random = (_expected(models, encoding.points(some)) for some in (rows, random_rows))
    best = np.maximum(expected.max(axis=1), at_random.max(axis=1))
    regret = _regret(expected, best)
    found = []
    for left_out in range(len(models)):
        others = np.arange(len(models)) != left_out
        found.append(regret[left_out, _greedy(regret[others], expected[others], number)].min())
    random = _regret(at_random, best).reshape(len(models), RANDOM_PORTFOLIOS, number).min(axis=2)
    return float(np.mean(found)) < WORTH * float(random.mean())


def guided(models: Sequence[EarlierModel], encoding: Encoding, generator: np.random.Generator) -> np.ndarray:
    """Return a random row from where earlier studies, on average, expect more than elsewhere, float [parameters].

    Its architecture and its branch are drawn without regard to them: another one may be best on new data.
    """
    rows = generator.random((GUIDED, len(encoding.names)))
    kept = [*encoding.branching, *(place for place, name in enumerate(encoding.names) if name == ARCHITECTURE)]
    rows[:, kept] = rows[0, kept]
    found: np.ndarray = rows[int(np.argmax(_expected(models, encoding.points(rows)).mean(axis=0)))]
    return found


def _expected(models: Sequence[EarlierModel], points: np.ndarray) -> np.ndarray:
    """Return the expectation of each model at the highest level, float [models, n]."""
    return np.stack([model(points) for model in models])


def _regret(expected: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return the regret, float [models, configurations]: 0 is the best of a study, 1 its middle or worse."""
    found: np.ndarray = np.minimum((best[:, None] - expected) / np.maximum(best[:, None], 1e-9), 1.0)
    return found


def _greedy(regret: np.ndarray, expected: np.ndarray, number: int) -> list[int]:
    """Return the indices of configurations that together have the least mean regret, chosen one after the other."""
    likely = np.unique(np.argsort(-expected, axis=1, kind="stable")[:, :CANDIDATES_OF_EACH])
    chosen: list[int] = []
    left = np.full(len(regret), np.inf)
    for _ in range(min(number, len(likely))):
        means = np.minimum(regret[:, likely], left[:, None]).mean(axis=0)
        means[np.isin(likely, chosen)] = np.inf
        # where the chosen ones leave nothing to gain, as with one study after the first, the next best in the mean
        by_itself = regret[:, likely].mean(axis=0)
        less_expected = -expected[:, likely].mean(axis=0)
        chosen.append(int(likely[np.lexsort((less_expected, by_itself, means.round(9)))[0]]))
        left = np.minimum(left, regret[:, chosen[-1]])
    return chosen
