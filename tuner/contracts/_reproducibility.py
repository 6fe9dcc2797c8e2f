"""Reproducible networks: they depend on values and seed alone, in any process, before and after a pause."""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tuner.contracts._parameters import ends_of
from tuner.contracts._process_state import changed, is_marked, mark, state
from tuner.contracts.author import Author
from tuner.contracts.check import Check
from tuner.contracts.drawn import digest, drawn_dataset, drawn_images, is_close
from tuner.contracts.networks import ArchitectureSubject, Built, first_difference
from tuner.runs.epoch import Epoch
from tuner.training.settings import TrialSettings
from tuner.training.trial import Trial

_KEPT_BETWEEN = "something is kept between calls (a counter, a cache or a layer outside of the function)"
_OTHERS = 3
"""Networks of other values that are built between two that must be the same."""


def _follows_seed(subject: ArchitectureSubject) -> Iterator[str]:
    first = subject.build()
    with _another(subject):
        again = subject.build()
    found = list(_differences(first, again))
    yield from found
    if found:
        return
    images = drawn_images(subject.shape())
    one, other = (built.steps(images, training=True) for built in (first, again))
    if not is_close(one[-1].given.astype("float32"), other[-1].given.astype("float32")):
        culprit = first_difference(one, other)
        told = f"{first.told(culprit)} draws" if culprit is not None else "something draws"
        yield (
            f"two networks of one seed differ in training: {told} without a seed of its own; give it "
            "self.seed_generator = keras.random.SeedGenerator(), and draw with seed=self.seed_generator"
        )


@contextmanager
def _another(subject: ArchitectureSubject) -> Iterator[None]:
    """Build other networks of the same architecture in between, as other trials of a process do."""
    for name, parameter in list(subject.parameters.items())[:_OTHERS]:
        for value in ends_of(parameter)[:1]:
            with suppress(Exception):  # that values fail is told elsewhere
                subject.build({name: value}, subject.shape(1), seed=2)
    yield


def _differences(first: Built, again: Built) -> Iterator[str]:
    """Yield what differs between two networks that should be the same; one cause of each kind."""
    shared = {id(variable) for variable in first.own_variables}
    for variable in again.own_variables:
        if id(variable) in shared:
            yield f"two networks share {again.told_variable(variable)}: {_KEPT_BETWEEN}"
            return
    names = [first.names, again.names]
    shapes = [[tuple(variable.shape) for variable in built.own_variables] for built in (first, again)]
    if shapes[0] != shapes[1]:
        yield f"a second network of the same values has other weights ({_first_pair(*shapes)}): {_KEPT_BETWEEN}"
    elif names[0] != names[1]:
        yield f"a second network has layers of other names ({_first_pair(*names)}): {_KEPT_BETWEEN}"
    else:
        for one, other in zip(first.own_variables, again.own_variables, strict=True):
            if not np.array_equal(np.asarray(one), np.asarray(other), equal_nan=True):
                yield (
                    f"two networks of one seed begin with different {first.told_variable(one)}: it is drawn by another "
                    "generator than Keras's initializers without a seed"
                )
                return
        images = drawn_images(_shape_of(first))
        one_steps, other_steps = first.steps(images), again.steps(images)
        if not is_close(one_steps[-1].given.astype("float32"), other_steps[-1].given.astype("float32")):
            culprit = first_difference(one_steps, other_steps)
            told = f": {first.told(culprit)}" if culprit is not None else ""
            yield f"two networks of one seed and the same weights give other features{told}: {_KEPT_BETWEEN}"


def _shape_of(built: Built) -> tuple[int, int, int]:
    return tuple(built.features.input_shape[1:])


def _first_pair(ones: list[Any], others: list[Any]) -> str:
    for one, other in zip(ones, others, strict=False):
        if one != other:
            return f"{_plain(one)}, then {_plain(other)}"
    return f"{len(ones)}, then {len(others)}"


