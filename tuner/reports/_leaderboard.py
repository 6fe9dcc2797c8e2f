"""The leaderboard as Markdown: what won and by how much, how it was found, every trial, and how far to trust it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tuner.algorithms.schedulers import SCHEDULERS
from tuner.common.intervals import selected_interval
from tuner.common.metrics import ACCURACY, VALIDATION, epoch_objectives, oriented
from tuner.common.plugins import as_given
from tuner.common.words import counted
from tuner.reports._leaderboard_sections import (
    brief_comparisons,
    finalists_section,
    front_section,
    interval_words,
    legend,
    reason_text,
    status_words,
    trial_sections,
)
from tuner.reports._probe_sections import probes_section, suspects_section
from tuner.reports.formatting import (
    capital,
    code,
    escaped,
    fenced,
    format_duration,
    format_gain,
    format_value,
    is_share,
    metric_words,
    without_folders,
)
from tuner.reports.remarks import edges, majority_sentences
from tuner.reports.results import Results, TrialResult
from tuner.runs.finalists import Finalist


class FigureLink(NamedTuple):
    """A picture of the report: its path relative to the page, and what it shows in words."""

    path: str
    alt: str


class PageTexts(NamedTuple):
    """The texts of a page in Markdown: the answer, and what belongs to each of its parts."""

    verdict: str
    parts: Mapping[str, Sequence[str]]


def leaderboard_markdown(
    results: Results,
    *,
    retrain_command: str | None = None,
    figures: Sequence[FigureLink] = (),
    data: Sequence[str] = (),
) -> str:
    """Return the page. `retrain_command` trains the winner again; `figures` are shown with their descriptions.

    `data` are the lines of the section about the data.
    """
    sections = [
        [f"# Leaderboard: {escaped(results.name)}" if results.name else "# Leaderboard"],
        [_verdict(results)],
        run_facts(results),
        _winner(results, retrain_command),
        finalists_section(results),
        front_section(results),
        _trust(results),
        _next(results),
        probes_section(results),
        data,
        suspects_section(results),
        *trial_sections(results),
        _notices(results),
        _figures(figures),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def page_texts(
    results: Results,
    *,
    retrain_command: str | None = None,
    predict_command: str | None = None,
    shows_suspects: bool = False,
) -> PageTexts:
    """Return the texts of the HTML page; the trials themselves are its table.

    With `shows_suspects` it has pictures of images whose labels look wrong, in place of their table.
    """
    failures = [section for section in trial_sections(results) if section[0] != "## Trials"]
    parts = {
        "won": [finalists_section(results), front_section(results)],
        "trust": [_trust(results)[1:]],
        "mattered": [_next(results), probes_section(results)],
        "data": [suspects_section(results, with_table=not shows_suspects)],
        "use": [_winner(results, retrain_command), _use(results, predict_command)],
        "leaderboard": [legend(results)],
        "failures": [*failures, _notices(results)],
        "environment": [run_facts(results)],
    }
    joined = {part: [_lower("\n".join(section)) for section in sections if section] for part, sections in parts.items()}
    return PageTexts(_verdict(results), joined)


def _lower(text: str) -> str:
    """Return a section with its heading one level lower, to stand inside a part."""
    return f"#{text}" if text.startswith("## ") else text


def _verdict(results: Results) -> str:
    """Say in one paragraph what won."""
    winner = results.winner
    if results.study is None:
        return "The record is empty: no search has begun."
    if winner is None:
        return f"**No trial has a result{': all have failed' if results.failed and not results.waiting else ' yet'}.**"
    if results.finalists:
        return _finalist_verdict(results, results.finalists[0])
    value = format_value(results.metric, winner.best)
    words = f"**Trial {_named(winner)} {_won(results)} with {escaped(results.metric)} {value}**"
    return f"{words}, {_comparison(results, winner)}"


def _won(results: Results) -> str:
    return "is ahead" if results.is_open else "won"


def _finalist_verdict(results: Results, first: Finalist) -> str:
    """Say which finalist won: the headline is its mean over trainings, beside it the one training that is exported."""
    repeat = results.repeat
    name = _named(results.chosen) if results.chosen is not None else str(first.trial)
    if first.test is None:
        value = f"{escaped(results.metric)} {format_value(results.metric, first.validation.mean)}"
        mean = "" if first.trained == 1 else ", the mean"
        words = f"**Trial {name} {_won(results)} with {value}**{mean} of {counted(first.trained, repeat)}"
        if results.not_tested:
            return f"{words}; it is not tested: {escaped(results.not_tested)}."
        return f"{words}; its test {metric_words(results.judge)} is not known yet."
    metric, between = results.judge, interval_words(results.judge, first.test)
    value = f"{metric_words(metric)} {format_value(metric, first.test.mean)}"
    words = f"**Trial {name} {_won(results)} with test {value}**"
    if first.tested == 1:
        words += (
            f", one {repeat} (95% interval for new images alone {between}; what another {repeat} does is not known)."
        )
    else:
        words += (
            f", the mean of {first.tested} {repeat}s (95% interval for the mean over "
            f"{'other folds' if results.folds else 'new seeds'} and new images: {between})."
        )
    if first.groups:
        words += f" The test images are of {first.groups:,} groups, which intervals draw as wholes."
    if metric != ACCURACY and first.test_accuracy is not None:
        words += f" Its test accuracy is {format_value(ACCURACY, first.test_accuracy.mean)}."
    if first.tested > 1 and first.model_test is not None:
        formula = metric == ACCURACY and not first.groups
        own, how = interval_words(metric, first.model_test), "Wilson" if formula else "bootstrap"
        exported = f"{results.study.model_name if results.study else 'best'} is {_exported(results, first)}"
        words += f" {exported}: {format_value(metric, first.model_test.mean)}, for new images {own} ({how})."
    majority = [f"{capital(escaped(one))}." for one in majority_sentences(results)]
    return " ".join([words, *majority, *brief_comparisons(results)])


def _exported(results: Results, first: Finalist) -> str:
    """Name the training whose model is exported."""
    if not results.folds or first.model is None:
        return "one of these trainings"
    return f"the training on fold {first.model + 1}, which has the best value on its own validation part"


def _named(trial: TrialResult) -> str:
    is_baseline = ", the baseline," if trial.is_baseline else ""
    return f"{trial.number} ({escaped(trial.architecture)}){is_baseline}" if trial.architecture else trial.label


def _comparison(results: Results, winner: TrialResult) -> str:
    baseline, gain = results.baseline, results.gain(winner)
    so_far = " so far" if results.is_open else ""
    if baseline is None:
        lost = "its population has changed the baseline, so no gain can be stated"
        return f"the best of the search; {lost if results.has_lost_baseline else 'it had no baseline to compare with'}."
    if baseline.status == "failed":
        return f"but the baseline (trial {baseline.number}) failed, so no gain can be stated: {reason_text(baseline)}."
    if winner.is_baseline:
        words = "the search found nothing better" if len(results.ranked) > 1 else "the only one with a value"
        return f"{words}{so_far}."
    if gain is None:
        return f"but the baseline (trial {baseline.number}) has no value yet to compare with."
    unit = "percentage points" if is_share(results.metric) else f"of {escaped(results.metric)}"
    by = format_gain(results.metric, abs(gain.value)).removeprefix("+")
    words = "no better" if float(by) == 0 else f"{by} {unit} {'better' if gain.value > 0 else 'worse'}"
    basis = f"{gain.basis}, " if gain.basis else ""
    return (
        f"{basis}{words} than the baseline's {format_value(results.metric, gain.baseline)} (trial {baseline.number}), "
        "in one training each: no verdict, as another seed may turn it round."
    )


def run_facts(results: Results) -> list[str]:
    """Say how many trials, how long, on what, with which seed."""
    if results.study is None:
        return []
    counts = ", ".join(f"{number} {status}" for status, number in results.counts.items())
    sessions = f" in {len(results.sessions)} sessions" if len(results.sessions) > 1 else ""
    epochs = counted(results.total_epochs, "epoch")
    rows = [
        ("Trials", f"{len(results.trials):,} ({counts})" if results.trials else "none"),
        ("Search", f"{_session(results)}; {_end(results)}"),
        ("Warm start", _warm_start(results, results.study.specification)),
        ("Time", f"{format_duration(results.elapsed_s)}{sessions}{_finalists_time(results)}, {epochs} in trials"),
        ("Data", _data(results.study.data, results.study.folds)),
        ("Seed", str(results.study.seed)),
        ("Environment", _environment(results.study.environment)),
    ]
    return [f"- **{name}**: {text}" for name, text in rows if text]


def _finalists_time(results: Results) -> str:
    if results.finalists_from_s is None:
        return ""
    return f", of these {format_duration(results.finalists_s)} for the finalists"


def _session(results: Results) -> str:
    if not results.sessions:
        return "not begun"
    last = results.sessions[-1]
    slots, gpus = counted(last.max_concurrent, "trial"), last.gpus_per_trial
    each = f", each on {counted(gpus, 'GPU')}{' at once' * (gpus > 1)}" if gpus else ""
    is_there = last.augment_on == "device" and results.study is not None and results.study.trainable is None
    where = ", images augmented on the device" if is_there else ""
    return f"sampler {escaped(last.sampler)}, scheduler {escaped(last.scheduler)}, {slots} at a time{each}{where}"


def _warm_start(results: Results, specification: Mapping[str, Any]) -> str:
    """Name what the search began with: earlier studies, without the way to them on this machine, and the prior."""
    search = specification.get("search")
    names = search.get("warm_start") if isinstance(search, dict) else None
    parts = [escaped(Path(str(name)).name) for name in names] if isinstance(names, list) else []
    if recipes := sum(trial.origin == "prior" for trial in results.trials):
        parts.append(f"{counted(recipes, 'trial')} of the prior that comes with tuner")
    return ", ".join(parts)


def _end(results: Results) -> str:
    ended = results.session_ended
    if ended is None:
        return "the record does not say that it ended: it is running, or was killed"
    if ended.reason == "error":
        return f"it ended with an error: {escaped(ended.message or 'no message')}"
    words = {"time_budget": "time budget spent", "expected_gain": "ended, as little more was expected to be gained"}
    return words.get(ended.reason, ended.reason)


def _data(data: Mapping[str, Any], folds: int = 0) -> str:
    """Describe the data set; what the record does not know is left out."""
    name, source = str(data.get("name", "")), without_folders(str(data.get("source", "")))
    parts = [escaped(name) + (f" from {escaped(source)}" if source and source != name else "")]
    for key, word in (("train_images", "training images"), ("validation_images", "validation images")):
        if isinstance(data.get(key), int):
            parts.append(f"{data[key]:,} {word}")
    if folds:
        parts.append(f"the first of {folds} folds")
    if isinstance(data.get("image_shape"), list | tuple):
        parts.append("x".join(escaped(size) for size in data["image_shape"]))
    if isinstance(data.get("class_names"), list | tuple):
        parts.append(f"{len(data['class_names'])} classes")
    if data.get("fingerprint"):
        parts.append(f"fingerprint {escaped(str(data['fingerprint'])[:16])}")
    return ", ".join(part for part in parts if part)


def _environment(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages")
    versions = packages.items() if isinstance(packages, dict) else ()
    parts = [f"{name} {version}" for name, version in versions if version]
    if environment.get("cpus"):
        parts.append(f"{environment['cpus']} CPUs")
    if environment.get("commit"):
        parts.append(f"commit {str(environment['commit'])[:12]}")
    return escaped(", ".join(parts))


def _winner(results: Results, retrain_command: str | None) -> list[str]:
    winner = results.chosen
    if winner is None:
        return []
    configuration = yaml.safe_dump(dict(winner.configuration), sort_keys=False, allow_unicode=True, width=120)
    lines = ["## The best configuration", "", *_reached(winner), "", *fenced(configuration, "yaml")]
    latest = results.sessions[-1].scheduler if results.sessions else ""
    if latest in SCHEDULERS and SCHEDULERS[latest].is_population:
        lines += [
            "",
            "The members of a population change their configuration while they train: this is the latest one.",
        ]
    if retrain_command is not None:
        lines += ["", "Train it again, with the same seed:", "", *fenced(retrain_command, "sh")]
    return lines


def _reached(winner: TrialResult) -> list[str]:
    """Say when the winner was best, and all values there."""
    at = winner.best_epoch
    if at is None:
        return [f"Trial {winner.number}:"]
    size = "" if winner.parameters is None else f"; {winner.parameters:,} parameters"
    names = [name for name in epoch_objectives() if name in at.metrics]
    validation = [f"{metric_words(name)} {format_value(name, at.metrics[name])}" for name in names]
    trained = [name for name in (one.removeprefix(VALIDATION) for one in names) if name in at.metrics]
    training = " and ".join(format_value(name, at.metrics[name]) for name in trained)
    in_training = f"; in training {training}" if training else ""
    return [
        f"Trial {winner.number} ({status_words(winner)}) was best at epoch {at.epoch} of {winner.epochs[-1].epoch}: "
        f"{', '.join(validation)}{in_training}{size}."
    ]


def _use(results: Results, predict_command: str | None) -> list[str]:
    """Show how to predict with the exported model."""
    if predict_command is None:
        return []
    if results.study is not None and results.study.trainable is not None:
        return _use_state(results, predict_command)
    plugins = [as_given(one) for one in (results.study.plugins if results.study is not None else ())]
    program = (
        "import keras\n"
        'model = keras.models.load_model("best.keras")  # its preprocessing is inside; tuner is not needed\n'
        if not plugins
        else "import tuner\n"
        f"run = tuner.load_run({shlex.split(predict_command)[3]!r}, plugins={plugins})\n"
        "model = run.best_model()  # its preprocessing is inside; layers of own code are loaded with their plugins\n"
    )
    program += "probabilities = model.predict(images)  # raw images [N, H, W, C] of any size, values 0 to 255"
    return [
        "## Predict with it", "", *fenced(predict_command, "sh"), "",
        "or in Python; the class of each probability is in `labels.json` beside it:", "", *fenced(program, "python"),
    ]  # fmt: skip


def _use_state(results: Results, predict_command: str) -> list[str]:
    """Show how to use the state that a training function of one's own has left."""
    program = 'import tuner\n\nstate = tuner.load_state("best.npz")  # as the training function yielded it'
    command = ["", *fenced(predict_command, "sh"), "", "or in Python:"]
    why = f"It cannot predict by itself: {escaped(results.not_tested)}. " if results.not_tested else ""
    words = [
        f"{why}What is exported is the state of the best epoch, `best.npz`: arrays and JSON, no network of Keras. "
        "Its configuration and its classes are in `best.json` and `labels.json` beside it."
    ]
    return ["## Predict with it", "", *words, *([] if why else command), "", *fenced(program, "python")]


