"""Wrong search-space files, as the bytes that are in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.support.bad_input import Case
from tests.support.wrong_files import MISTAKES, RIGHT, wrong

PLAN = "search wrong.yaml --plan"
TOP = "must map study, data, metric, metrics, trainable, space, baseline, training, search, resources, activations, finalists"


def file(content: bytes | str, *words: str, problems: int = 1) -> Case:
    """A search-space file with this content."""
    data = content.encode() if isinstance(content, str) else content

    def make(work: Path) -> None:
        (work / "wrong.yaml").write_bytes(data)

    return Case(PLAN, tuple(f"wrong.yaml{text}" if text.startswith(":") else text for text in words), make, problems)


def line(number: int, text: str, *words: str, problems: int = 1) -> Case:
    """The right file with one line replaced; messages name that line."""
    return file(
        wrong({number: text}), *(f":{number}: {one}" if one else f":{number}: " for one in words), problems=problems
    )


def path(make: Callable[[Path], object], *words: str, command: str = PLAN, is_real: bool = False) -> Case:
    """Something else than a file with text where a file must be."""
    return Case(command, words, make, is_real=is_real)


def space(text: str) -> str:
    """The right file with another space and without a baseline."""
    return f"study: small\ndata: {{source: digits}}\nspace:\n{text}\n"


def nested(depth: int) -> str:
    return "{a: " * depth + "1" + "}" * depth


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 28))
TEXTS: dict[str, Case] = {
    **{name: file(wrong(lines), *(f":{one}" if one[0].isdigit() else one for one in words), problems=len(words)) for name, (lines, words) in MISTAKES.items()},
    # --- the file ---
    "no file": path(lambda work: None, "wrong.yaml: no such search-space file"),
    "a folder": path(lambda work: (work / "wrong.yaml").mkdir(), "wrong.yaml: cannot be read as text: it is a folder, a pipe or a device"),
    "a link to nothing": path(lambda work: (work / "wrong.yaml").symlink_to("gone.yaml"), "wrong.yaml: no such search-space file"),
    "a link to itself": path(lambda work: (work / "wrong.yaml").symlink_to("wrong.yaml"), "wrong.yaml: cannot be read as text"),
    "a pipe": path(lambda work: os.mkfifo(work / "wrong.yaml"), "wrong.yaml: cannot be read as text", is_real=True),
    "a device without end": path(lambda work: (work / "wrong.yaml").symlink_to("/dev/zero"), "wrong.yaml: cannot be read as text", is_real=True),
    "below a file": path(lambda work: None, "right.yaml/wrong.yaml: cannot be read as text", command="search right.yaml/wrong.yaml --plan"),
    "a name that is too long": path(lambda work: None, "cannot be read as text: ", command=f"search {'x' * 300}.yaml --plan"),
    "a name with terminal codes": path(lambda work: None, r"\x1b[31mred\x07\n.yaml: no such search-space file", command="search '\x1b[31mred\x07\n.yaml' --plan"),
    "a name that turns the text around": path(lambda work: None, r"a\u202egpj.yaml: no such search-space file", command="search 'a\u202egpj.yaml' --plan"),
    "no bytes": file(b"", f":1: {TOP}", "got nothing"),
    "a comment": file("# nothing yet\n", f":1: {TOP}", "got nothing"),
    "white space": file(" \n\n  \n", f":1: {TOP}", "got nothing"),
    "zero bytes": file(bytes(100), "wrong.yaml:1: must be text; got the character '\\x00'"),
    "a picture": file(b"\x89PNG\r\n\x1a\n\x00\xff", "wrong.yaml: cannot be read as text"),
    "Latin-1": file(RIGHT.replace("small", "größe").encode("latin-1"), "wrong.yaml: cannot be read as text", "0xf6"),
    "UTF-16": file(RIGHT.encode("utf-16"), "wrong.yaml: cannot be read as text"),
    "UTF-16 without a mark": file(RIGHT.encode("utf-16-le"), ":1: must be text; got the character '\\x00'"),
    "UTF-32": file(RIGHT.encode("utf-32"), "wrong.yaml: cannot be read as text"),
    "a mark of UTF-8 and nothing else": file(b"\xef\xbb\xbf", f":1: {TOP}", "got nothing"),
    "half a character": file(RIGHT.encode() + b"\xc3", "wrong.yaml: cannot be read as text"),
    "a list": file("- study\n- data\n", f":1: {TOP}", "got ['study', 'data']"),
    "a text": file("study", f":1: {TOP}", "got 'study'"),
    "JSON of another kind": file('{"seed": 1, "model": "cnn"}', ":1: seed: unknown section 'seed'", "model: unknown section", "study must be given", problems=5),
    "a search page": file("<!DOCTYPE html>\n<html><body>404</body></html>\n", f":1: {TOP}"),
    "a file of two megabytes": file("study: small\n" + "#" * 2_000_000, "wrong.yaml: must be at most 1,000,000 characters"),
    "mistake in a file of Windows": file(wrong({15: "search: {trials: 0}"}).replace("\n", "\r\n"), ":15: search.trials must be at least 1; got 0"),
    "mistake in a file of old Macs": file(wrong({15: "search: {trials: 0}"}).replace("\n", "\r"), ":15: search.trials must be at least 1; got 0"),
    "mistake behind a mark of UTF-8": file(b"\xef\xbb\xbf" + wrong({1: "study: a b"}).encode(), ":1: study must be at most 64 letters"),
    # --- YAML ---
    "ten to the eighth laughs": file(LAUGHS, "must hold at most 20,000 values, 30 levels deep, aliases followed"),
    "a long list repeated by aliases": file("a: &a [" + "x, " * 5000 + "]\nb: [" + "*a, " * 5000 + "]", "must hold at most 20,000 values"),
    "a list in itself": line(14, "training: &t [*t]", ""),
    "ten thousand brackets": file("[" * 10_000, ":1: must be nested at most 30 levels deep"),
    "ten thousand braces": file("{a: " * 10_000, ":1: must be nested at most 30 levels deep"),
    "forty levels": line(14, f"training: {nested(40)}", "must be nested at most 30 levels deep"),
    "sixty thousand values": file("[" + "1," * 60_000 + "]", ":1: must hold at most 20,000 values"),
    "a number of a million digits": line(15, "search: {trials: " + "9" * 900_000 + "}", "search.trials must be plain text or a number"),
    "tab between key and value": line(14, "training: {\tmax_epochs: 3}", "is not valid YAML: while scanning for the next token found character '\\t'"),
    "quote that is not closed": file(wrong({1: "study: 'small"}), ":17: is not valid YAML: while scanning a quoted scalar"),
    "key without a colon": file(wrong({3: "metric val_accuracy"}), ":4: is not valid YAML: while scanning a simple key could not find expected ':'"),
    "equals sign for a colon": line(15, "search: {trials=8}", "search.trials=8: unknown setting 'trials=8'; did you mean 'trials'?"),
    "a set": line(14, "training: {max_epochs}", "training.max_epochs must be a whole number and cannot be none; got nothing"),
    "binary": line(1, "study: !!binary c21hbGw=", "study must be plain text or a number"),
    "a Python name": line(1, "study: !!python/name:os.system", "study must be plain text or a number"),
    "a Python call": line(1, "study: !!python/object/apply:os.system [touch /tmp/broken]", "study must be a plain list or mapping"),
    "a time": line(15, "search: {seed: 2026-01-01}", "search.seed must be a whole number; got '2026-01-01'"),
    # --- keys ---
    "key that is a number": line(14, "training: {1: 2}", "training.1: unknown setting '1'"),
    "key that is true": line(14, "training: {true: 2}", "training.true: unknown setting 'true'"),
    "key that is nothing": line(14, "training: {~: 2}", "training.~: unknown setting '~'"),
    "key that is empty": line(14, "training: {'': 2}", "training."),
    "key with a line end": line(14, r'training: {"a\nb": 2}', "training must have plain names as keys; got 'a\\nb'"),
    "key with terminal codes": line(14, r'training: {"\e[2J": 2}', "training must have plain names as keys; got '\\x1b[2J'"),
    "key in Cyrillic letters": line(3, "mеtric: val_accuracy", "mеtric: unknown section 'mеtric'; did you mean 'metric'?"),
    "key in capitals": line(3, "Metric: val_accuracy", "Metric: unknown section 'Metric'; did you mean 'metric'?"),
    "key with a space at its end": line(3, "'metric ': val_accuracy", "metric : unknown section 'metric '; did you mean 'metric'?"),
    "key of 300 characters": line(3, "x" * 300 + ": 1", ""),
    "key twice in a section": line(14, "training: {max_epochs: 3, max_epochs: 4}", "training.max_epochs must be given once; first on line 14"),
    # --- names ---
    "study above the folder of runs": line(1, "study: ../../etc", "study must be at most 64 letters"),
    "study from the root": line(1, "study: /etc/passwd", "study must be at most 64 letters"),
    "study of two dots": line(1, "study: ..", "study must be at most 64 letters"),
    "study that is hidden": line(1, "study: .small", "study must be at most 64 letters"),
    "study like an option": line(1, "study: --runs", "study must be at most 64 letters"),
    "study with a backslash": line(1, r"study: a\b", "study must be at most 64 letters"),
    "study of nothing": line(1, "study: ''", "study must be at most 64 letters"),
    "study with a line end": line(1, r'study: "small\n"', r"study must be at most 64 letters, digits, '_', '-' or '.', beginning with a letter or digit; got 'small\n'"),
    "study with a full-width letter": line(1, "study: ｓmall", "study must be at most 64 letters"),
    "study with HTML": line(1, "study: <script>alert(1)</script>", "study must be at most 64 letters"),
    "study that is a formula": line(1, "study: '=cmd()'", "study must be at most 64 letters"),
    "metric that turns the text around": line(3, "metric: \u202eval_loss", "metric"),
    "sampler of a full-width letter": line(15, "search: {sampler: ｔpe}", "search.sampler: unknown sampler 'ｔpe'; did you mean 'tpe'?"),
    # --- numbers ---
    "true for a number": line(15, "search: {trials: true}", "search.trials must be a whole number; got true"),
    "true for a share": line(2, "data: {source: digits, validation_fraction: true}", "data.validation_fraction must be a number; got true"),
    "true for a range": line(8, "  learning_rate: {log_float: [true, 1]}", "space.learning_rate.log_float"),
    "infinite share": line(2, "data: {source: digits, validation_fraction: .inf}", "data.validation_fraction must be a finite number; got .inf"),
    "share beyond all floats": line(2, "data: {source: digits, validation_fraction: 1e999}", "data.validation_fraction must be a finite number; got 1e999"),
    "negative share": line(2, "data: {source: digits, validation_fraction: -0.1}", "data.validation_fraction must be above 0; got -0.1"),
    "float for a number of trials": line(15, "search: {trials: 8.0}", "search.trials must be a whole number; got 8.0"),
    "octal": line(15, "search: {trials: 0o10}", "search.trials must be a whole number; got '0o10'"),
    "thousands apart": line(15, "search: {trials: 1_000}", "search.trials must be a whole number; got '1_000'"),
    "Arabic digits": line(15, "search: {trials: ٨}", "search.trials must be a whole number; got '٨'"),
    "trials beyond a million": line(15, "search: {trials: 1000001}", "search.trials must be at most 1000000; got 1000001"),
    "seed beyond 31 bits": line(15, "search: {seed: 2147483648}", "search.seed must be below 2147483648; got 2147483648"),
    "concurrency of a half": line(15, "search: {max_concurrent: 0.5}", "search.max_concurrent must be a whole number or 'auto'; got 0.5"),
    "5,000 processors": line(16, "resources: {cpus_per_trial: 5000}", "resources.cpus_per_trial must be at most 4096 or 'auto'; got 5000"),
    "one and a half GPUs": line(16, "resources: {gpus_per_trial: 1.5}", "resources.gpus_per_trial must be a share of one GPU, such as 0.5, or a whole number of GPUs that train a trial together; got 1.5"),
    "a bit more than two GPUs": line(16, "resources: {gpus_per_trial: 2.001}", "resources.gpus_per_trial must be a share of one GPU, such as 0.5, or a whole number of GPUs that train a trial together; got 2.001"),
    "negative GPUs": line(16, "resources: {gpus_per_trial: -1}", "resources.gpus_per_trial must be at least 0 or 'auto'; got -1"),
    "cache of nothing": line(16, "activations: {max_gb: 0}", "activations.max_gb must be above 0; got 0"),
    "activations in bfloat16": line(16, "activations: {dtype: bfloat16}", "activations.dtype must be 'float16' or 'float32'; got 'bfloat16'"),
    "no views": line(16, "activations: {views: 0}", "activations.views must be at least 1"),
    "negative finalists": line(16, "finalists: {count: -1}", "finalists.count must be at least 0; got -1"),
    "finalists without seeds": line(16, "finalists: {seeds: 0}", "finalists.seeds must be at least 1; got 0"),
    "one image for training": line(2, "data: {source: digits, max_train_images: 1}", "data.max_train_images must be at least 2, or none; got 1"),
    "images of 100 megapixels": line(2, "data: {source: digits, image_px: 10000}", "data.image_px must be at most 2048, or none; got 10000"),
    "patience of nothing": line(14, "training: {early_stopping: {patience: 0}}", "training.early_stopping.patience must be at least 1; got 0"),
    # --- folds ---
    "one fold": line(2, "data: {source: digits, validation: {folds: 1}}", "data.validation.folds must be at least 2; got 1"),
    "21 folds": line(2, "data: {source: digits, validation: {folds: 21}}", "data.validation.folds must be at most 20; got 21"),
    "two and a half folds": line(2, "data: {source: digits, validation: {folds: 2.5}}", "data.validation.folds must be a whole number; got 2.5"),
    "folds that are not counted": line(2, "data: {source: digits, validation: {}}", "data.validation.folds must be given"),
    "folds of nothing": line(2, "data: {source: digits, validation: {folds: none}}", "data.validation.folds must be a whole number"),
    "folds by another name": line(2, "data: {source: digits, validation: {fold: 3}}", "data.validation.fold: unknown setting 'fold'", "data.validation.folds must be given", problems=2),
    "folds without their name": line(2, "data: {source: digits, validation: 5}", "data.validation must map names to values"),
    "validation as a share": line(2, "data: {source: digits, validation: 0.2}", "data.validation must map names to values"),
    "folds and a share": line(2, "data: {source: digits, validation: {folds: 4}, validation_fraction: 0.2}", "data.validation_fraction must be left out with data.validation: each of 4 folds holds out one of 4 images; got 0.2: leave one of the two out"),
    "folds and the default share": line(2, "data: {source: digits, validation: {folds: 4}, validation_fraction: 0.1}", "data.validation_fraction must be left out with data.validation"),
    "folds and the share that they come to": line(2, "data: {source: digits, validation: {folds: 4}, validation_fraction: 0.25}", "data.validation_fraction must be left out with data.validation"),
    "folds and seeds": file(wrong({2: "data: {source: digits, validation: {folds: 4}}", 16: "finalists: {seeds: 3}"}), ":16: finalists.seeds must be left out with data.validation: a finalist is trained on each of 4 folds, with a new seed on each; got 3: leave one of the two out"),
    # --- preprocessing ---
    "resize to 100,000": line(5, '  preprocess: {choice: ["resize(100000)", standardise]}', "space.preprocess.choice[0]: resize: px must be a whole number between 1 and 2048; got '100000'"),
    "scale from nothing to nothing": line(5, '  preprocess: {choice: ["scale(nan,1)", standardise]}', "space.preprocess.choice[0]: scale: low"),
    "preprocessing that is code": line(5, "  preprocess: {choice: [\"__import__('os').system('id')\", standardise]}", "space.preprocess.choice[0]: preprocessing must be written name or name(arguments)"),
    "preprocessing of a thousand steps": line(5, "  preprocess: {choice: [" + "|".join(["grayscale"] * 200) + ", standardise]}", "space.preprocess.choice[0]: preprocessing text must be at most 500 characters; got 1999"),
}  # fmt: skip