def _plain(value: Any) -> str:
    return repr(value) if isinstance(value, str) else f"[{', '.join(map(str, value))}]"


def _depends_on_seed(subject: ArchitectureSubject) -> Iterator[str]:
    first, other = subject.built(seed=1), subject.built(seed=2)
    drawn = [
        (variable, np.array_equal(np.asarray(variable), np.asarray(another)))
        for variable, another in zip(first.own_variables, other.own_variables, strict=True)
        if variable.trainable and np.ptp(np.asarray(variable, dtype=np.float64)) > 0
    ]
    if first.network.backbone is not None and subject.architecture.is_own:
        return  # an author's own weights may be trained ones
    if drawn and all(is_same for _, is_same in drawn):
        yield (
            f"another seed gives the same initial weights: {first.told_variable(drawn[0][0])}; a fixed seed in the "
            "code makes all trials and finalists alike"
        )
        return
    for variable, is_same in drawn:
        if is_same and _is_seeded(first, variable):
            yield f"{first.told_variable(variable)} is the same for every seed: leave out the seed of its initializer"


def _is_seeded(built: Built, variable: Any) -> bool:
    for layer in built.layers():
        if any(variable is one for one in layer._trainable_variables):
            initializer = getattr(layer, f"{variable.name}_initializer", None)
            config = initializer.get_config() if isinstance(initializer, keras.Initializer) else {}
            return config.get("seed") is not None
    return False


_DRAWS = (
    *("rand", "randn", "randint", "random", "random_sample", "normal", "uniform", "choice", "permutation", "shuffle"),
    *("standard_normal", "binomial", "beta", "exponential", "poisson", "gamma", "laplace", "truncnorm"),
)
_OWN_GENERATOR = "np.random.default_rng(seed), or Keras's own initializers and keras.random with a SeedGenerator"


@contextmanager
def globals_watched(author: Author, seen: dict[str, str]) -> Iterator[None]:
    """Note each line of the author's that seeds the generators of the process, or draws from that of numpy.

    tuner's own code seeds them around own code, and puts them back: that is no line of the author's.
    """
    tensorflow = sys.modules.get("tensorflow")
    with ExitStack() as stack:
        places = [(random, "seed"), (np.random, "seed"), *([(tensorflow.random, "set_seed")] if tensorflow else [])]
        for module, name in places:
            stack.enter_context(_noted(module, name, author.calling_line, seen, "sets the seed of the process"))
        where = partial(author.calling_line, above=2, is_direct=True)
        for name in filter(partial(hasattr, np.random), _DRAWS):
            stack.enter_context(_noted(np.random, name, where, seen, "draws from the one generator of numpy"))
        yield


@contextmanager
def _noted(module: Any, name: str, where: Any, seen: dict[str, str], words: str) -> Iterator[None]:
    plain = getattr(module, name)

    def call(*arguments: Any, **options: Any) -> Any:
        if (line := where()) is not None:
            seen.setdefault(line, words)
        return plain(*arguments, **options)

    setattr(module, name, call)
    try:
        yield
    finally:
        setattr(module, name, plain)


def _leaves_process(subject: ArchitectureSubject) -> Iterator[str]:
    seen, before = dict(subject.author.seen), state()
    mark()
    with globals_watched(subject.author, seen):
        built = subject.build()
        built.run(drawn_images(subject.shape(), 2), training=True)
    for line, words in seen.items():
        yield f"{subject.name} {words} at {line}: draw from {_OWN_GENERATOR} instead"
    if not is_marked():
        calls = subject.author.calls(r".*clear_session")
        yield f"{subject.name} clears Keras's session{calls}: that forgets what others have built in this process"
    after = state()
    if "the random generator of numpy" in changed(before, after) and not seen:
        yield f"{subject.name} changes the random generator of numpy: draw from {_OWN_GENERATOR} instead"
    for words in changed(subject.before, after):
        if "generator" not in words and not ("seed" in words and seen):
            calls = subject.author.calls(r".*\.set_\w+|.*chdir")
            yield f"{subject.name} changes {words}{calls}: it stays so for all else in this process"