def _trust(results: Results) -> list[str]:
    """Say how far these numbers can be trusted."""
    number = len(results.ranked)
    if not number:
        return []
    sentences = [
        "The values of trials are validation values of one training each, with one seed each, at its best epoch; "
        "the search itself reads no test image.",
        *(_selection(results) if number > 1 else []),
        *_trained_again(results),
        *_going_on(results),
    ]
    if "stopped" in results.counts:
        sentences.append("Stopped trials were ended early; longer training might have changed their place.")
    return ["## How far to trust this", "", *sentences]


def _selection(results: Results) -> list[str]:
    """Say what it does to a value that it was picked among many; in numbers for an accuracy."""
    best, images = results.winner, results.study.data.get("validation_images") if results.study else None
    if best is None or best.best is None:
        return []
    extreme, less = ("highest", "less") if results.mode == "max" else ("lowest", "more")
    candidates = sum(len(trial.epochs) for trial in results.ranked)
    words = (
        f"The {extreme} value, {format_value(results.metric, best.best)} of trial {best.number}, is the best of "
        f"{len(results.ranked):,} trials and {counted(candidates, 'epoch')}, so it is optimistic: "
        f"expect somewhat {less} on new images."
    )
    if results.metric != "val_accuracy" or not isinstance(images, int) or images < 1 or not 0 <= best.best <= 1:
        return [words]
    if _are_grouped(results):
        return [f"{words} No interval is given for it, as the {images:,} validation images hang together in groups."]
    low, high = selected_interval(best.best, images, candidates)
    return [
        f"{words} Chosen among so many on {images:,} validation images, that training's accuracy on new images "
        f"is between {low:.1%} and {high:.1%} (at least 95%; exact intervals, Bonferroni)."
    ]


