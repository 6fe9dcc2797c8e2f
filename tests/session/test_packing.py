"""How many trials run at once: the choice for made-up machines, and one measurement in real processes."""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from ray.exceptions import RayError

from tuner.cluster.ray_session import Capacity, NodeCapacity
from tuner.cluster.slots import Packing
from tuner.common.errors import InputError
from tuner.execution import packing_probe
from tuner.execution.packing_probe import GpuMemory, Speed, Trained
from tuner.session import _packing
from tuner.session._packing import (
    candidates,
    choose_packing,
    fastest,
    is_long,
    trial_memory,
    trials_per_gpu,
    typical_configurations,
    within_memory,
)
from tuner.session._resolved import ResolvedSearch, Shares, resolve
from tuner.session.checks import beyond_this_machine, checked_gpus
from tuner.spec.spec import read_spec, require

LONG = {"search__time_budget": "2h", "search__trials": 1000}
SPACE = {
    "batch_size": {"choice": [32, 64]},
    "learning_rate": {"log_float": [1e-4, 1e-1]},
    "architecture": {"choose": {"mobilenet_v2": {"alpha": 0.35, "unfreeze_depth": {"int": [0, 4]}}}},
}


@pytest.fixture(autouse=True)
def free_memory(monkeypatch) -> None:
    """Plenty, whatever else runs on this machine."""
    monkeypatch.setattr(_packing, "free_memory", lambda: 64 * 2**30)


def search_of(space=SPACE, **settings) -> ResolvedSearch:
    """A search with settings such as `search__trials=3`."""
    written: dict = {"study": "packing", "data": {"source": "digits"}, "space": space}
    for name, value in {**LONG, **settings}.items():
        section, field = name.split("__")
        written.setdefault(section, {})[field] = value
    return resolve(require(read_spec(yaml.safe_dump(written, sort_keys=False))))