def _is_same_elsewhere(subject: ArchitectureSubject) -> Iterator[str]:
    if subject.elsewhere is None:
        return
    found = subject.elsewhere(subject.name)
    if error := found.get("error"):
        yield f"in a new process, {subject.name} cannot be built: {error}"
        return
    built = subject.built()
    here = fingerprint(built, subject.shape())
    if here["names"] != found["names"]:
        pair = _first_pair(here["names"], found["names"])
        yield f"in a new process, layers have other names ({pair}): names must not depend on what was built before"
        return
    for variable, one, other in zip(built.own_variables, here["weights"], found["weights"], strict=False):
        if one != other:
            yield (
                f"in a new process, the same seed gives other values for {built.told_variable(variable)}: they follow "
                "from hash(), a set's order, the time or another state of the process"
            )
            return
    if not is_close(np.asarray(here["features"]), np.asarray(found["features"])):
        yield f"in a new process, {subject.name} gives other features for the same images and weights"


def fingerprint(built: Built, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Return what must be the same of a network in every process."""
    return {
        "names": built.names,
        "weights": [digest(np.asarray(variable)) for variable in built.own_variables],
        "features": built.run(drawn_images(shape)).tolist(),
    }


def _goes_on(subject: ArchitectureSubject) -> Iterator[str]:
    """Train two epochs at a stretch, and again with a pause between them, as a search may."""
    data = drawn_dataset(subject.shape())
    head_epochs = 1 if subject.architecture.is_backbone else 0
    settings = TrialSettings(2, head_epochs, None, 0.0, "val_accuracy", "max", seed=3)
    configuration = subject.configuration({"batch_size": 8, **_deepest(subject)})
    whole = Trial(configuration, data, settings)
    epochs = [whole.advance(), whole.advance()]
    if whole.ended is not None and whole.ended.status == "failed":
        yield f"training fails: {whole.ended.reason}"
        return
    paused = Trial(configuration, data, settings)
    paused.advance()
    with tempfile.TemporaryDirectory() as folder:
        paused.save(Path(folder))
        resumed = Trial(configuration, data, settings)
        resumed.load(Path(folder))
    epoch = resumed.advance()
    if resumed.ended is not None and resumed.ended.status == "failed":
        yield f"after a pause, training fails: {resumed.ended.reason}"
    elif not _is_same_epoch(epochs[1], epoch):
        yield (
            f"after a pause, training goes on differently (loss {_loss(epoch):.6g}, without a pause "
            f"{_loss(epochs[1]):.6g}): a state that changes in training must be a variable of a layer (add_weight, "
            "SeedGenerator), since only variables are saved"
        )


def _deepest(subject: ArchitectureSubject) -> Mapping[str, Any]:
    return {"unfreeze_depth": 1} if subject.architecture.is_backbone else {}


def _loss(epoch: Epoch | None) -> float:
    return float("nan") if epoch is None else float(epoch.metrics["loss"])


def _is_same_epoch(one: Epoch | None, other: Epoch | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(np.isclose(value, other.metrics[name], rtol=1e-4, atol=1e-6) for name, value in one.metrics.items())


SAME_SEED = Check("seed", "the same values and seed give the same network, whatever was built before", _follows_seed)
OTHER_SEED = Check("other seed", "another seed gives other initial weights", _depends_on_seed)
LEAVES_PROCESS = Check("process", "leaves random generators and settings of the process alone", _leaves_process)
FRESH_PROCESS = Check(
    "new process", "the same values and seed give the same network in a new process", _is_same_elsewhere
)
PAUSES = Check("pause", "training goes on after a pause as if there had been none", _goes_on)
