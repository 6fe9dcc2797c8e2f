"""Our Gaussian-process sampler, for any Optuna study with reported epochs (not Optuna's `GPSampler`, which needs torch)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from scipy.special import ndtri

from tuner.encoding import Encoding
from tuner.equal_epochs import ENDED_BY_ITSELF, FAILED, PAUSED
from tuner.gaussian_process import GaussianProcess, Hyperparameters, log_expected_improvement, prior
from tuner.seeds import derive_seed

RANDOM_TRIALS = 8
MODELLED = 140
CANDIDATES = 1000
REFIT_SHARE = 5


class GaussianProcessSampler(BaseSampler):
    def __init__(self, seed: int, random_trials: int = RANDOM_TRIALS, modelled=MODELLED, candidates=CANDIDATES, refit=REFIT_SHARE, explore=0.0, score="rank", local=True, lie_level=None) -> None:
        self.lie_level = lie_level
        self._seed = seed
        self._random_trials = random_trials
        self.modelled, self.candidates, self.refit, self.explore, self.score, self.local = modelled, candidates, refit, explore, score, local
        self._hyperparameters: Hyperparameters | None = None
        self._fitted_at = 0
        self._names: tuple[str, ...] = ()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        found: dict[str, BaseDistribution] = {}
        for other in study.get_trials(deepcopy=False):
            found.update(other.distributions)
        return found

    def sample_independent(self, study, trial, param_name, param_distribution):
        seed = derive_seed(self._seed, "suggestion", trial.number, param_name)
        return RandomSampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        trials = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number and t.params]
        known = [t for t in trials if t.intermediate_values or t.user_attrs.get(FAILED)]
        generator = np.random.default_rng(derive_seed(self._seed, "suggestion", trial.number))
        if len(trials) < self._random_trials or len(known) < 3 or generator.random() < self.explore:
            return {}
        maximise = study.direction == StudyDirection.MAXIMIZE
        encoding = Encoding([(t.params, t.distributions) for t in trials])
        number = len(encoding.names)
        owner, level, z, top = self._observations(known, maximise)
        rows = np.array([encoding.row(t.params) for t in known])
        points = encoding.points(rows)
        if self._hyperparameters is None or len(self._hyperparameters.log_scales) != number:
            self._hyperparameters, self._fitted_at = prior(number), 0
        fits = len(known) >= self._fitted_at * (1 + 1 / self.refit) or self._fitted_at == 0
        process = GaussianProcess(points[owner], level, z, encoding.groups, self._hyperparameters if not fits else prior(number), fits=fits)
        if fits:
            self._hyperparameters, self._fitted_at = process.hyperparameters, len(known)
        running = [t for t in trials if not t.state.is_finished() and not t.user_attrs.get(PAUSED) and not t.intermediate_values]
        if running:
            extra = encoding.points(np.array([encoding.row(t.params) for t in running]))
            levels2 = np.full(len(extra), self.lie_level if self.lie_level is not None else top)
            process = GaussianProcess(np.concatenate([points[owner], extra]), np.concatenate([level, levels2]), np.concatenate([z, process.mean(extra, levels2)]), encoding.groups, self._hyperparameters, fits=False)
        mean_top = process.mean(points, np.full(len(points), top))
        best = float(mean_top.max())
        draws = generator.random((self.candidates, number))
        top_rows = np.nan_to_num(rows[np.argsort(-mean_top)[:5]], nan=0.5)
        cand = np.concatenate([draws, *(self._near(row, generator, 40, 0.1) for row in top_rows)])
        cand, acq = self._evaluate(process, encoding, cand, best, top)
        for scale in (0.08, 0.03):
            starts = cand[np.argsort(-acq)[:4]]
            more = np.concatenate([self._near(row, generator, 60, scale) for row in starts])
            more, acq2 = self._evaluate(process, encoding, more, best, top)
            cand, acq = np.concatenate([cand, more]), np.concatenate([acq, acq2])
        return {k: v for k, v in encoding.parameters(cand[int(np.argmax(acq))]).items() if k in search_space}

    def _observations(self, known, maximise):
        sign = 1.0 if maximise else -1.0
        resting = {max(t.intermediate_values) for t in known if t.intermediate_values and (t.state.is_finished() or t.user_attrs.get(PAUSED)) and not t.user_attrs.get(ENDED_BY_ITSELF)}
        tops = max(max(t.intermediate_values) for t in known if t.intermediate_values)
        levels = sorted(resting | {tops}) if resting else [tops]
        owner, level, value = [], [], []
        for i, t in enumerate(known):
            if t.user_attrs.get(FAILED) or not t.intermediate_values:
                owner.append(i); level.append(0); value.append(-np.inf); continue
            last = max(t.intermediate_values)
            for l, e in enumerate(levels):
                if e <= last:
                    v = t.intermediate_values.get(e)
                    if v is None: continue
                elif t.user_attrs.get(ENDED_BY_ITSELF) and l == len(levels) - 1:
                    v = t.intermediate_values[last]
                else:
                    break
                owner.append(i); level.append(l); value.append(sign * v)
        owner, level, value = np.array(owner), np.array(level), np.array(value)
        order = np.argsort(value, kind="stable")
        ranks = np.empty(len(value)); ranks[order] = np.arange(len(value))
        y = ndtri((ranks + 0.625) / (len(value) + 0.25))
        # offsets of levels
        by = {(o, l): v for o, l, v in zip(owner, level, y)}
        offset = np.zeros(len(levels)); offset[0] = y[level == 0].mean() if (level == 0).any() else 0
        for l in range(1, len(levels)):
            pairs = [by[o, l] - by[o, l - 1] for o in range(len(known)) if (o, l) in by and (o, l - 1) in by]
            offset[l] = offset[l - 1] + (np.mean(pairs) if pairs else 0)
        z = y - offset[level]
        z = z / (z.std() or 1.0)
        if len(z) > self.modelled:
            pri = np.lexsort((-z, -level))   # high levels first, then best
            first = pri[: self.modelled // 2]
            high = z.argsort()[::-1]
            chosen = list(dict.fromkeys([*first, *high[: self.modelled // 4]]))
            rest = [i for i in high if i not in set(chosen)]
            more = [rest[int(k)] for k in np.linspace(0, len(rest) - 1, self.modelled - len(chosen)).round()]
            keep = np.array(sorted(chosen + more))
            owner, level, z = owner[keep], level[keep], z[keep]
        return owner, level, z, level.max()

    def _near(self, row, generator, n, scale):
        moved = np.clip(row + generator.normal(0, scale, (n, len(row))) , 0, 1)
        resampled = generator.random((n, len(row)))
        return np.where(generator.random((n, len(row))) < 0.08, resampled, moved)

    def _evaluate(self, process, encoding, rows, best, top):
        mean, deviation = process.predict(encoding.points(rows), np.full(len(rows), top))
        return rows, log_expected_improvement(mean, deviation, best)

    def _scores(self, known, maximise):
        sign = 1.0 if maximise else -1.0
        resting = {max(t.intermediate_values) for t in known if t.intermediate_values and (t.state.is_finished() or t.user_attrs.get(PAUSED)) and not t.user_attrs.get(ENDED_BY_ITSELF)}
        tops = max(max(t.intermediate_values) for t in known if t.intermediate_values)
        levels = sorted(resting | {tops})
        keys = []
        for t in known:
            if t.user_attrs.get(FAILED) or not t.intermediate_values:
                keys.append((-2, 0.0)); continue
            last = max(t.intermediate_values)
            if t.user_attrs.get(ENDED_BY_ITSELF):
                keys.append((len(levels) - 1, sign * t.intermediate_values[last])); continue
            reached = [i for i, l in enumerate(levels) if l <= last]
            if not reached:
                keys.append((-1, sign * t.intermediate_values[last])); continue
            keys.append((reached[-1], sign * t.intermediate_values.get(levels[reached[-1]], t.intermediate_values[last])))
        order = sorted(range(len(keys)), key=lambda i: keys[i])
        ranks = np.empty(len(keys)); ranks[order] = np.arange(len(keys))
        return ndtri((ranks + 0.625) / (len(keys) + 0.25))
