"""Wrong search-space files: a right one, mistakes to be made in it, and the words that the user must get to see."""

from __future__ import annotations

RIGHT = """\
study: small
data: {source: digits, validation_fraction: 0.2}
metric: val_accuracy
space:
  preprocess: {choice: ["scale(0,1)", standardise]}
  augment: {choice: [none, "shift(1)"]}
  batch_size: {choice: [32, 64]}
  learning_rate: {log_float: [1e-4, 1e-2]}
  architecture:
    choose:
      dense: {dense_units: {choice: [32, 64]}, dropout: {float: [0, 0.5]}}
      cnn: {blocks: {int: [1, 3]}}
baseline: {preprocess: standardise, augment: none, batch_size: 32, learning_rate: 0.001, architecture: cnn, blocks: 2}
training: {max_epochs: 16, head_epochs: 3}
search: {sampler: tpe, scheduler: none, trials: 8}
resources: {cpus_per_trial: 1}
"""
NO_BASELINE = {13: ""}
BACKBONE = {
    5: '  preprocess: "scale(0,1)"',
    12: "      mobilenet_v2: {unfreeze_depth: {int: [0, 4]}}",
    **NO_BASELINE,
}


def wrong(lines: dict[int, str]) -> str:
    """The right file with some of its lines (counted from 1) replaced."""
    written = RIGHT.splitlines()
    for number, line in lines.items():
        written[number - 1] = line
    return "\n".join(written) + "\n"


