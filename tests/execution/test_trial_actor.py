"""The actor without Ray: what it does with checkpoints that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.told import told
from tuner.algorithms.schedulers import SCHEDULERS, SchedulerContext
from tuner.datasets.request import DataRequest
from tuner.execution.trial_actor import WORST, TrialActor
from tuner.execution.worker_process import WorkerContext
from tuner.training.checkpoint import earlier_checkpoints
from tuner.training.settings import TrialSettings

CONFIGURATION = {"architecture": "dense", "dense_units": 8, "hidden_layers": 1, "batch_size": 30, "learning_rate": 0.01}
SETTINGS = TrialSettings(
    max_epochs=5, head_epochs=2, patience=None, min_delta=0.0, metric="val_accuracy", mode="max", seed=1
)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[int], Path]:
    """Makes the folder that Ray makes for a trial."""

    def make(trial: int) -> Path:
        made = tmp_path / "working_dirs" / str(trial)
        made.mkdir(parents=True, exist_ok=True)
        return made

    return make


@pytest.fixture
def begin(cache_dir: Path, folder: Callable[[int], Path]) -> Callable[..., TrialActor]:
    """Makes the actor of trial 7, as Ray would in a process of its own."""

    def make(resume_from: Path | None = None) -> TrialActor:
        request = DataRequest("digits", max_train_images=60, max_validation_images=30)
        actor = TrialActor.__new__(TrialActor)
        actor._trial_info, actor._logdir = None, str(folder(7))
        resumed = str(resume_from) if resume_from else None
        actor.config = {"trial": 7, "configuration": CONFIGURATION, "resume_from": resumed, "generation": 0}
        actor.setup(actor.config, context=WorkerContext(request, {}, cache_dir, SETTINGS, None, 1.0))
        return actor

    return make


def epochs(actor: TrialActor) -> list[dict[str, Any]]:
    """All results to the end."""
    found = [actor.step()]
    while not found[-1]["done"]:
        found.append(actor.step())
    return found


def metrics(result: dict[str, Any]) -> dict[str, float]:
    return dict(result["shown"].metrics)


@pytest.fixture
def checkpoints(begin: Callable[..., TrialActor], tmp_path: Path) -> list[Path]:
    """Those after epochs 1, 2 and 3."""
    actor, folders = begin(), [tmp_path / "trial" / f"checkpoint_{number:06d}" for number in range(3)]
    for folder in folders:
        actor.step()
        actor.save_checkpoint(str(folder))
    return folders


@pytest.mark.parametrize(("mode", "usual", "worse"), [("max", -2.0, -9.0), ("min", 2.0, 9.0)])
def test_what_is_told_before_the_first_epoch_keeps_no_bad_trial_going(mode, usual, worse):
    rule = SCHEDULERS["median"].build(
        SchedulerContext(mode, max_epochs=9, grace_epochs=1, reduction_factor=3, mutable={})
    )
    controller = SimpleNamespace(get_live_trials=list)

    def tell(trial: Any, epoch: int, value: float) -> str:
        return str(rule.on_trial_result(controller, trial, told(epoch, value)))

    *others, last = [SimpleNamespace(config={"trial": number}) for number in range(4)]
    for trial in others:
        tell(trial, 0, WORST[mode])
        tell(trial, 1, usual)
    tell(last, 0, WORST[mode])
    assert tell(last, 1, worse) == "STOP"


def damage(folder: Path, how: str) -> None:
    file = folder / "checkpoint.npz"
    match how:
        case "truncated":
            file.write_bytes(file.read_bytes()[:-200])
        case "empty":
            file.write_bytes(b"")
        case _:
            file.unlink()


@pytest.mark.parametrize("how", ["truncated", "empty", "removed"])
@pytest.mark.parametrize("by_ray", [True, False], ids=["restored by Ray", "resumed from an earlier session"])
def test_a_trial_goes_on_from_the_newest_checkpoint_that_can_be_read_and_says_so(begin, checkpoints, how, by_ray):
    whole = epochs(begin())
    damage(checkpoints[2], how)
    damage(checkpoints[1], how)
    actor = begin(None if by_ray else checkpoints[2])
    if by_ray:
        actor.load_checkpoint(str(checkpoints[2]))
    results = epochs(actor)
    (notice,) = [text for result in results for text in result["notices"]]
    assert notice.startswith(f"trial 7 goes on from epoch 1: {checkpoints[2]}")
    went_on = [result for result in results if result["shown"]]
    assert [result["epoch"] for result in went_on] == [2, 3, 4, 5]
    assert [metrics(result) for result in went_on] == [metrics(result) for result in whole[1:]]


def test_without_any_that_can_be_read_a_trial_begins_anew_and_shows_the_same(begin, checkpoints):
    whole = epochs(begin())
    for folder in checkpoints:
        damage(folder, "truncated")
    results = epochs(begin(checkpoints[2]))
    assert results[0]["notices"][0].startswith(f"trial 7 begins anew: {checkpoints[2]}")
    assert [metrics(result) for result in results if result["shown"]] == [metrics(result) for result in whole]


def test_a_checkpoint_that_is_whole_is_no_news(begin, checkpoints):
    results = epochs(begin(checkpoints[2]))
    assert [result["epoch"] for result in results] == [4, 5] and not any(result["notices"] for result in results)


def test_only_older_checkpoints_of_the_same_trial_are_looked_for(checkpoints):
    assert earlier_checkpoints(checkpoints[2]) == [checkpoints[1], checkpoints[0]]
    assert earlier_checkpoints(checkpoints[0]) == []
    assert earlier_checkpoints(checkpoints[0].parent / "somewhere else") == []


def test_a_reused_worker_removes_the_empty_folder_of_the_trial_before(begin, folder) -> None:
    actor = begin()
    for trial, before, is_kept in ((8, folder(7), False), (9, folder(8), True)):
        if is_kept:
            (before / "core").write_text("kept")
        actor._logdir = str(folder(trial))  # Ray has moved on
        assert actor.reset_config({"trial": trial})
        assert before.exists() == is_kept


def test_a_process_trains_on_the_fold_that_is_asked_for_and_by_itself_on_the_first(cache_dir: Path):
    context = WorkerContext(DataRequest("digits", validation={"folds": 3}), {}, cache_dir, SETTINGS, None, 1.0)
    maker, found = context.trials(), []
    for fold in (0, 2, 2, 1, 0):
        found.append(maker.begin(CONFIGURATION, 5, fold=fold).data.validation.rows.tolist())
    assert found[1] == found[2] and found[0] == found[4] == maker.begin(CONFIGURATION, 5).data.validation.rows.tolist()
    assert len({row for rows in (found[0], found[1], found[3]) for row in rows}) == sum(
        map(len, (*found[:2], found[3]))
    )
