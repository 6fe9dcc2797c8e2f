"""Wrong command lines of all commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.support.bad_input import Case, nothing
from tests.support.make_data import make_folder
from tests.support.wrong_runs import best, ended

DEEP = "[" * 2000
DIGITS = "9" * 5000


def line(
    command: str, *words: str, make: Callable[[Path], object] = nothing, problems: int = 1, is_real: bool = False
) -> Case:
    """A command line that is wrong by itself, or for what `make` has put there."""
    return Case(command, words, make, problems, is_real=is_real)


def set_to(override: str, *words: str, problems: int = 1) -> Case:
    """A right file with an override that is not."""
    return Case(f"search right.yaml --plan --set {override}", words, problems=problems)


COMMANDS: dict[str, Case] = {
    # --- tuner.search ---
    "search nothing": line("search", "FILE must be given, for example search_spaces/digits.yaml"),
    "search two files": line("search right.yaml right.yaml", "unrecognized arguments: right.yaml"),
    "search with an unknown option": line("search right.yaml --trials 8", "unrecognized arguments: --trials 8"),
    "search with terminal codes for an option": line("search right.yaml '--\x1b[31mplan'", r"unrecognized arguments: --\x1b[31mplan"),
    "search with a line end for an option": line("search right.yaml '--a\nsearch: all is well'", r"unrecognized arguments: --a\nsearch: all is well"),
    "search with half an option": line("search right.yaml --re", "ambiguous option: --re could match"),
    "search by plan and in this process": line("search right.yaml --plan --inline", "--plan and --inline cannot be used together"),
    "search anew and go on": line("search right.yaml --fresh --resume", "--resume and --fresh cannot be used together"),
    "search with a value for a switch": line("search right.yaml --plan=yes", "argument --plan: ignored explicit argument 'yes'"),
    "search standard input": line("search /dev/stdin --plan", "/dev/stdin: cannot be read as text: it is a folder, a pipe or a device", is_real=True),
    "search a file of nothing": line("search '' --plan", ": cannot be read as text: it is a folder"),
    "set without a value": set_to("search.trials", "--set search.trials must be written key=value, for example search.trials=8"),
    "set without a key": set_to("=8", "--set =8 must be written key=value"),
    "set nothing": set_to("''", "must be written key=value"),
    "set an unknown section": set_to("serch.trials=8", "right.yaml: serch: unknown section 'serch'; did you mean 'search'?"),
    "set an unknown setting": set_to("search.trails=8", "right.yaml: search.trails: unknown setting 'trails'; did you mean 'trials'?"),
    "set a whole section": set_to("search=8", "right.yaml: search must map sampler, scheduler, trials"),
    "set below a value": set_to("study.name=x", "--set study.name must name a setting; 'study' has none below it"),
    "set a setting without a name": set_to("search.=8", "search."),
    "set not a number": set_to("search.trials=.nan", "search.trials must be a finite number; got .nan"),
    "set 5,000 digits": set_to(f"search.trials={DIGITS}", "search.trials must be plain text or a number; got '999"),
    "set 2,000 levels": set_to(f"'search.trials={DEEP}'", "--set search.trials must be nested at most 30 levels deep"),
    "set an object of Python": set_to("'study=!!python/object/apply:os.mkdir [exploded]'", "--set study must be a plain list or mapping"),
    "set terminal codes": set_to("'study=\x1b[31m'", r"--set study must be text; got the character '\x1b'"),
    "set a key with terminal codes": set_to("'\x1b[31m.x=1'", r"\x1b[31m"),
    "set a key of 1,000 levels": set_to("a" + ".a" * 1000 + "=1", "unknown section 'a'"),
    "set a study above the folder of runs": set_to("study=../../x", "right.yaml: study must be at most 64 letters"),
    "set two wrong things": line("search right.yaml --plan --set search.trials=0 --set training.max_epochs=0", "right.yaml: search.trials must be at least 1; got 0", "right.yaml: training.max_epochs must be at least 1; got 0", problems=2),
    "data without a name": line("search right.yaml --data digits", "--data must be NAME=VALUE; got 'digits'"),
    "data without a source": line("search right.yaml --data digits=", "--data must be NAME=VALUE; got 'digits='"),
    "data of an unknown kind": line("search right.yaml --data digits=foldr:x", "right.yaml:2: data.source: unknown data source 'foldr:'; did you mean 'folder:'?"),
    "data that are not there": line("search right.yaml --data digits=folder:gone", "right.yaml:2: data.source: folder:gone must name a folder or file that exists"),
    "data in a folder of nothing": line("search right.yaml --data digits=.", "the staged copy of digits must be Parquet files, one .npz, a table (.jsonl), a table (.csv) or class folders"),
    "data of a user that is not there": line("search right.yaml --data digits=~nobody-of-this-name", "~nobody-of-this-name"),
    "data under a name of terminal codes": line("search right.yaml --data '\x1b[31m'", r"--data must be NAME=VALUE; got '\x1b[31m'"),
    "storage of an unknown kind": line("search right.yaml --storage s4://images", "--storage: unknown kind of storage 's4'; did you mean 's3'?"),
    "storage without a bucket": line("search right.yaml --storage s3://", "--storage must name a bucket, as in s3://BUCKET/FOLDER"),
    "storage with a password": line("search right.yaml --storage s3://me:hidden@images", "--storage must not hold a secret, for it is kept in records; got s3://...@images"),
    "storage with a key": line("search right.yaml --storage 's3://images?secret_key=hidden'", "--storage must not hold a secret"),
    "storage that is a file": line("search right.yaml --storage right.yaml", "--storage must be a folder that can be written to; ", "right.yaml is a file"),
    "storage below a file": line("search right.yaml --storage right.yaml/x", "--storage must be a folder that can be written to"),
    "storage of terminal codes": line("search right.yaml --storage '\x1b[31m://x'", "--storage"),
    "storage where nothing answers": line("search right.yaml --storage 's3://images/x?endpoint_override=127.0.0.1:9&scheme=http&region=x'", "cannot be used: ", "; credentials come from"),
    "storage of a training without a search": line("search right.yaml --inline --storage x", "--storage and --inline cannot be used together"),
    "insecure without a cluster": line("search right.yaml --insecure", "--insecure belongs to --address"),
    "resume from an unknown kind of storage": line("search --resume s4://images/small", "--resume: unknown kind of storage 's4'"),
    "resume from a storage where nothing answers": line("search --resume 's3://images/x?endpoint_override=127.0.0.1:9&scheme=http&region=x'", "cannot be read: "),
    "resume from a storage with an unknown setting": line("search --resume 's3://images/x?foo=hidden'", "--resume: unknown setting of s3 addresses 'foo'"),
    "resume from a storage with a wrong setting": line("search --resume 'gs://images/x?retry_limit_seconds=long'", "gs://images/x?retry_limit_seconds=long: cannot be read: "),
    "report of a storage with a wrong setting": line("report 'gs://images/x?retry_limit_seconds=long'", "gs://images/x?retry_limit_seconds=long: cannot be read: "),
    "report of an unknown kind of storage": line("report s4://images/small", "RUN: unknown kind of storage 's4'"),
    "report of a storage without a run": line("report gs://", "RUN must name a bucket, as in gs://BUCKET/FOLDER"),
    "retrain without a trial": line("search --retrain runs/small", "argument --retrain: expected 2 arguments"),
    "retrain a trial by name": line("search --retrain runs/small best", "--retrain RUN TRIAL: TRIAL must be a number; got 'best'"),
    "retrain a trial below 0": line("search --retrain runs/small -1", "TRIAL must be a number; got '-1'"),
    "retrain a trial of 5,000 digits": line(f"search --retrain runs/small {DIGITS}", "TRIAL must be a number"),
    "retrain a half": line("search --retrain runs/small ½", "TRIAL must be a number; got '½'"),
    "retrain a superscript": line("search --retrain runs/small ²", "TRIAL must be a number; got '²'"),
    "retrain a trial that is not there": line("search --retrain runs/small 7", "runs/small: trial must be one of 0 to 1; got 7", make=ended),
    # --- tuner.report ---
    "report nothing": line("report", "RUN must be given, or --all"),
    "report all and one": line("report --all runs/small", "--all and RUN cannot be used together"),
    "report in an unknown format": line("report runs/small --format jpg", "argument --format: invalid choice: 'jpg' (choose from 'png', 'svg')"),
    "report in terminal codes": line("report runs/small --format '\x1b[2J'", "argument --format: invalid choice: '\\x1b[2J'"),
    "report no run": line("report runs/small", "runs/small: not a run directory: it holds no record.jsonl"),
    "report the record": line("report runs/small/record.jsonl", "runs/small/record.jsonl: not a run directory", make=ended),
    "report a run of terminal codes": line("report 'runs/\x1b[31m\n'", r"runs/\x1b[31m\n: not a run directory"),
    "report into a file": line("report runs/small --output right.yaml", "the place of the report must be a folder that can be written to; ", "right.yaml is a file", make=ended, is_real=True),
    "report below a file": line("report runs/small --output right.yaml/report", "the place of the report must be a folder that can be written to; ", "right.yaml is a file", make=ended),
    "report a run twice and another not there": line("report runs/small runs/gone", "runs/gone: not a run directory", make=ended),
    "report all of no folder": line("report --all --runs gone", "--runs must be a folder of runs; gone is none"),
    "report all of a file": line("report --all --runs right.yaml", "--runs must be a folder of runs; right.yaml is none"),
    # --- tuner.data ---
    "look at nothing": line("data", "the following arguments are required: SOURCE"),
    "look at an unknown source": line("data digit", "unknown data source 'digit'; did you mean 'digits'?"),
    "look at a folder that is not there": line("data folder:gone", "folder:gone must name a folder or file that exists"),
    "look at a path without its kind": line("data pets", "pets: must begin with its kind: folder:pets", make=lambda work: make_folder(work / "pets", {"cat": 1, "dog": 1})),
    "look at a file that is not there": line("data gone.yaml", "gone.yaml: no such search-space file"),
    "look at a wrong section": line("data right.yaml --set data.colour=blue", "right.yaml: data.colour must be 'auto', 'rgb' or 'grey'; got 'blue'"),
    "look at terminal codes": line("data '\x1b[31m:x'", r"data.source must be text without control characters; got '\x1b[31m:x'"),
    "look at a source of 5,000 digits": line(f"data {DIGITS}", "unknown data source"),
    "write a page to a folder": line("data digits --page runs", "--page must be a file; runs is a folder", make=ended),
    "write a page below a file": line("data digits --page right.yaml/x.html", "the folder of --page must be a folder that can be written to; ", "right.yaml is a file", is_real=True),
    # --- tuner.predict ---
    "predict nothing": line("predict", "the following arguments are required: PATH"),
    "predict without an image": line("predict runs/small", "IMAGE must be given: a file, or a folder of images"),
    "predict no label": line("predict runs/small x.png --top 0", "--top must be at least 1; got 0"),
    "predict half a label": line("predict runs/small x.png --top 0.5", "argument --top: invalid int value: '0.5'"),
    "predict 5,000 digits of labels": line(f"predict runs/small x.png --top {DIGITS}", "argument --top: invalid int value"),
    "predict in an unknown format": line("predict runs/small x.png --format xml", "argument --format: invalid choice: 'xml'"),
    "predict an image that is not there": line("predict runs/small gone.png", "gone.png: must be an image or a folder of images; nothing is there", make=best),
    "predict a folder without images": line("predict runs/small empty", "empty: must hold images (.jpg, .jpeg, .jfif, .jpe, .png, .bmp, .gif, .webp, .tif, .tiff, .ppm, .pgm, .pbm, .pnm); it holds none", make=lambda work: (best(work), (work / "empty").mkdir())),
    "predict an image of a name that is too long": line(f"predict runs/small {'x' * 300}.png", "must be an image or a folder of images", make=best),
    "predict with no run": line("predict gone right.yaml", "gone: not a run directory"),
    "predict with a run that has no model": line("predict runs/small pets", "runs/small: has no best.keras yet; it is written when the search has ended", make=lambda work: (ended(work), make_folder(work / "pets", {"cat": 1}))),
    "predict with labels that are damaged": line("predict runs/small pets", "runs/small/best.json: cannot be read", make=lambda work: (best(work, about="{"), make_folder(work / "pets", {"cat": 1}))),
    "predict with labels of another kind": line("predict runs/small pets", "runs/small/best.json: cannot be read", make=lambda work: (best(work, about="[1, 2]"), make_folder(work / "pets", {"cat": 1}))),
    "predict images of no size": line("predict runs/small pets", "runs/small/best.json: cannot be read", make=lambda work: (best(work, about='{"labels": ["a"], "image_shape": [0, -8, 3]}'), make_folder(work / "pets", {"cat": 1}))),
    "predict with a model that is damaged": line("predict runs/small pets", "runs/small/best.keras: cannot be loaded as a Keras model", make=lambda work: (best(work), make_folder(work / "pets", {"cat": 1})), is_real=True),
    "predict with an unknown network": line("predict --imagenet mobilenet_v4 pets", "unknown network 'mobilenet_v4'; did you mean 'mobilenet_v2'?", make=lambda work: make_folder(work / "pets", {"cat": 1})),
    "predict with a network that has no weights": line("predict --imagenet cnn pets", "unknown network 'cnn'", make=lambda work: make_folder(work / "pets", {"cat": 1})),
    # --- tuner.export ---
    "export nothing": line("export", "the following arguments are required: RUN"),
    "export to nowhere": line("export runs/small", "at least one of --csv, --latex, --optuna, --tensorboard, --saved-model, --litert must be given"),
    "export no run": line("export gone --csv x.csv", "gone: not a run directory"),
    "export a table to a folder": line("export runs/small --csv runs", "--csv must be a file; runs is a folder", make=ended, is_real=True),
    "export a table below a file": line("export runs/small --latex right.yaml/x.tex", "the folder of --latex must be a folder that can be written to; ", "right.yaml is a file", make=ended),
    "export a table to a pipe": line("export runs/small --csv pipe", "--csv must be a file; pipe is a pipe or a device", make=lambda work: (ended(work), os.mkfifo(work / "pipe"))),
    "export to no address": line("export runs/small --optuna studies.db", "--optuna must be an address such as sqlite:///study.db; studies.db: ", make=ended),
    "export to an unknown kind of storage": line("export runs/small --optuna nothing://at.all", "--optuna must be an address such as sqlite:///study.db; nothing://at.all: ", make=ended),
    "export to a database below a file": line("export runs/small --optuna sqlite:///right.yaml/x.db", "--optuna must be an address such as sqlite:///study.db", make=ended),
    "export to a database that is none": line("export runs/small --optuna sqlite:///right.yaml", "--optuna must be an address such as sqlite:///study.db", make=ended),
    "export for TensorBoard to a file": line("export runs/small --tensorboard right.yaml", "--tensorboard must be a folder that can be written to; ", "right.yaml is a file", make=ended),
    "export a model over a folder of others": line("export runs/small --saved-model runs", "--saved-model must be a new folder or that of an earlier export; ", make=best),
    "export a model to a folder": line("export runs/small --litert runs", "--litert must be a file; runs is a folder", make=best),
    "export a model of a run without one": line("export runs/small --litert x.tflite", "runs/small: has no best.keras yet", make=ended),
    "export a model that is damaged": line("export runs/small --litert x.tflite", "runs/small/best.keras: cannot be loaded as a Keras model", make=best),
    "export a run without its specification": line("export runs/small --optuna sqlite:///x.db", "runs/small: must hold the specification of its search", make=lambda work: (ended(work), (work / "runs/small/specification.yaml").unlink())),
    # --- tuner.cache ---
    "cache with an unknown action": line("cache purge", "argument action: invalid choice: 'purge' (choose from 'list', 'verify', 'clear')"),
    "cache in a file": line("cache --cache right.yaml", "the cache must be a folder that can be read; ", "right.yaml is a file"),
    "cache below a file": line("cache --cache right.yaml/x", "the cache must be a folder that can be read; ", "right.yaml is a file", is_real=True),
    "cache of a user that is not there": line("cache --cache ~nobody-of-this-name/x", "~nobody-of-this-name"),
    "cache with an option of another action": line("cache list --all", "--all can only be used with clear"),
    "cache of not a number of days": line("cache clear --unused-days nan", "--unused-days must be a number of days, 0 or more; got nan"),
    "cache of infinite days": line("cache clear --unused-days inf", "--unused-days must be a number of days, 0 or more; got inf"),
    "cache of days below 0": line("cache clear --unused-days -1", "--unused-days must be a number of days, 0 or more; got -1"),
    "cache of days in words": line("cache clear --unused-days ten", "argument --unused-days: invalid float value: 'ten'"),
    "cache with a link for a folder of its own": line("cache --cache c", "c/datasets must be a folder; got a link or a file", make=lambda work: ((work / "c").mkdir(), (work / "c" / "datasets").symlink_to("/"))),
    # --- tuner.submit ---
    "submit nothing": line("submit", "the following arguments are required: FILE"),
    "submit an unknown file": line("submit gone.yaml", "gone.yaml: no such search-space file"),
    "submit a misspelt command": line("submit statsu", "statsu: no such search-space file; did you mean the command 'status'?"),
    "submit a wrong file": line("submit right.yaml --set search.trails=8", "right.yaml: search.trails: unknown setting 'trails'; did you mean 'trials'?"),
    "submit anew and go on": line("submit right.yaml --fresh --resume", "--resume and --fresh cannot be used together"),
    "submit a resumed search that learns": line("submit right.yaml --resume --warm-start runs/x", "--warm-start belongs to a new search"),
    "submit to a relative shared folder": line("submit right.yaml --shared shared", "--shared must be an absolute path on the cluster; got 'shared'"),
    "submit to a relative storage": line("submit right.yaml --storage kept", "--storage must be an absolute path on the cluster; got 'kept'"),
    "submit with a relative cache": line("submit right.yaml --cache kept", "--cache must be an absolute path on the cluster; got 'kept'"),
    "submit data that are not there": line("submit right.yaml --set data.source=folder:pets", "right.yaml: data.source: folder:pets must name a folder or file that exists"),
    "submit with an earlier run that is not there": line("submit right.yaml --warm-start runs/x", "search.warm_start: unknown run of this machine 'runs/x'"),
    "submit to no address": line("submit right.yaml --address nowhere/at/all", "--address must be that of Ray's dashboard, such as http://127.0.0.1:8265; got 'nowhere/at/all'"),
    "submit to where nothing answers": line("submit right.yaml --address http://127.0.0.1:1", "--address http://127.0.0.1:1: nothing answers there", "ray[default]", is_real=True),
    "follow nothing": line("submit follow", "the following arguments are required: ID"),
    "stop where nothing answers": line("submit stop small --address 127.0.0.1:1", "--address http://127.0.0.1:1: nothing answers there"),
    "fetch into a file": line("submit fetch small --to right.yaml", "--to must be a folder that can be written to; ", "right.yaml is a file"),
    "status with terminal codes": line("submit status '\x1b[31m' --address '\x1b[31m'", r"got '\x1b[31m'"),
}  # fmt: skip
