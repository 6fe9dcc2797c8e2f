"""tuner: finds the best image classifier for a data set, and gives an honest account of how."""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.api.own_code import Bool as Bool
    from tuner.api.own_code import Choice as Choice
    from tuner.api.own_code import Float as Float
    from tuner.api.own_code import Int as Int
    from tuner.api.own_code import architecture as architecture
    from tuner.api.own_data import augmentation as augmentation
    from tuner.api.own_data import metric as metric
    from tuner.api.own_data import preprocessing as preprocessing
    from tuner.api.own_data import source as source
    from tuner.api.own_tracker import Tracker as Tracker
    from tuner.api.own_tracker import tracker as tracker
    from tuner.api.run import load_run as load_run
    from tuner.api.study import Study as Study
    from tuner.api.trainable import Epoch as Epoch
    from tuner.api.trainable import load_state as load_state
    from tuner.api.trainable import trainable as trainable

__version__ = "0.1.0"

_OFFERED = {
    **dict.fromkeys(("architecture", "Int", "Float", "Choice", "Bool"), "tuner.api.own_code"),
    **dict.fromkeys(("tracker", "Tracker"), "tuner.api.own_tracker"),
    "Study": "tuner.api.study",
    "load_run": "tuner.api.run",
    **dict.fromkeys(("trainable", "Epoch", "load_state"), "tuner.api.trainable"),
    **dict.fromkeys(("augmentation", "preprocessing", "source", "metric"), "tuner.api.own_data"),
}
"""What `import tuner` offers, by the module that is loaded when it is asked for. Importing it loads nothing else."""


def __getattr__(name: str) -> Any:
    """Return what is offered under this name."""
    if name in _OFFERED:
        return getattr(importlib.import_module(_OFFERED[name]), name)
    raise AttributeError(f"module 'tuner' has no attribute {name!r}; it offers {', '.join(_OFFERED)}")


def __dir__() -> list[str]:
    """Return what is offered, and what is there."""
    return sorted({*globals(), *_OFFERED})


_LIBRARIES = (
    *("ray", "keras", "tensorflow", "optuna", "numpy", "pandas", "scipy", "sklearn", "pyarrow", "matplotlib", "PIL"),
    *("rich", "yaml", "pydantic", "psutil", "jinja2", "filelock", "platformdirs", "markdown_it", "cv2", "imagehash"),
    *("absl", "click", "google", "grpc", "h5py", "jsonschema", "msgpack", "packaging", "requests", "six", "urllib3"),
)


def hidden_module(folder: str) -> str | None:
    """Return what hides a module of Python or a library from those who import it; None: nothing, or it is installed."""
    try:
        files = set(os.listdir(folder))
    except OSError:
        return None
    if any(file.endswith(".dist-info") for file in files):
        return None
    places = (
        place for name in (*sys.stdlib_module_names, *_LIBRARIES) for place in (f"{name}.py", f"{name}/__init__.py")
    )
    found = (os.path.join(folder, place) for place in places if place.partition("/")[0] in files)
    return next((place for place in found if os.path.isfile(place)), None)


def hidden_by_path() -> str:
    """Return what is wrong with PYTHONPATH, which workers inherit; empty: it hides no module."""
    for folder in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        if hidden := hidden_module(folder):
            return f"PYTHONPATH must not hide a module that tuner needs; {hidden} does: leave {folder} out"
    return ""


def _settle_imports() -> None:
    """Look for no module in the working folder, where `python -m` looks first; refuse a PYTHONPATH that hides one."""
    if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(__file__)):
        del sys.path[0]
        os.environ["PYTHONSAFEPATH"] = "1"
    if wrong := hidden_by_path():
        if sys.stderr is not None:
            sys.stderr.write(f"{wrong}\n")
        sys.exit(2)


if sys.argv[:1] == ["-m"]:  # a command begins, and has imported nothing yet
    _settle_imports()