def _are_grouped(results: Results) -> bool:
    """Say whether validation images are of groups, which say less than as many others; as far as the record tells."""
    study = results.study
    asked = study.specification.get("data") if study is not None else None
    is_asked = isinstance(asked, dict) and asked.get("group") is not None  # records did not always have their number
    told = study.data.get("validation_groups", is_asked) if study is not None else None
    return bool(told)


def _trained_again(results: Results) -> list[str]:
    """Say what became of the chosen finalist's value when it was trained as it had not been when it was chosen."""
    chosen = results.chosen
    if not results.finalists or chosen is None or chosen.best is None:
        return []
    first, metric = results.finalists[0], results.metric
    lost = oriented(chosen.best - first.validation.mean, results.mode)
    unit = " points" if is_share(metric) else ""
    size = f"{abs(lost) * 100:.2f}" if is_share(metric) else f"{abs(lost):.4f}"
    what = f"{size}{unit} {'worse' if lost > 0 else 'better'}" if float(size) else "the same"
    again = f"on {counted(first.trained, 'fold')}" if results.folds else f"with {counted(first.trained, 'new seed')}"
    words = (
        f"Trained again {again}, trial {chosen.number}, the winner, has "
        f"{format_value(metric, first.validation.mean)} instead of {format_value(metric, chosen.best)} in "
        f"the search: {what}."
    )
    is_read_once = bool(first.tested) and results.test_readings == 1
    return [words, *([f"No choice was made by its test {metric_words(results.judge)}."] if is_read_once else [])]


