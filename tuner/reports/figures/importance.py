"""Importance of each hyperparameter."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from tuner.common.words import counted
from tuner.reports.figures.space import as_number
from tuner.reports.figures.style import BLACK, BLUE, FAINT, FigureKind, build_figure, set_row_axis, set_title
from tuner.reports.formatting import metric_words
from tuner.reports.results import Results, TrialResult
from tuner.runs.events import Scalar

SAMPLED = 200
"""Trials from which importance is estimated: more change little and take long."""
LEAST_TRIALS = 20
LEAST_EXPLAINED = 0.3
"""Share of the variance on unseen trials (R2) below which a model says nothing about what it was told."""
LEAST_COMPARED = 0.9
"""Share of the trials that must have reached the epoch at which they are compared: those that a scheduler let go on are
the good ones, and among these alone other things matter."""
FOLDS = 5
SHARE_ERROR = 0.01
"""Standard error of a share from the model alone, which single trials do not show."""
TREES = 50
DONORS = 8
"""Trials from which each trial is given other values."""
MOST_WORDS = 8
"""Words of a hyperparameter that are told apart, the most frequent ones."""


class Importance(NamedTuple):
    """The share of the differences between trials that a hyperparameter explains."""

    name: str
    share: float
    """Share of the metric's variance that goes with this hyperparameter's values (below 0: none)."""
    low: float
    high: float
    """Its 95% interval over trials."""
    trials: int
    """Those that have it; its share is told from them alone."""
    together: float | None
    """The same with all that only its branches have; None where nothing hangs on it."""


class Importances(NamedTuple):
    """All hyperparameters, the most important first."""

    metric: str
    epoch: int
    """At which trials are compared."""
    trials: int
    stopped: int
    """Trials left out because they were ended before that epoch."""
    valueless: int
    """Trials left out because they failed, run or have no value there."""
    explained: float
    """Share of the variance that the model explains on trials that it has not seen (R2)."""
    items: tuple[Importance, ...]
    untold: str = ""
    """Why there are no items."""


class _Table(NamedTuple):
    """Configurations as numbers."""

    names: tuple[str, ...]
    cells: np.ndarray
    """`[trials, columns] float`."""
    columns: tuple[np.ndarray, ...]
    """The columns of each hyperparameter."""
    held: tuple[np.ndarray, ...]
    """For each hyperparameter `[trials] bool`: which have it."""
    values: tuple[np.ndarray, ...]
    """For each hyperparameter `[trials] int`: the number of its value."""
    parents: tuple[int | None, ...]
    """The hyperparameter whose value says whether it exists."""

    def branch_of(self, index: int) -> np.ndarray:
        """Return `[trials] int`: the branch in which a hyperparameter stands, the same where it is always there."""
        parent = self.parents[index]
        return np.zeros(len(self.cells), int) if parent is None else self.values[parent]

    def below(self, index: int) -> list[int]:
        """Return the hyperparameters that hang on one, also by way of others."""
        own = [child for child, parent in enumerate(self.parents) if parent == index]
        return [*own, *(deeper for child in own for deeper in self.below(child))]


def build_importances(results: Results) -> Importances | None:
    """Return how much each hyperparameter matters, or why that cannot be told; None without anything to compare.

    Trials are compared at one epoch that nearly all have reached. A model is fitted to the values there and predicts
    trials that it has not seen, with their own values and with those of other trials (Breiman 2001). What only a branch
    has is given along with the branch: else its absence would tell the branch.
    """
    epoch = _compared_epoch(results)
    if epoch is None or not results.differing:
        return None
    rows = [(trial, value) for trial in results.trials if (value := _value_at(trial, results, epoch)) is not None]
    stopped = sum(one.status in ("stopped", "paused") and _is_shorter(one, epoch) for one in results.trials)
    found = Importances(results.metric, epoch, len(rows), stopped, len(results.trials) - len(rows) - stopped, 0.0, ())
    if len(rows) < LEAST_TRIALS:
        return found._replace(untold=f"{counted(len(rows), 'trial')} can be compared, and {LEAST_TRIALS} are needed")
    generator = np.random.default_rng(0)
    if len(rows) > SAMPLED:
        rows = [rows[index] for index in sorted(generator.choice(len(rows), SAMPLED, replace=False))]
    values = np.array([value for _, value in rows])
    if float(np.ptp(values)) == 0:
        return found._replace(untold="all trials reached the same value")
    table = _build_table(results.differing, [trial for trial, _ in rows])
    explained, items = max(
        (_estimate(table, values, kind, np.random.default_rng(0)) for kind in ("process", "forest")),
        key=lambda estimate: estimate[0],
    )
    if explained >= LEAST_EXPLAINED:
        return found._replace(explained=explained, items=items)
    why = (
        f"a model of all hyperparameters explains {max(0.0, explained):.0%} of the differences between trials that it "
        f"has not seen, and {LEAST_EXPLAINED:.0%} are needed"
    )
    return found._replace(explained=explained, untold=why)


def _compared_epoch(results: Results) -> int | None:
    """Return the latest epoch that nearly all trials have reached, or ended before by themselves."""
    lengths = sorted(
        trial.epochs[-1].epoch for trial in results.trials if trial.epochs and trial.status in ("stopped", "paused")
    )
    done = [trial.epochs[-1].epoch for trial in results.trials if trial.epochs]
    if not done:
        return None
    spared = math.floor((1 - LEAST_COMPARED) * len(done))
    return lengths[spared] if len(lengths) > spared else max(done)


def _is_shorter(trial: TrialResult, epoch: int) -> bool:
    """Say whether a trial was cut off before an epoch."""
    return trial.status != "completed" and (not trial.epochs or trial.epochs[-1].epoch < epoch)


def _value_at(trial: TrialResult, results: Results, epoch: int) -> float | None:
    """Return the best value up to an epoch; None for trials that were cut off before, and for those without a value."""
    return None if _is_shorter(trial, epoch) else trial.best_until(epoch, results.metric, results.mode)


def _build_table(names: Sequence[str], trials: Sequence[TrialResult]) -> _Table:
    held = tuple(np.array([name in trial.configuration for trial in trials]) for name in names)
    values = tuple(_numbered([trial.configuration.get(name, "") for trial in trials], have)
                   for name, have in zip(names, held, strict=True))  # fmt: skip
    parents = tuple(_parent(index, names, held, values) for index in range(len(names)))
    blocks = []
    for name, have, parent in zip(names, held, parents, strict=True):
        block = _codes([trial.configuration.get(name) for trial in trials], have)
        blocks.append(block if have.all() or parent is not None else np.column_stack([block, have]))
    widths = [block.shape[1] for block in blocks]
    columns = tuple(np.split(np.arange(sum(widths)), np.cumsum(widths)[:-1]))
    return _Table(tuple(names), np.column_stack(blocks), columns, held, values, parents)


def _numbered(values: Sequence[Scalar], held: np.ndarray) -> np.ndarray:
    """Return the number of each value, -1 for what a trial does not have."""
    known: dict[str, int] = {}
    numbers = [known.setdefault(repr(value), len(known)) for value in values]
    return np.where(held, numbers, -1)


def _parent(index: int, names: Sequence[str], held: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> int | None:
    """Return the hyperparameter whose value alone says whether one exists, that with the fewest values; None: none."""
    have = held[index]
    if have.all():
        return None
    able = [
        other
        for other in range(len(names))
        if other != index
        and not (have & ~held[other]).any()
        and not np.intersect1d(values[other][have], values[other][~have]).size
        and len(np.unique(values[other])) <= len(have) / 2
    ]
    return min(able, key=lambda other: (names[other] != "architecture", len(np.unique(values[other]))), default=None)


def _codes(values: Sequence[Scalar], held: np.ndarray) -> np.ndarray:
    """Return the columns of a hyperparameter: numbers by their order between 0 and 1, words as a column each.

    What a trial does not have stands in the middle, where it tells nothing.
    """
    from scipy.stats import rankdata

    numbers = [as_number(value) for value in values]
    if all(number is not None for number, have in zip(numbers, held, strict=True) if have):
        column = np.full(len(values), 0.5)
        column[held] = (rankdata(np.array([one for one in numbers if one is not None])) - 0.5) / held.sum()
        return column[:, None]
    words = np.array([str(value) for value in values])
    known, number = np.unique(words[held], return_counts=True)
    kept = known[np.argsort(-number, kind="stable")][:MOST_WORDS]
    return np.column_stack([math.sqrt(0.5) * ((words == word) & held) for word in kept])


def _build_model(kind: str, columns: int) -> Any:
    """Return a model: a Gaussian process sees what is smooth in few trials, a forest sees steps."""
    if kind == "forest":
        from sklearn.ensemble import RandomForestRegressor

        return RandomForestRegressor(TREES, min_samples_leaf=2, random_state=0, n_jobs=1)
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(np.ones(columns), (0.2, 30)) + WhiteKernel(0.3, (1e-3, 2))
    return GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)


def _estimate(
    table: _Table, values: np.ndarray, kind: str, generator: np.random.Generator
) -> tuple[float, tuple[Importance, ...]]:
    """Return R2 on unseen trials and the importance of each hyperparameter, by folds."""
    from sklearn.model_selection import KFold

    predicted = np.zeros(len(values))
    own, together = np.zeros((2, len(table.names), len(values)))
    for seen, unseen in KFold(FOLDS, shuffle=True, random_state=0).split(table.cells):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a length at the end of its range: the column says nothing
            model = _build_model(kind, table.cells.shape[1]).fit(table.cells[seen], values[seen])
        predicted[unseen] = model.predict(table.cells[unseen])
        errors = (values - predicted) ** 2
        for index in range(len(table.names)):
            rows = unseen[table.held[index][unseen]]
            if len(rows):
                others = _predict_with_others(model, table, index, rows, generator)
                together[index, rows] = np.mean((values[rows] - others) ** 2, axis=0) - errors[rows]
                branches = _loss_of_branches(model, table, index, rows, values, generator)
                own[index, rows] = together[index, rows] if branches is None else branches
    squares = (values - values.mean()) ** 2
    items = [_importance(table, index, own[index], together[index], squares) for index in range(len(table.names))]
    return 1 - float(errors.sum() / squares.sum()), tuple(sorted(items, key=lambda item: -item.share))


def _importance(table: _Table, index: int, own: np.ndarray, together: np.ndarray, squares: np.ndarray) -> Importance:
    """Return shares from losses of single trials: others' values lose twice the variance that goes with one's own."""
    share = float(own.sum() / (2 * squares.sum()))
    error = math.hypot(SHARE_ERROR, float(np.std(own / 2 - share * squares) / squares.mean() / math.sqrt(len(own))))
    return Importance(
        table.names[index], share, share - 1.96 * error, share + 1.96 * error, int(table.held[index].sum()),
        float(together.sum() / (2 * squares.sum())) if table.below(index) else None,
    )  # fmt: skip


def _predict_with_others(
    model: Any, table: _Table, index: int, rows: np.ndarray, generator: np.random.Generator, branch: int | None = None
) -> np.ndarray:
    """Return `[donors, rows] float`: predictions with a hyperparameter, and what hangs on it, of other trials.

    The others are of the branch in which the hyperparameter stands; with `branch`, they have this value of it.
    """
    columns = np.concatenate([table.columns[one] for one in (index, *table.below(index))])
    if branch is None:
        places = table.branch_of(index)
        pools = {place: np.flatnonzero(table.held[index] & (places == place)) for place in np.unique(places[rows])}
        donors = np.stack([generator.choice(pools[places[row]], DONORS) for row in rows], axis=1)
    else:
        donors = generator.choice(np.flatnonzero(table.values[index] == branch), (DONORS, len(rows)))
    cells = np.tile(table.cells[rows], (DONORS, 1))
    cells[:, columns] = table.cells[donors.ravel()][:, columns]
    predicted: np.ndarray = model.predict(cells).reshape(DONORS, len(rows))
    return predicted


def _loss_of_branches(
    model: Any, table: _Table, index: int, rows: np.ndarray, values: np.ndarray, generator: np.random.Generator
) -> np.ndarray | None:
    """Return what another branch loses, averaged over what only the branches have; None where nothing hangs on it."""
    if not table.below(index):
        return None
    branches, numbers = np.unique(table.values[index][table.held[index]], return_counts=True)
    means = np.stack([
        _predict_with_others(model, table, index, rows, generator, branch).mean(axis=0) for branch in branches
    ])  # fmt: skip
    errors = (values[rows] - means) ** 2
    here = np.searchsorted(branches, table.values[index][rows])
    loss: np.ndarray = numbers / numbers.sum() @ errors - errors[here, np.arange(len(rows))]
    return loss


def draw_importances(data: Importances) -> Figure:
    """Draw a bar for each hyperparameter, with its interval; in pale, what hangs on it. Without any, say why."""
    figure, (panel,) = build_figure(10.5, 1.4 + 0.34 * len(data.items))
    for row, item in enumerate(data.items):
        panel.barh(row, max(0.0, item.together or 0.0), color=FAINT, height=0.6, zorder=2)
        panel.barh(row, max(0.0, item.share), color=BLUE, height=0.6, zorder=3)
        panel.plot([max(0.0, item.low), max(0.0, item.high)], [row, row], color=BLACK, linewidth=1.6, zorder=4)
    if data.untold:
        panel.remove()
        figure.text(0.01, 0.3, textwrap.fill(f"Too few to tell: {data.untold}.", 110))
        set_title(figure, "What mattered cannot be told")
        return figure
    labels = [
        item.name
        + ("" if item.trials >= min(data.trials, SAMPLED) else f" ({item.trials} trials have it)")
        + ("" if item.together is None else ", pale: with what only its branches have")
        for item in data.items
    ]
    set_row_axis(panel, labels)
    panel.set_xlim(left=0)
    panel.set_xlabel(f"share of the differences in {metric_words(data.metric)}, and its 95% interval")
    set_title(figure, f"What mattered, compared after epoch {data.epoch}")
    return figure


def describe_importances(data: Importances) -> str:
    """Say in words how much each hyperparameter matters, and what was compared."""
    compared = f"{counted(data.trials, 'trial')} compared after epoch {data.epoch}"
    left = [
        f"{counted(number, 'trial')} that {why}"
        for number, why in ((data.stopped, "the search had ended before"), (data.valueless, "had no value there"))
        if number
    ]
    out = f" Left out: {' and '.join(left)}." if left else ""
    if data.untold:
        return f"What mattered cannot be told: {data.untold} ({compared}).{out}"
    items = ", ".join(
        f"{item.name} {max(0.0, item.share):.0%}"
        + ("" if item.together is None else f" ({max(0.0, item.together):.0%} with what only its branches have)")
        for item in data.items
    )
    return (
        f"How much of the differences between {compared} each hyperparameter explains: {items}. What trials showed "
        f"after that epoch is not in it. A model of all of them explains {data.explained:.0%} on trials that it has "
        f"not seen.{out}"
    )


IMPORTANCE = FigureKind(build_importances, draw_importances, describe_importances, part="mattered")
