"""Our Gaussian-process sampler, for any Optuna study (not Optuna's `GPSampler`, which needs torch).

It learns from every trial at every level of epochs that it reached (see `_observations`), so a trial that was stopped
or waits at a rung tells what it showed there, and no more. One Gaussian process spans hyperparameters and levels; how
much a level says about the next is fitted. It proposes what is expected to improve most on the best at the highest
level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tuner.algorithms._encoding import Encoding
from tuner.algorithms._gaussian_process import CostModel, GaussianProcess, log_expected_improvement
from tuner.algorithms._observations import Observations, evidence_of, mode_of, most_telling, observe, scalarised
from tuner.algorithms._transfer import EarlierModel, are_alike, earlier_models, fitted_with_prior, guided
from tuner.algorithms.tpe import CUT, EPOCH_SECONDS, IndependentRandomSampler, space_of
from tuner.common.metrics import Mode
from tuner.common.seeds import derive_seed

RANDOM_TRIALS = 8
"""Trials drawn at random before the model is asked."""
RANDOM_TRIALS_WITH_RUNGS = 27
"""As many when a scheduler holds trials: with fewer, the model knows little but what is good after the first epochs,
and fills the first rung with it. Mean regret of 8 and of 27 after a quarter of the budget on the four hardest LCBench
tasks 0.349 and 0.275; at the end on the synthetic problems 0.106 and 0.050 (benchmarks/LOG.md)."""
RANDOM_TIME = 0.5
"""Share of the time budget after which `RANDOM_TRIALS` are enough: most searches of a few minutes end before there are
27. Mean regret of searches that begin with the prior, on twelve tables of real fine-tuning, after 5 and 8 full
trainings, two at a time: 0.066 and 0.044; without this rule 0.076 and 0.057 (benchmarks/LOG.md)."""
RANDOM_SHARE = 0.3
"""Share of random trials among the later ones. What looks good after an epoch can be a trap, and a rung promotes what
looks good: with 0.1, one search in nine was caught in it (LCBench task 167181)."""
LEAST_INFORMATIVE = 4
FITTED, MODELLED = 80, 140
"""Observations that the kernel is fitted to, and that predictions rest on."""
CANDIDATES = 1000
NEAR_BEST, AROUND_EACH = 5, 40
REFINEMENTS = ((4, 60, 0.08), (4, 60, 0.03))
"""Rounds of candidates around the most promising ones: how many, candidates around each, standard deviation."""
SAME, REPEATED = 0.02, 1e6
"""Closer to one that was tried than this, a candidate is taken only if all are: the model believes in noise, and would
ask the same again. What is subtracted from its promise keeps the order among such."""
RESAMPLED = 0.08
"""Share of the parameters of a neighbour that are drawn anew: a step cannot lead from choice to choice."""

_KNOWN = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
"""A FAIL trial is a proposal that had been tried before, and tells nothing."""


class GaussianProcessSampler(IndependentRandomSampler):
    """The sampler. A suggestion follows from seed and study, so a resumed search makes the same.

    Args:
        seed: of all draws.
        trials: how many are planned, if that is known: at most a third of them are drawn at random to begin with.
        earlier: the trials of earlier studies, in terms of this one's space.
        per_second: whether to expect improvement per second; then suggestions follow from measured times too.
        share_spent: returns the share of the time budget that is over, by which fewer trials are drawn at random.
    """

    def __init__(
        self,
        seed: int,
        trials: int | None = None,
        earlier: Sequence[Sequence[FrozenTrial]] = (),
        per_second: bool = False,
        share_spent: Callable[[], float] = lambda: 0.0,
    ) -> None:
        super().__init__(seed)
        self._earlier, self._share_spent = earlier, share_spent
        most = RANDOM_TRIALS_WITH_RUNGS if trials is None else trials // 3
        self._random_trials_with_rungs = max(RANDOM_TRIALS, min(RANDOM_TRIALS_WITH_RUNGS, most))
        self._per_second = per_second
        self._earlier_space = space_of([trial for trials in earlier for trial in trials], {})
        self._models: list[EarlierModel] | None = None
        self._are_alike = False
        self._encoding = Encoding({})
        self._rows: dict[int, np.ndarray] = {}
        self._encoded: dict[int, dict[str, Any]] = {}
        self._earlier_rows: list[np.ndarray] = []

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every parameter that a trial has had; see optuna.samplers.BaseSampler."""
        return space_of(study.get_trials(deepcopy=False), self._earlier_space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values for all of `search_space`; Optuna ignores those of branches that are not taken."""
        others = study.get_trials(deepcopy=False, states=_KNOWN)
        trials = [one for one in others if one.number != trial.number and one.params]
        shown = {one.number: evidence_of(one) for one in trials}
        informative = {number: one for number, one in shown.items() if one.is_informative}
        generator = np.random.default_rng(derive_seed(self._seed, "suggestion", trial.number))
        has_rungs = any(shown[one.number].was_held and CUT not in one.user_attrs for one in trials)
        takes_more = has_rungs and self._share_spent() < RANDOM_TIME
        at_random = self._random_trials_with_rungs if takes_more else RANDOM_TRIALS
        if not search_space:
            return {}
        mode = mode_of(study)
        if len(trials) < at_random or len(informative) < LEAST_INFORMATIVE:
            return self._first(trials, search_space, generator, mode=mode)
        if generator.random() < RANDOM_SHARE:
            return {}
        encoding = self._encode(trials, search_space)
        observations = observe(list(informative.values()), mode=mode)
        observed = [one for one in trials if one.number in informative]
        observations = scalarised(study, observed, observations, generator)
        running = np.array([self._rows[number] for number, one in shown.items() if one.is_unknown])
        rows = np.array([self._rows[number] for number in informative])
        models = self._earlier_models(encoding, mode=mode)
        cost = self._cost(encoding, trials)
        return encoding.parameters(_suggest(encoding, rows, observations, running, generator, models, cost))

    def _first(
        self,
        trials: Sequence[FrozenTrial],
        space: dict[str, BaseDistribution],
        generator: np.random.Generator,
        *,
        mode: Mode,
    ) -> dict[str, Any]:
        """Return a trial from before the model, where earlier studies are alike guided by them, else none."""
        if not self._earlier:
            return {}
        encoding = self._encode(trials, space)
        models = self._earlier_models(encoding, mode=mode)
        if not models or not self._are_alike:
            return {}
        return encoding.parameters(guided(models, encoding, generator))

    def _cost(self, encoding: Encoding, trials: Sequence[FrozenTrial]) -> CostModel | None:
        """Return the model of epoch times, if times are to be weighed and enough of them are known."""
        timed = [one for one in trials if EPOCH_SECONDS in one.user_attrs]
        if not self._per_second or len(timed) < LEAST_INFORMATIVE:
            return None
        points = encoding.points(np.array([self._rows[one.number] for one in timed]))
        return CostModel(points, np.array([one.user_attrs[EPOCH_SECONDS] for one in timed]), encoding.groups)

    def _encode(self, trials: Sequence[FrozenTrial], space: dict[str, BaseDistribution]) -> Encoding:
        """Return the encoding of the space as it is now, with the rows of all trials in `_rows`."""
        if self._encoding.distributions != space:
            self._encoding, self._rows, self._encoded, self._models = Encoding(space), {}, {}, None
            self._earlier_rows = [self._encoding.row(one.params) for earlier in self._earlier for one in earlier]
        for trial in trials:
            if self._encoded.get(trial.number) != trial.params:  # new, still being asked, or of another study
                self._rows[trial.number] = self._encoding.row(trial.params)
                self._encoded[trial.number] = dict(trial.params)
        rows = [self._rows[trial.number] for trial in trials]
        self._encoding.learn(np.array([*self._earlier_rows, *rows]))
        return self._encoding

    def _earlier_models(self, encoding: Encoding, *, mode: Mode) -> list[EarlierModel]:
        if self._models is None:
            self._models = earlier_models(self._earlier, encoding, mode=mode)
            self._are_alike = are_alike(self._models, encoding, np.array(self._earlier_rows))
        return self._models


def _suggest(
    encoding: Encoding,
    rows: np.ndarray,
    observations: Observations,
    running: np.ndarray,
    generator: np.random.Generator,
    models: Sequence[EarlierModel] = (),
    cost: CostModel | None = None,
) -> np.ndarray:
    """Return the most promising row, float [parameters]."""
    points = encoding.points(rows)
    fitted = observations.taken(most_telling(observations, FITTED))
    hyperparameters, prior = fitted_with_prior(models, points[fitted.owner], fitted, encoding.groups)
    known = observations.taken(most_telling(observations, MODELLED))
    process = GaussianProcess(points[known.owner], known.level, known.target, encoding.groups, hyperparameters, prior)
    top = int(observations.level.max())
    expected = process.mean(points, top)
    best = float(expected.max())
    if len(running):
        process = process.believing(encoding.points(running), top)
        best = max(best, float(process.mean(encoding.points(running), top).max()))  # what runs may turn out best

    tried = np.concatenate([points, encoding.points(running)]) if len(running) else points

    def promise(candidates: np.ndarray) -> np.ndarray:
        places = encoding.points(candidates)
        promises = log_expected_improvement(*process.predict(places, top), best)
        if cost is not None:
            promises = promises - cost.log_seconds(places)
        return np.where(_nearest(places, tried) < SAME, promises - REPEATED, promises)

    leaders = np.nan_to_num(rows[np.argsort(-expected, kind="stable")[:NEAR_BEST]], nan=0.5)
    anywhere = generator.random((CANDIDATES, len(encoding.names)))
    near_best = [_neighbours(row, AROUND_EACH, 0.1, generator) for row in leaders]
    candidates = np.concatenate([anywhere, *near_best])
    promises = promise(candidates)
    for starts, number, deviation in REFINEMENTS:
        leaders = candidates[np.argsort(-promises, kind="stable")[:starts]]
        more = np.concatenate([_neighbours(row, number, deviation, generator) for row in leaders])
        candidates, promises = np.concatenate([candidates, more]), np.concatenate([promises, promise(more)])
    found: np.ndarray = candidates[int(np.argmax(promises))]
    return found


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the distance of each point to the nearest of `others`, float [n]."""
    squares = (points**2).sum(1)[:, None] + (others**2).sum(1)[None, :] - 2 * points @ others.T
    found: np.ndarray = np.sqrt(np.maximum(squares.min(axis=1), 0.0))
    return found


def _neighbours(row: np.ndarray, number: int, deviation: float, generator: np.random.Generator) -> np.ndarray:
    """Return random rows near `row`, float [number, parameters]."""
    shape = (number, len(row))
    moved = np.clip(row + generator.normal(0, deviation, shape), 0, 1)
    return np.where(generator.random(shape) < RESAMPLED, generator.random(shape), moved)