def choose(tmp_path, capacity, speeds=None, gpu=None, images=10_000, **settings) -> tuple[Packing, list]:
    """The packing, and what was measured for it."""
    asked: list = []

    def measure(configuration, trials, cpus) -> Speed | None:
        asked.append((trials, cpus))
        return (speeds or {}).get((trials, cpus))

    def measure_gpu(configuration) -> GpuMemory | None:
        asked.append("gpu")
        return gpu

    prepared = SimpleNamespace(
        cache_dir=tmp_path,
        dataset=SimpleNamespace(train=range(images), validation=range(images // 10), image_shape=(32, 32, 3)),
    )
    return choose_packing(search_of(**settings), prepared, capacity, measure, measure_gpu), asked


def speeds(**images_per_s: float) -> dict[tuple[int, float], Speed]:
    """Speeds of `t2_c1`: two trials with a CPU each."""
    found = {}
    for name, speed in images_per_s.items():
        trials, cpus = (int(part[1:]) for part in name.split("_"))
        found[trials, float(cpus)] = Speed(trials, cpus, speed, 700.0)
    return found


def test_on_a_cluster_no_trial_is_larger_than_a_node() -> None:
    three = Capacity(9, 0, nodes=(NodeCapacity(3, 0, 4000),) * 3, is_cluster=True)
    assert candidates(three, None, None) == [(9, 1.0), (3, 2.0)]
    assert candidates(three, None, 1) == [(1, 3.0)]
    assert candidates(three, 2.0, None) == [(3, 2.0), (1, 2.0)]


def test_so_many_trials_as_were_asked_for_fit_the_nodes_of_a_cluster_where_they_can() -> None:
    unlike = Capacity(12, 0, nodes=(NodeCapacity(8, 0, 0), NodeCapacity(2, 0, 0), NodeCapacity(2, 0, 0)))
    assert [candidates(unlike, None, wanted) for wanted in (1, 2, 4, 6, 7, 20)] == [
        [(1, 8.0)],
        [(2, 4.0)],
        [(4, 2.0)],
        [(6, 2.0)],
        [(7, 1.0)],
        [(20, 1.0)],
    ]


def test_the_memory_of_a_cluster_is_that_of_its_workers(tmp_path) -> None:
    two = Capacity(8, 0, nodes=(NodeCapacity(4, 0, 1600),) * 2, is_cluster=True)
    packing, _ = choose(tmp_path, two, search__trials=3, search__probe=False)
    assert packing == Packing(2, 1.0, 0.0, "as many as memory holds")


@pytest.mark.parametrize(
    ("settings", "images", "taken_mb"),
    [
        ({}, 1000, 1011),
        ({}, 100_000, 2000),
        ({}, 10_000_000, 2000),
        ({"search__probe": False}, 100_000, 0),
        ({"search__time_budget": "9m"}, 100_000, 0),
        ({"activations__enabled": False}, 100_000, 0),
        ({"space": {"architecture": "cnn"}}, 100_000, 0),
    ],
)
def test_the_memory_that_probes_take_beside_trials_is_counted(
    settings, images, taken_mb, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(_packing, "free_memory", lambda: 9024 * 2**20)
    split = SimpleNamespace(train=range(images), validation=range(images // 10), image_shape=(32, 32, 3))
    prepared, search = SimpleNamespace(cache_dir=tmp_path, dataset=split), search_of(**settings)
    assert trial_memory(search, prepared, Capacity(8, 0), 4) == pytest.approx(5000 - taken_mb)
    packing, _ = choose(tmp_path, Capacity(8, 0), images=images, search__trials=3, **settings)
    assert packing.trials == 8 - -(-taken_mb // 1000)


def test_on_a_cluster_without_workers_trials_take_what_they_are_told_to(tmp_path) -> None:
    told = {"search__max_concurrent": 4, "resources__cpus_per_trial": 4, "resources__gpus_per_trial": 1}
    packing, asked = choose(tmp_path, Capacity(0, 0, is_cluster=True), **told)
    assert packing == Packing(4, 4.0, 1.0) and asked == []


def test_the_way_that_trains_the_most_images_a_second_is_taken_and_told(tmp_path) -> None:
    measured = speeds(t4_c1=900.0, t2_c2=1000.0, t1_c4=700.0)
    packing, asked = choose(tmp_path, Capacity(4, 0), measured)
    assert (packing.trials, packing.cpus_per_trial, packing.gpus_per_trial) == (2, 2.0, 0.0)
    assert asked == [(4, 1.0), (2, 2.0), (1, 4.0)]
    assert packing.describe() == (
        "2 at a time with 2 CPUs each (measured: 4 with 1 CPU 900 images/s, 2 with 2 CPUs 1,000 images/s, "
        "1 with 4 CPUs 700 images/s)"
    )


def test_what_was_measured_is_remembered_for_the_same_search_and_no_other(tmp_path) -> None:
    measured = speeds(t2_c1=900.0, t1_c2=700.0)
    first, _ = choose(tmp_path, Capacity(2, 0), measured)
    again, asked = choose(tmp_path, Capacity(2, 0))
    assert again == first and asked == []
    other = {
        "learning_rate": {"log_float": [1e-4, 1e-1]},
        "architecture": {"choose": {"mobilenet_v2": {"alpha": 0.35, "unfreeze_depth": 0}}},
    }
    _, asked = choose(tmp_path, Capacity(2, 0), measured, space=other)
    assert asked == [(2, 1.0), (1, 2.0)]


def test_what_cannot_be_read_of_what_was_remembered_is_measured_again(tmp_path) -> None:
    (tmp_path / "packing.json").write_text("{")
    _, asked = choose(tmp_path, Capacity(2, 0), speeds(t2_c1=900.0))
    assert asked == [(2, 1.0), (1, 2.0)]


def test_a_way_that_failed_is_not_taken_and_without_any_it_is_one_trial_for_each_cpu(tmp_path) -> None:
    packing, _ = choose(tmp_path / "a", Capacity(2, 0), speeds(t1_c2=10.0))
    assert (packing.trials, packing.cpus_per_trial) == (1, 2.0)
    packing, _ = choose(tmp_path / "b", Capacity(2, 0), {})
    assert packing == Packing(2, 1.0, 0.0)


@pytest.mark.parametrize(
    "settings", [{"search__time_budget": "9m"}, {"search__trials": 3}, {"search__max_concurrent": 2}]
)
def test_a_short_search_and_one_without_a_choice_measure_nothing(tmp_path, settings) -> None:
    packing, asked = choose(tmp_path, Capacity(2, 0), **settings)
    assert asked == [] and packing == Packing(2, 1.0, 0.0)


def test_what_is_given_stays_as_given(tmp_path) -> None:
    given = {"resources__cpus_per_trial": 2, "search__max_concurrent": 3}
    assert choose(tmp_path, Capacity(8, 0), **given)[0] == Packing(3, 2.0, 0.0)
    assert choose(tmp_path, Capacity(8, 0), search__max_concurrent=3)[0] == Packing(3, 2.0, 0.0)
    measured = speeds(t4_c2=10.0, t2_c2=20.0)
    packing, asked = choose(tmp_path, Capacity(8, 0), measured, resources__cpus_per_trial=2)
    assert asked == [(4, 2.0), (2, 2.0)] and (packing.trials, packing.cpus_per_trial) == (2, 2.0)


def test_fewer_trials_are_taken_when_more_gain_next_to_nothing() -> None:
    assert fastest(list(speeds(t2_c1=104.0, t1_c2=100.0).values())).trials == 1
    assert fastest(list(speeds(t2_c1=106.0, t1_c2=100.0).values())).trials == 2


def test_memory_bounds_the_trials_and_one_always_runs() -> None:
    assert within_memory(16, 900.0, 10_000.0) == 9
    assert within_memory(16, 900.0, 0.0) == 1


def test_a_gpu_is_shared_by_as_many_trials_as_its_memory_holds(tmp_path) -> None:
    gpu = GpuMemory(peak_bytes=3 * 2**30, total_bytes=16 * 2**30)
    packing, asked = choose(tmp_path, Capacity(16, 2), gpu=gpu)
    assert asked == ["gpu"]
    assert (packing.trials, packing.cpus_per_trial, packing.gpus_per_trial) == (8, 2.0, 0.25)
    assert packing.reason == "measured: a large trial takes 3.0 of 16.0 GiB of a GPU"
    assert choose(tmp_path, Capacity(16, 2))[1] == []


def test_a_gpu_that_was_not_measured_is_given_whole_and_a_share_that_was_given_is_kept(tmp_path) -> None:
    assert choose(tmp_path, Capacity(8, 1))[0] == Packing(1, 8.0, 1.0)
    assert choose(tmp_path, Capacity(8, 1), resources__gpus_per_trial=0.5)[0] == Packing(2, 4.0, 0.5)
    assert choose(tmp_path, Capacity(8, 1), resources__gpus_per_trial=0, search__trials=3)[0] == Packing(8, 1.0, 0.0)


TWO_OF_THREE = (NodeCapacity(8, 3, 0), NodeCapacity(6, 2, 0), NodeCapacity(32, 1, 0))


@pytest.mark.parametrize(
    ("capacity", "settings", "packing"),
    [
        (Capacity(8, 2), {}, Packing(1, 8.0, 2.0)),
        (Capacity(8, 4), {}, Packing(2, 4.0, 2.0)),
        (Capacity(8, 5), {}, Packing(2, 4.0, 2.0)),
        (Capacity(8, 4), {"search__max_concurrent": 1}, Packing(1, 8.0, 2.0)),
        (Capacity(8, 4), {"resources__cpus_per_trial": 1}, Packing(2, 1.0, 2.0)),
        (Capacity(46, 6, nodes=TWO_OF_THREE, is_cluster=True), {}, Packing(2, 6.0, 2.0)),
    ],
)
def test_trials_with_several_gpus_have_them_to_themselves_on_one_node_and_nothing_is_measured(
    tmp_path, capacity, settings, packing
) -> None:
    memory = GpuMemory(2**30, 16 * 2**30)
    assert choose(tmp_path, capacity, gpu=memory, resources__gpus_per_trial=2, **settings) == (packing, [])


def test_gpus_that_no_node_has_together_are_missed(tmp_path) -> None:
    nodes = Capacity(8, 2, nodes=(NodeCapacity(4, 1, 0), NodeCapacity(4, 1, 0)), is_cluster=True)
    with pytest.raises(InputError, match="a trial asks for 1 CPUs and 2 GPUs; there are 8 CPUs and 2 GPUs"):
        choose(tmp_path, nodes, resources__gpus_per_trial=2)


def test_a_gpu_that_is_not_there_is_missed_before_anything_is_measured(tmp_path) -> None:
    with pytest.raises(InputError, match="a trial asks for 1 CPUs and 1 GPUs; there are 8 CPUs and 0 GPUs"):
        choose(tmp_path, Capacity(8, 0), resources__gpus_per_trial=1)


def test_three_trials_on_a_gpu_ask_for_no_more_than_the_gpu(tmp_path) -> None:
    packing, _ = choose(tmp_path, Capacity(16, 1), gpu=GpuMemory(4 * 2**30, 16 * 2**30))
    assert packing.trials == 3 and 3 * packing.gpus_per_trial <= 1
    assert trials_per_gpu(GpuMemory(20 * 2**30, 16 * 2**30), 16) == 1


def test_the_measured_configuration_trains_a_middling_number_of_blocks_and_the_last_one_many() -> None:
    middle, largest = typical_configurations(search_of().study, (32, 32, 3))
    assert 0 < middle["unfreeze_depth"] <= largest["unfreeze_depth"]


def test_what_is_measured_is_preprocessed_as_images_of_the_data_set_can_be() -> None:
    search = search_of({**SPACE, "preprocess": {"choice": ["crop(100)|resize(64)", "resize(32)"]}})
    _, largest = typical_configurations(search.study, (120, 120, 3))
    assert largest["preprocess"] in ("crop(100)|resize(64)", "resize(32)")


@pytest.mark.parametrize(
    ("settings", "images", "long"),
    [
        ({}, 10_000, True),
        ({"search__time_budget": None, "search__sampler": "random"}, 10_000, True),
        ({"search__trials": 4}, 1_000, False),
    ],
)
def test_a_search_is_long_by_its_budget_or_its_planned_epochs(settings, images, long) -> None:
    assert is_long(search_of(**settings), images) is long


@pytest.mark.full
@pytest.mark.usefixtures("local_ray_session")
def test_trials_are_measured_side_by_side_in_processes_of_their_own(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(
        "tuner.execution.packing_probe.GIVE_UP_S", 600.0
    )  # a busy machine takes long to load TensorFlow
    from tuner.datasets.loading import load_dataset
    from tuner.datasets.request import DataRequest
    from tuner.execution.packing_probe import Probing
    from tuner.execution.worker_process import WorkerContext
    from tuner.reports.console import SearchConsole
    from tuner.training.settings import ActivationSettings, TrialSettings

    settings = TrialSettings(3, 1, 2, 0.0, "val_accuracy", "max", 0)
    kept = ActivationSettings(tmp_path / "cache", "float32", 2**30)
    request = DataRequest("digits")
    load_dataset(request, staged={}, seed=0, cache_dir=tmp_path, notify=print)
    context = WorkerContext(request, {}, tmp_path, settings, kept, 1.0)
    console = SearchConsole()
    probing = Probing(context, Capacity(2, 0), console.say, console.preparing)
    backbone = {"preprocess": "resize(32)|scale(-1,1)", "architecture": "mobilenet_v2", "alpha": 0.35}
    speed = probing.speed({**backbone, "weights": "none", "unfreeze_depth": 1, "batch_size": 16}, 2, 1.0)
    assert speed is not None and (speed.trials, speed.cpus_per_trial) == (2, 1.0)
    assert np.isfinite(speed.images_per_s) and speed.images_per_s > 0
    assert speed.worker_memory_mb > 50
    assert probing.speed({"architecture": "no such"}, 1, 1.0) is None
    assert "1 trial at a time could not be measured" in capsys.readouterr().out


class FakeRay:
    """Ray as the driver of a measurement sees it: what actors ask of it, and what they are told, in this order."""

    def __init__(self, failing: str = "") -> None:
        self.asked, self.told, self._failing = [], [], failing

    def remote(self, _actor) -> FakeRay:
        return self

    def options(self, **asked) -> SimpleNamespace:
        self.asked.append(asked)
        names = ("warm_up", "measure", "close")
        methods = {name: SimpleNamespace(remote=partial(self._tell, name)) for name in names}
        return SimpleNamespace(remote=lambda _context, _configuration: SimpleNamespace(**methods))

    def _tell(self, name, *_arguments) -> str:
        self.told.append(name)
        return name

    def get(self, answers, timeout) -> list[Trained]:
        if self._failing in answers:
            raise RayError("it has died")
        return [Trained(100.0, 500.0, GpuMemory(2**30, 2**34)) for _ in answers]

    def wait(self, answers, num_returns, timeout) -> None:
        assert num_returns == len(answers)

    def kill(self, _actor) -> None:
        self.told.append("killed")


def probing_on(ray: FakeRay, capacity: Capacity, monkeypatch) -> packing_probe.Probing:
    """What measures on such a Ray."""
    from tuner.datasets.request import DataRequest
    from tuner.execution.worker_process import WorkerContext
    from tuner.training.settings import TrialSettings

    settings = TrialSettings(3, 1, None, 0.0, "val_accuracy", "max", 0)
    context = WorkerContext(DataRequest("digits"), {}, None, settings, None, 1.0)
    monkeypatch.setattr(packing_probe, "ray", ray)
    return packing_probe.Probing(context, capacity, print, lambda _text: nullcontext())


@pytest.mark.parametrize("failing", ["", "warm_up", "measure"])
def test_what_a_measurement_keeps_on_disk_is_removed_however_it_ends(failing, monkeypatch) -> None:
    ray = FakeRay(failing)
    found = probing_on(ray, Capacity(2, 0), monkeypatch).speed({}, 2, 1.0)
    assert (found is None) == bool(failing)
    assert ray.told[-4:] == ["close", "close", "killed", "killed"] and ray.told.count("close") == 2


def test_a_measurement_asks_for_a_node_that_is_there(monkeypatch) -> None:
    nodes = (NodeCapacity(4, 1, 0), NodeCapacity(16, 2, 0), NodeCapacity(64, 0, 0))
    ray = FakeRay()
    probing = probing_on(ray, Capacity(84, 3, nodes=nodes, is_cluster=True), monkeypatch)
    assert probing.gpu_memory({}) == GpuMemory(2**30, 2**34)
    assert ray.asked == [{"num_cpus": 4.0, "num_gpus": 1.0}]


def test_a_measurement_trains_on_images_of_all_classes_though_their_rows_are_in_the_order_of_classes(tmp_path) -> None:
    from tuner.datasets.request import DataRequest
    from tuner.execution.worker_process import WorkerContext
    from tuner.training.settings import TrialSettings

    labels = np.repeat(np.arange(4), 60)
    images = np.random.default_rng(0).integers(0, 256, (240, 8, 8), np.uint8)
    np.savez(tmp_path / "in_order.npz", x_train=images, y_train=labels)
    settings = TrialSettings(3, 1, None, 0.0, "val_auc", "max", 0)
    context = WorkerContext(DataRequest(f"npz:{tmp_path / 'in_order.npz'}"), {}, tmp_path, settings, None, 1.0)
    for size, seen in ((4, [0, 3]), (32, [0, 1, 2, 3])):
        trial = context.trials().begin({"architecture": "dense", "batch_size": size}, 0, 2)
        assert trial.images_per_epoch == 2 * size
        assert set(trial.data.train.labels) == {0, 1, 2, 3} and set(trial.data.validation.labels) == set(seen)
        assert trial.advance() is not None, trial.ended


@pytest.mark.parametrize(
    ("cpus", "gpus", "told"),
    [
        (None, None, ""),
        (2.0, None, ""),
        (0.5, 0.0, ""),
        (3.0, None, "resources.cpus_per_trial must be at most 2, the CPUs that this machine gives to tuner; got 3"),
        (2.5, 0.0, "resources.cpus_per_trial must be at most 2, the CPUs that this machine gives to tuner; got 2.5"),
        (1.0, 99.0, "resources.gpus_per_trial must be at most"),
    ],
)
def test_what_a_trial_asks_for_above_the_machine_is_told(monkeypatch, cpus, gpus, told) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1})
    assert beyond_this_machine(Shares(1, cpus, gpus, None, None)).startswith(told)
    assert bool(beyond_this_machine(Shares(1, cpus, gpus, None, None))) == bool(told)


def test_more_cpus_than_there_are_leave_one_way_to_share_them_which_is_refused() -> None:
    assert candidates(Capacity(2, 0), 3.0, None) == [(1, 3.0)]


@pytest.mark.parametrize(
    ("there", "wanted", "computes", "left"),
    [(1, None, True, 1), (1, None, False, 0), (1, 0.0, False, 1), (0, None, False, 0)],
)
def test_gpus_without_cuda_libraries_are_left_out_and_that_names_the_extra(there, wanted, computes, left) -> None:
    capacity, said = checked_gpus(Shares(None, None, wanted, None, None), Capacity(8, there), lambda: computes)
    assert capacity.gpus == left
    assert ("'.[gpu]'" in said) == (there != left)


def test_a_trial_that_is_to_have_a_gpu_without_cuda_libraries_is_refused() -> None:
    with pytest.raises(InputError, match=r"resources.gpus_per_trial must be 0 here; .*'\.\[gpu\]'"):
        checked_gpus(Shares(None, None, 0.5, None, None), Capacity(8, 1), lambda: False)