def _going_on(results: Results) -> list[str]:
    """Say what more of the search is expected to gain, and what a seed alone changes; nothing of several metrics."""
    gains, metric = results.expected_gains, results.metric
    known = {name: gain for name, gain in gains.items() if gain is not None}
    if not known:
        return []
    unit, factor, digits = (" points", 100, 2) if is_share(metric) else ("", 1, 4)
    parts = [
        f"another {name} {factor * gain.mean:.{digits}f}{unit} "
        f"(80% interval {factor * gain.low:.{digits}f} to {factor * gain.high:.{digits}f})"
        for name, gain in known.items()
    ]
    deviations = [one.deviation for one in results.finalists if one.deviation is not None]
    noise = (
        f" For comparison: from {results.repeat} to {results.repeat} the finalists' values differ by "
        f"{factor * max(deviations):.{digits}f}{unit} (the largest of their standard deviations)."
        if deviations
        else ""
    )
    return [
        f"If it goes on as so far, the best value of the search is expected to gain: {', '.join(parts)}. That is "
        "forecast from the course of the best value, takes for granted that trials do not run out, and was rather low "
        f"in simulated searches.{noise}"
    ]


def _next(results: Results) -> list[str]:
    """List values of the best trial at the ends of their ranges."""
    lines = [f"- {capital(escaped(edge.said))}; try {code(edge.wider)}." for edge in edges(results)]
    return ["## What to try next", "", *lines] if lines else []


def _notices(results: Results) -> list[str]:
    """List what the search said on the way, such as a cache that could not be used."""
    lines = [f"- {escaped(text)}" for text in results.notices]
    return ["## Said on the way", "", *lines] if lines else []


def _figures(figures: Sequence[FigureLink]) -> list[str]:
    if not figures:
        return []
    pictures = [line for figure in figures for line in (f"![{escaped(figure.alt)}]({figure.path})", "")]
    return ["## Figures", "", *pictures[:-1]]