# What is replaced in the right file -> every problem that must be reported, and no other: "line: words".
MISTAKES: dict[str, tuple[dict[int, str], list[str]]] = {
    # --- the top level ---
    "unknown section": ({3: "metrik: val_accuracy"}, ["3: metrik: unknown section 'metrik'; did you mean 'metric'?"]),
    "no study": ({1: ""}, ["2: study must be given"]),
    "study with a slash": ({1: "study: ../small"}, ["1: study must be at most 64 letters, digits, '_', '-' or '.',"]),
    "study that is a number": ({1: "study: 5"}, ["1: study must be text; got 5"]),
    "study that is too long": ({1: "study: " + "x" * 65}, ["1: study must be at most 64 letters"]),
    "study of control characters": ({1: r'study: "a\u0007b"'}, ["1: study must be text without control characters; got 'a\\x07b'"]),
    "unknown metric": ({3: "metric: accuracy"}, ["3: metric: unknown metric 'accuracy'; did you mean 'val_accuracy'? (known: val_accuracy, val_auc, val_balanced_accuracy, val_loss, val_macro_f1, val_top5_accuracy)"]),
    "metric that no epoch measures": ({3: "metric: parameters"}, ["3: metric must be one of val_accuracy, val_loss, val_balanced_accuracy, val_macro_f1, val_auc, val_top5_accuracy, which epochs measure; parameters, seconds_per_image and model_mb can follow it in metrics: [...]; got 'parameters'"]),
    "no epoch's metric first": ({3: "metrics: [model_mb, val_loss]", 15: ""}, ["3: metrics[0] must be one of val_accuracy, val_loss, val_balanced_accuracy, val_macro_f1, val_auc, val_top5_accuracy, which epochs measure; parameters, seconds_per_image and model_mb can follow it in metrics: [...]; got 'model_mb'"]),
    "unknown metric in a list": ({3: "metrics: [val_loss, parms]", 15: ""}, ["3: metrics[1]: unknown metric 'parms'; did you mean 'parameters'? (known: model_mb, parameters, seconds_per_image, val_accuracy, val_auc, val_balanced_accuracy, val_loss, val_macro_f1, val_top5_accuracy)"]),
    "metric named twice": ({3: "metrics: [val_loss, val_loss]", 15: ""}, ["3: metrics[1] must be named once; got 'val_loss' again"]),
    "no metrics": ({3: "metrics: []"}, ["3: metrics must name at least one metric, the one that the scheduler compares first; got []"]),
    "metrics that are one name": ({3: "metrics: val_loss"}, ["3: metrics must be a list, written [one, two], or none; got 'val_loss'"]),
    "metrics with a number": ({3: "metrics: [val_loss, 3]"}, ["3: metrics[1] must be text; got 3"]),
    "metric beside metrics": ({2: "data: {source: digits}\nmetrics: [val_loss]"}, ["3: metrics must not be given beside metric: the first of metrics takes its place"]),
    "several metrics for a sampler of one": ({3: "metrics: [val_accuracy, parameters]"}, ["15: search.sampler must be auto, gp, grid, nsga2, qmc or random with several metrics; got tpe, which knows one"]),
    "several metrics and a gain of one": ({3: "metrics: [val_accuracy, parameters]", 15: "search: {stop_when: {expected_gain_below: 0.1, within: 9m}}"}, ["15: search.stop_when must be none with several metrics: they have no best value to gain on"]),
    "several metrics for a scheduler with its own sampler": (
        {3: "metrics: [val_accuracy, parameters]", 15: "search: {scheduler: bohb}"},
        ["15: search.scheduler must not be bohb with several metrics: its sampler, tpe, knows one"],
    ),
    "section twice": ({3: "study: again"}, ["3: study must be given once; first on line 1"]),
    "two sections that are wrong at once": (
        {14: "training: {epochs: 3}", 15: "search: 7"},
        ["14: training.epochs: unknown setting 'epochs'; did you mean 'max_epochs'?", "15: search must map sampler, scheduler, trials"],
    ),
    # --- data ---
    "no data": ({2: ""}, ["1: data must map source, validation_fraction, image_px"]),
    "data that is a text": ({2: "data: digits"}, ["2: data must map source, validation_fraction, image_px, colour, broken_images, max_train_images, max_validation_images, layout, storage, jpeg_quality, validation, columns, group, fit to values; got 'digits'"]),
    "data without a source": ({2: "data: {}"}, ["2: data.source must be given"]),
    "unknown source": ({2: "data: {source: digitz}"}, ["2: data.source: unknown data source 'digitz'; did you mean 'digits'?"]),
    "unknown kind of source": ({2: "data: {source: 'foldr:x'}"}, ["2: data.source"]),
    "fraction above 1": ({2: "data: {source: digits, validation_fraction: 20}"}, ["2: data.validation_fraction must be below 1; got 20"]),
    "fraction of 0": ({2: "data: {source: digits, validation_fraction: 0}"}, ["2: data.validation_fraction must be above 0; got 0"]),
    "fraction as text": ({2: "data: {source: digits, validation_fraction: 20%}"}, ["2: data.validation_fraction must be a number; got '20%'"]),
    "fraction not a number": ({2: "data: {source: digits, validation_fraction: .nan}"}, ["2: data.validation_fraction must be a finite number; got .nan"]),
    "setting with a hyphen": ({2: "data: {source: digits, image-px: 3}"}, ["2: data.image-px: unknown setting 'image-px'; did you mean 'image_px'?"]),
    "setting named like a type": ({2: "data: {source: digits, int: 3}"}, ["2: data.int: unknown setting 'int'"]),
    "images of one pixel": ({2: "data: {source: digits, image_px: 1}"}, ["2: data.image_px must be at least 4, or none; got 1"]),
    "unknown colour": ({2: "data: {source: digits, colour: gray}"}, ["2: data.colour must be 'auto', 'rgb' or 'grey'; got 'gray'"]),
    "unknown fit": ({2: "data: {source: digits, fit: fill}"}, ["2: data.fit must be 'crop', 'pad' or 'stretch'; got 'fill'"]),
    "source that is a date": ({2: "data: {source: 2026-01-01}"}, ["2: data.source"]),
    # --- the space and its dimensions ---
    "no space": ({4: "spacer:"}, ["1: space must map names to what may be chosen; got nothing", "4: spacer: unknown section 'spacer'; did you mean 'space'?"]),
    "dimension that is a list": ({7: "  batch_size: [32, 64]"}, ["7: space.batch_size must be a value, {choice: [...]} or another of choice, int, log_int, float, log_float, choose; got [32, 64]"]),
    "misspelt kind": ({7: "  batch_size: {chioce: [32, 64]}"}, ["7: space.batch_size.chioce: unknown kind of dimension 'chioce'; did you mean 'choice'?"]),
    "two kinds": ({7: "  batch_size: {int: [32, 64], choice: [32]}"}, ["7: space.batch_size must have exactly one of choice, int, log_int, float, log_float, choose; got int, choice"]),
    "no kind": ({7: "  batch_size: {}"}, ["7: space.batch_size must have exactly one of choice, int, log_int, float, log_float, choose; got nothing"]),
    "empty choice": ({7: "  batch_size: {choice: []}"}, ["7: space.batch_size.choice must be a list of values; got []"]),
    "value listed twice": ({7: "  batch_size: {choice: [32, 64, 32]}"}, ["7: space.batch_size.choice[2] must not be listed twice; got 32"]),
    "one value as two numbers": ({7: "  batch_size: {choice: [32, 32.0]}"}, ["7: space.batch_size.choice[1] must not be listed twice; got 32.0"]),
    "numbers and text": ({7: "  batch_size: {choice: [32, sixty]}"}, ["7: space.batch_size.choice must be of one type, so that tables have typed columns; got numbers and text", "7: space.batch_size.choice[1] must be a whole number between 1 and 65536; got 'sixty'"]),
    "list in a choice": ({7: "  batch_size: {choice: [32, [64]]}"}, ["7: space.batch_size.choice[1] must be a plain value; got [64]"]),
    "range the wrong way round": ({12: "      cnn: {blocks: {int: [3, 1]}}"}, ["12: space.architecture.choose.cnn.blocks.int must be [low, high] with low at most high; got [3, 1]"]),
    "range of one number": ({8: "  learning_rate: {float: [0.1]}"}, ["8: space.learning_rate.float must be [low, high], two numbers; got [0.1]"]),
    "whole range of fractions": ({12: "      cnn: {blocks: {int: [1, 2.5]}}"}, ["12: space.architecture.choose.cnn.blocks.int must be [low, high], two whole numbers; got [1, 2.5]"]),
    "log scale from 0": ({8: "  learning_rate: {log_float: [0, 0.1]}"}, ["8: space.learning_rate.log_float must be above 0 on a log scale; got [0, 0.1]"]),
    "range to infinity": ({8: "  learning_rate: {log_float: [1e-4, .inf]}"}, ["8: space.learning_rate.log_float[1] must be a finite number; got .inf"]),
    "range wider than any number": ({8: "  learning_rate: {float: [-1e308, 1e308]}"}, ["8: space.learning_rate.float must be [low, high] with a finite distance; got [-1e+308, 1e+308]"]),
    "whole number of 400 digits": ({12: "      cnn: {blocks: {int: [1, " + "9" * 400 + "]}}"}, ["12: space.architecture.choose.cnn.blocks.int[1] must be smaller than 2**53; got 999"]),
    "whole number of 5,000 digits": ({12: "      cnn: {blocks: {int: [1, " + "9" * 5000 + "]}}"}, ["12: space.architecture.choose.cnn.blocks.int[1] must be plain text or a number; got '999"]),
    "step that does not fit": ({12: "      cnn: {blocks: {int: [1, 4], step: 2}}"}, ["12: space.architecture.choose.cnn.blocks.step must be a whole number that divides 3; got 2"]),
    "step of 0": ({12: "      cnn: {blocks: {int: [1, 3], step: 0}}"}, ["12: space.architecture.choose.cnn.blocks.step must be a whole number that divides 2; got 0"]),
    "step of a float": ({8: "  learning_rate: {float: [0.1, 0.3], step: 0.1}"}, ["8: space.learning_rate.step must be left out with float: only int has steps"]),
    "name with a space": ({7: "  batch size: 32", **NO_BASELINE}, ["7: space.batch size must be a name of letters, digits and underscores; got 'batch size'"]),
    "name that exists outside the branch": ({12: "      cnn: {batch_size: 32}", **NO_BASELINE}, ["12: space.architecture.choose.cnn.batch_size must not repeat a name that exists outside this branch"]),
    "branches without parameters": ({10: "    choose: {}", 11: "", 12: "", **NO_BASELINE}, ["10: space.architecture.choose must map each branch to its parameters; got {}"]),
    "branch that is a number": ({12: "      cnn: 3", **NO_BASELINE}, ["12: space.architecture.choose.cnn must map names to what may be chosen; got 3"]),
    "branch with a dot": ({12: "      cnn.v2: {}", **NO_BASELINE}, ["12: space.architecture.choose.cnn.v2 must be a name of letters, digits, '_' and '-'; got 'cnn.v2'", "12: space.architecture.choose.cnn.v2: unknown architecture 'cnn.v2'; did you mean 'cnn'?"]),
    # --- names ---
    "no architecture": ({9: "  dropout: {float: [0, 0.5]}", 10: "", 11: "", 12: "", **NO_BASELINE}, ["4: space must have an architecture (known: cnn, convnext_base,"]),
    "unknown architecture": ({12: "      cn: {blocks: 2}", **NO_BASELINE}, ["12: space.architecture.choose.cn: unknown architecture 'cn'; did you mean 'cnn'?"]),
    "unknown architecture in a choice": (
        {9: "  architecture: {choice: [cnn, dens]}", 10: "  dense_units: 32", 11: "", 12: "", **NO_BASELINE},
        ["9: space.architecture.choice[1]: unknown architecture 'dens'; did you mean 'dense'?"],
    ),
    "architecture that is a number": ({9: "  architecture: 5", 10: "", 11: "", 12: "", **NO_BASELINE}, ["9: space.architecture: unknown architecture '5'"]),
    "architecture that is a range": ({9: "  architecture: {int: [1, 2]}", 10: "", 11: "", 12: "", **NO_BASELINE}, ["9: space.architecture must be a choice of names; got int 1 to 2"]),
    "unknown general hyperparameter": ({7: "  batchsize: 32", **NO_BASELINE}, ["7: space.batchsize: unknown hyperparameter 'batchsize'; did you mean 'batch_size'?"]),
    "hyperparameter of another architecture": ({12: "      cnn: {alpha: 1.0}", **NO_BASELINE}, ["12: space.architecture.choose.cnn.alpha: unknown hyperparameter 'alpha'"]),
    "value out of range": ({12: "      cnn: {blocks: {int: [0, 3]}}"}, ["12: space.architecture.choose.cnn.blocks must be between 1 and 8; got 0"]),
    "fractions of blocks": ({12: "      cnn: {blocks: {float: [1, 3]}}"}, ["12: space.architecture.choose.cnn.blocks must be a whole number between 1 and 8; got 1.0"]),
    "constant out of range": ({7: "  batch_size: 0", **NO_BASELINE}, ["7: space.batch_size must be between 1 and 65536; got 0"]),
    "range of words": ({5: "  preprocess: {float: [0, 1]}", **NO_BASELINE}, ["5: space.preprocess must be text, not a range; got 0.0 to 1.0"]),
    "branching batch size": ({7: "  batch_size: {choose: {small: {}, large: {}}}", **NO_BASELINE}, ["7: space.batch_size must not branch: only the architecture and augment have parameters of their own"]),
    "value that one of two architectures does not take": (
        {9: "  architecture: {choice: [mobilenet_v2, mobilenet_v3_small]}", 10: "  alpha: {choice: [0.35, 1.0]}", 11: "", 12: "", **NO_BASELINE},
        ["10: space.alpha.choice[0] must be one of 0.75, 1.0; got 0.35"],
    ),
    "unknown preprocessing": ({5: '  preprocess: {choice: ["resise(64)"]}', **NO_BASELINE}, ["5: space.preprocess.choice[0]: unknown preprocessing 'resise'; did you mean 'resize'?"]),
    "preprocessing with a wrong argument": ({5: '  preprocess: "resize(big)"', **NO_BASELINE}, ["5: space.preprocess: resize: px must be a whole number between 1 and 2048; got 'big'"]),
    "preprocessing that is not closed": ({5: '  preprocess: "resize(64"', **NO_BASELINE}, ["5: space.preprocess: preprocessing must be written name or name(arguments), separated by |; got 'resize(64'"]),
    "unknown augmentation": ({6: "  augment: {choice: [none, flop]}"}, ["6: space.augment.choice[1]: unknown augmentation 'flop'; did you mean 'flip'?"]),
    # --- strengths ---
    **{f"strengths: {augment}": ({6: f"  augment: {{choose: {augment}}}", **NO_BASELINE}, [f"6: space.augment.choose{words}" for words in found]) for augment, *found in (
        ("{a: {rotat: 5}}", ".a.rotat: unknown augmentation 'rotat'; did you mean 'rotate'?"),
        ("{a: rotat(5)}", ".a: unknown augmentation 'rotat'; did you mean 'rotate'?"),
        ("{a: 'flip|shift(x)'}", ".a: shift: px must be a whole number between 0 and 256; got 'x'"),
        ("{a: 'flip|'}", ".a must be written name or name(arguments), separated by |; got ''"),
        ("{a: {rotate: {float: [0, 200]}}}", ".a.rotate must be between 0 and 180; got 200.0"),
        ("{a: {rotate: {float: [-5, 5]}}}", ".a.rotate must be between 0 and 180; got -5.0"),
        ("{a: {rotate: -5}}", ".a.rotate: rotate: degrees must be a number between 0 and 180; got '-5'"),
        ("{a: {rotate: {choice: [5, 500]}}}", ".a.rotate.choice[1]: rotate: degrees must be a number between 0 and 180; got '500'"),
        ("{a: {rotate: {flaot: [0, 30]}}}", ".a.rotate.flaot: unknown kind of dimension 'flaot'; did you mean 'float'?"),
        ("{a: {rotate: {degree: 5}}}", ".a.rotate.degree: unknown argument of rotate 'degree'; did you mean 'degrees'?"),
        ("{a: {rotate: {degrees: 500}}}", ".a.rotate.degrees must be between 0 and 180; got 500"),
        ("{a: {rotate: [0, 30]}}", ".a.rotate must be a strength, {float: [low, high]} or another range"),
        ("{a: {rotate: {float: [30, 0]}}}", ".a.rotate.float must be [low, high] with low at most high"),
        ("{a: {rotate: {}}}", ".a.rotate: rotate: degrees must be given; it must be a number between 0 and 180"),
        ("{a: {rotate: true}}", ".a.rotate: rotate: degrees must be given; it must be a number between 0 and 180"),
        ("{a: {rotate: }}", ".a.rotate must be a strength, {} for what rotate has by itself, or none to leave it out; got nothing"),
        ("{a: {rotate: {choose: {b: {}}}}}", ".a.rotate must not branch"),
        ("{a: {mixup: {log_float: [0, 1]}}}", ".a.mixup.log_float must be above 0 on a log scale"),
        ("{a: {shift: {float: [0, 4]}}}", ".a.shift must be a whole number between 0 and 256; got 0.0"),
        ("{a: {flip: sideways}}", ".a.flip: flip: direction must be one of horizontal, vertical, both; got 'sideways'"),
        ("{a: {flip: {int: [0, 1]}}}", ".a.flip must be one of none, horizontal, vertical, both, not a range; got 0 to 1"),
        ("{a: {'flip(both)': {}}}", ".a.flip(both) must be an operation's name, its strength behind the colon; got 'flip(both)'"),
        ("{a: [flip]}", ".a must be a text such as flip|shift(2), or operations with their strengths such as {rotate: {float: [0, 30]}}; got ['flip']"),
        ("{a: 3}", ".a must be a text such as flip|shift(2)"),
        ("{flip: {}}", ".flip must be called none, for it has no operations; or be a text such as flip|shift(2)"),
        ("{none: {flip: both}}", ".none must be called otherwise: it has operations"),
        ("{a: {rotate: 5}, b: rotate(5)}", ".b must differ from a: both are the same"),
        ("{a.b: flip}", ".a.b must be a name of letters, digits, '_' and '-'"),
        ("{a: {rotate: 500, shft: 2}, b: {zoom: {int: [1, 2]}}}", ".a.rotate: rotate: degrees", ".a.shft: unknown augmentation 'shft'; did you mean 'shift'?", ".b.zoom must be between 0 and 0.95; got 1"),
    )},
    "a strength outside its branch": ({6: "  augment.rotate: 5", **NO_BASELINE}, ["6: space.augment.rotate must be a name of letters, digits and underscores; got 'augment.rotate': strengths stand in a branch of augment"]),
    "preprocessing that branches": ({5: "  preprocess: {choose: {a: {resize: 64}, b: {}}}", **NO_BASELINE}, ["5: space.preprocess must not branch: only the architecture and augment have parameters of their own"]),
    "baseline that lacks a strength": ({6: "  augment: {choose: {none: {}, a: {rotate: {float: [0, 30]}}}}", 13: RIGHT.splitlines()[12].replace("augment: none", "augment: a")}, ["13: baseline.augment.rotate must be given: float 0 to 30"]),
    "baseline with a strength by its short name": ({6: "  augment: {choose: {a: {rotate: {float: [0, 30]}}}}", 13: RIGHT.splitlines()[12].replace("augment: none", "augment: a, rotate: 5")}, ["13: baseline.augment.rotate must be given: float 0 to 30", "13: baseline.rotate: unknown hyperparameter 'rotate'; did you mean 'augment.rotate'?"]),
    "baseline with a strength of another branch": ({6: "  augment: {choose: {none: {}, a: {rotate: {float: [0, 30]}}}}", 13: RIGHT.splitlines()[12].replace("augment: none", "augment: none, augment.rotate: 5")}, ["13: baseline.augment.rotate must be left out here: it belongs to augment a"]),
    "baseline with a strength outside its range": ({6: "  augment: {choose: {a: {rotate: {float: [0, 30]}}}}", 13: RIGHT.splitlines()[12].replace("augment: none", "augment: a, augment.rotate: 40")}, ["13: baseline.augment.rotate must be in the space: float 0 to 30; got 40"]),
    # --- the baseline ---
    "baseline that is a list": ({13: "baseline: [cnn]"}, ["13: baseline must map names to plain values; got ['cnn']"]),
    "baseline outside the space": ({13: RIGHT.splitlines()[12].replace("32", "16")}, ["13: baseline.batch_size must be in the space: choice of 32, 64; got 16"]),
    "baseline that lacks a name": ({13: RIGHT.splitlines()[12].replace(", blocks: 2", "")}, ["13: baseline.blocks must be given: int 1 to 3"]),
    "baseline with a name of another branch": ({13: RIGHT.splitlines()[12].replace("}", ", dropout: 0.1}")}, ["13: baseline.dropout must be left out here: it belongs to architecture dense"]),
    "baseline with an unknown name": ({13: RIGHT.splitlines()[12].replace("}", ", block: 2}")}, ["13: baseline.block: unknown hyperparameter 'block'; did you mean 'blocks'?"]),
    "baseline of another type": ({13: RIGHT.splitlines()[12].replace("32", "'32'")}, ["13: baseline.batch_size must be in the space: choice of 32, 64; got '32'"]),
    # --- training ---
    "no epochs": ({14: "training: {max_epochs: 0}"}, ["14: training.max_epochs must be at least 1; got 0"]),
    "too many epochs": ({14: "training: {max_epochs: 100001}"}, ["14: training.max_epochs must be at most 100000; got 100001"]),
    "half an epoch": ({14: "training: {max_epochs: 1.5}"}, ["14: training.max_epochs must be a whole number; got 1.5"]),
    "epochs that are true": ({14: "training: {max_epochs: true}"}, ["14: training.max_epochs must be a whole number; got true"]),
    "epochs without a value": ({14: "training: {max_epochs: }"}, ["14: training.max_epochs must be a whole number and cannot be none; got nothing"]),
    "misspelt patience": ({14: "training: {early_stopping: {patince: 3}}"}, ["14: training.early_stopping.patince: unknown setting 'patince'; did you mean 'patience'? (known: min_delta, patience)"]),
    "early stopping that is true": ({14: "training: {early_stopping: true}"}, ["14: training.early_stopping must map names to values, or none; got true"]),
    "negative min_delta": ({14: "training: {early_stopping: {min_delta: -1}}"}, ["14: training.early_stopping.min_delta must be at least 0; got -1"]),
    # --- search ---
    "unknown sampler": ({15: "search: {sampler: tpf}"}, ["15: search.sampler: unknown sampler 'tpf'; did you mean 'tpe'? (known: auto, cmaes, gp, grid, nsga2, qmc, random, tpe)"]),
    "unknown scheduler": ({15: "search: {scheduler: asha_stoping}"}, ["15: search.scheduler: unknown scheduler 'asha_stoping'; did you mean 'asha_stopping'?"]),
    "time in days": ({15: "search: {time_budget: 2d}"}, ["15: search.time_budget must be a time such as 90s, 20m, 2h or 1h30m, or none; got '2d'"]),
    "time of a clock": ({15: "search: {time_budget: 1:30}"}, ["15: search.time_budget must be a time such as 90s, 20m, 2h or 1h30m, or none; got '1:30'"]),
    "no time at all": ({15: "search: {time_budget: 0}"}, ["15: search.time_budget must be a time such as 90s, 20m, 2h or 1h30m, or none; got 0"]),
    "negative time": ({15: "search: {time_budget: -5}"}, ["15: search.time_budget must be a time such as 90s, 20m, 2h or 1h30m, or none; got -5"]),
    "time that is a list": ({15: "search: {time_budget: [1]}"}, ["15: search.time_budget must be a time such as 90s, 20m, 2h or 1h30m, or none; got [1]"]),
    "stop without a time": ({15: "search: {stop_when: {expected_gain_below: 0.002}}"}, ["15: search.stop_when.within must be given"]),
    "stop without a gain": ({15: "search: {stop_when: {within: 10m}}"}, ["15: search.stop_when.expected_gain_below must be given"]),
    "stop at no gain": ({15: "search: {stop_when: {expected_gain_below: 0, within: 10m}}"}, ["15: search.stop_when.expected_gain_below must be above 0; got 0"]),
    "stop at a gain of less than nothing": ({15: "search: {stop_when: {expected_gain_below: -1, within: 10m}}"}, ["15: search.stop_when.expected_gain_below must be above 0; got -1"]),
    "stop at a gain in percent": ({15: "search: {stop_when: {expected_gain_below: 0.2%, within: 10m}}"}, ["15: search.stop_when.expected_gain_below must be a number; got '0.2%'"]),
    "stop at a gain of all points": ({15: "search: {stop_when: {expected_gain_below: 2, within: 10m}}"}, ["15: search.stop_when.expected_gain_below must be below 1 for val_accuracy, of which 0.01 is one point; got 2"]),
    "stop at a gain without end": ({3: "metric: val_loss", 15: "search: {stop_when: {expected_gain_below: .inf, within: 10m}}"}, ["15: search.stop_when.expected_gain_below must be a finite number; got .inf"]),
    "stop within minutes without a unit": ({15: "search: {stop_when: {expected_gain_below: 0.1, within: ten}}"}, ["15: search.stop_when.within must be a time such as 90s, 20m, 2h or 1h30m; got 'ten'"]),
    "stop within no time": ({15: "search: {stop_when: {expected_gain_below: 0.1, within: 0}}"}, ["15: search.stop_when.within must be a time such as 90s, 20m, 2h or 1h30m; got 0"]),
    "stop that is a number": ({15: "search: {stop_when: 0.002}"}, ["15: search.stop_when must map names to values, or none; got 0.002"]),
    "misspelt stop": ({15: "search: {stop_wen: {expected_gain_below: 0.1, within: 10m}}"}, ["15: search.stop_wen: unknown setting 'stop_wen'; did you mean 'stop_when'?"]),
    "misspelt gain": ({15: "search: {stop_when: {expected_gian_below: 0.1, within: 10m}}"}, ["15: search.stop_when.expected_gain_below must be given", "15: search.stop_when.expected_gian_below: unknown setting 'expected_gian_below'; did you mean 'expected_gain_below'?"]),
    "no trials": ({15: "search: {trials: 0}"}, ["15: search.trials must be at least 1; got 0"]),
    "trials as text": ({15: "search: {trials: many}"}, ["15: search.trials must be a whole number; got 'many'"]),
    "concurrency of 0": ({15: "search: {max_concurrent: 0}"}, ["15: search.max_concurrent must be at least 1 or 'auto'; got 0"]),
    "negative seed": ({15: "search: {seed: -1}"}, ["15: search.seed must be at least 0; got -1"]),
    "seed that is too large": ({15: "search: {seed: 99999999999999999999}"}, ["15: search.seed must be smaller than 2**53; got 99999999999999999999"]),
    "reduction factor of 1": ({15: "search: {reduction_factor: 1}"}, ["15: search.reduction_factor must be at least 2 or 'auto'; got 1"]),
    "grid with ranges": ({15: "search: {sampler: grid}"}, ["15: search.sampler must not be grid with ranges of floats; got learning_rate, dropout: list choices"]),
    "bohb with a sampler of its own": ({15: "search: {sampler: random, scheduler: bohb}"}, ["15: search.sampler must be auto or tpe with bohb; got random"]),
    "population with a sampler": ({15: "search: {sampler: tpe, scheduler: pbt}"}, ["15: search.sampler must be auto or random with pbt, which copies and perturbs; got tpe"]),
    "population with nothing to change": (
        {6: "", 7: "", 8: "", 15: "search: {scheduler: pbt}", **NO_BASELINE},
        ["15: search.scheduler must not be pbt: the space has no choice or range that can change in running trials, such as learning_rate"],
    ),
    "population bandits without numbers": ({8: "", 15: "search: {scheduler: pb2}", **NO_BASELINE}, ["15: search.scheduler must not be pb2: the space has no range of numbers that can change in running trials, such as learning_rate"]),
    "grace longer than the training": ({15: "search: {grace_epochs: 17}"}, ["15: search.grace_epochs must be at most max_epochs, 16; got 17"]),
    "grace shorter than the head phase": ({**BACKBONE, 15: "search: {grace_epochs: 3}"}, ["15: search.grace_epochs must be longer than the head phase, 3 epochs: before it ends, shallow and deep unfreezing cannot be compared; got 3"]),
    "time of ten thousand years": ({15: "search: {time_budget: 99999999h}"}, ["15: search.time_budget must be a time such as 90s, 20m, 2h or 1h30m, or none; got '99999999h'"]),
    "seconds weighed by the sampler of a scheduler": ({15: "search: {scheduler: bohb, improvement_per_second: true}"}, ["15: search.improvement_per_second must be false with bohb: only gp weighs seconds"]),
    "seconds weighed by a sampler that cannot": ({15: "search: {sampler: tpe, improvement_per_second: true}"}, ["15: search.improvement_per_second must be false with tpe: only gp weighs seconds"]),
    "warm start from a word": ({15: "search: {warm_start: cifar10}"}, ["15: search.warm_start must be a list, written [one, two], or none; got 'cifar10'"]),
    "warm start from a number": ({15: "search: {warm_start: [1]}"}, ["15: search.warm_start[0] must be text; got 1"]),
    # --- resources ---
    "no processor": ({16: "resources: {cpus_per_trial: 0}"}, ["16: resources.cpus_per_trial must be above 0 or 'auto'; got 0"]),
    "resources as a list": ({16: "resources: [1]"}, ["16: resources must map cpus_per_trial, gpus_per_trial, memory_gb_per_trial to values; got [1]"]),
    "no memory": ({16: "resources: {memory_gb_per_trial: 0}"}, ["16: resources.memory_gb_per_trial must be above 0 or 'auto' or 'none'; got 0"]),
    "hanging at once": ({15: "search: {hung_after_epochs: 1}"}, ["15: search.hung_after_epochs must be at least 2 or 'never'; got 1"]),
    # --- YAML ---
    "tab as indentation": ({7: "\tbatch_size: 32"}, ["7: is not valid YAML: while scanning for the next token found character '\\t' that cannot start any token"]),
    "bracket that is not closed": ({16: "resources: {cpus_per_trial: 1"}, ["17: is not valid YAML: while parsing a flow mapping expected ',' or '}'"]),
    "merge key": ({14: "training: {<<: {max_epochs: 3}}"}, ["14: training must not merge (<<): write the settings out"]),
    "list as a key": ({14: "training: {[max_epochs]: 3}"}, ["14: training must have plain names as keys; got a list or a mapping"]),
    "object of Python": ({14: "training: !!python/object:os.system {}"}, ["14: training must be a plain list or mapping; got 'tag:yaml.org,2002:python/object:os.system'"]),
    "tag of its own": ({1: "study: !secret x"}, ["1: study must be plain text or a number; got 'x'"]),
    "alias that is not defined": ({14: "training: *other"}, ["14: is not valid YAML: found undefined alias 'other'"]),
    "second document": ({14: "---"}, ["14: is not valid YAML: expected a single document in the stream but found another document"]),
    "character that is no text": ({3: "metric: val\u0000"}, ["3: must be text; got the character '\\x00'"]),
    "escape beyond Unicode": ({1: r'study: "\UFFFFFFFF"'}, [": is not valid YAML: something is out of range"]),
}  # fmt: skip
