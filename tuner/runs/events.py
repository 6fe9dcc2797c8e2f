"""The events of a run, of which the record is made.

Every event says when it happened; a new kind of event, or another field, is another version of the record.
"""

from __future__ import annotations

import time
from base64 import b64decode
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from tuner.common.metrics import Mode
from tuner.runs.epoch import EndStatus, Epoch, Phase

SCHEMA_VERSION = 10
READABLE_VERSIONS = (7, 8, 9, 10)
"""Version 7 knows no folds (what is a number now was a seed's), and of the test split accuracy and loss alone; version
8 knows no own code, version 9 no augmentation on a device and no probes."""

KERAS, STATE = ".keras", ".npz"
"""Suffixes of exported models: of networks, and of the states of training functions of one's own."""
Scalar = bool | int | float | str | None
Configuration = dict[str, Scalar]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Number = Annotated[Count, Field(validation_alias=AliasChoices("number", "seed_number"))]
"""Of a training of a finalist, from 0."""
Size = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Status = Literal["running", "paused", "completed", "stopped", "failed"]


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    time: Seconds = Field(default_factory=time.time)
    """Unix time in seconds."""
    elapsed_s: Seconds = 0.0
    """Seconds that the study has been running, over all its sessions."""


class OwnCode(BaseModel):
    """Own code, as it was when the search began."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    reference: str | None = None
    """The file or module by which it was given; None: it came with an installed package."""
    sha256: str
    """Of its text; of a package, of all its files."""


class StudyCreated(_Event):
    """The first event of every record: what is searched, on which data and environment."""

    event: Literal["study_created"] = "study_created"
    schema_version: int = SCHEMA_VERSION
    study: str
    metric: str
    """The metric that the scheduler compares, and that makes a trial the winner."""
    mode: Mode
    metrics: list[str] = Field(default_factory=list)
    """All metrics that are optimised, `metric` first; empty: `metric` alone."""
    seed: Count
    max_epochs: Count
    specification: dict[str, Any]
    """The search-space file as it was resolved, with every default written out."""
    data: dict[str, Any]
    """name, source, fingerprint, class_names, images_per_class, image_shape, train_images, validation_images,
    validation_groups (None: none hang together)."""
    environment: dict[str, Any]
    """Versions, machine, commit."""
    command: list[str]
    own_code: list[OwnCode] = Field(default_factory=list)
    """All plugins, and the code of installed packages that is searched with."""

    @property
    def all_metrics(self) -> tuple[str, ...]:
        """All metrics that are optimised, `metric` first."""
        return tuple(self.metrics) or (self.metric,)

    @property
    def plugins(self) -> tuple[str, ...]:
        """The references of the plugins that it was searched with."""
        return tuple(one.reference for one in self.own_code if one.reference)

    @property
    def folds(self) -> int:
        """The folds that the training images are parted into; 0: there are none."""
        data = self.specification.get("data")
        validation = data.get("validation") if isinstance(data, dict) else None
        folds = validation.get("folds") if isinstance(validation, dict) else None
        return folds if isinstance(folds, int) else 0

    @property
    def trainable(self) -> str | None:
        """The training function of one's own that trials train; None: they train networks."""
        name = self.specification.get("trainable")
        return name if isinstance(name, str) else None

    @property
    def model_name(self) -> str:
        """The name of the file that the best model is exported as."""
        return f"best{KERAS if self.trainable is None else STATE}"

    @model_validator(mode="after")
    def _has_sections(self) -> Self:
        for name in ("search", "training"):
            if not isinstance(self.specification.get(name, {}), dict):
                raise ValueError(f"specification.{name} must map names to values")
        return self


class Resolved(BaseModel):
    """Settings as they were used, where a file leaves them to `auto`: all but sampler, scheduler and packing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: Count
    """Planned; a grid ends when it is used up."""
    time_budget_s: Seconds | None
    weighs_seconds: bool
    """Whether the sampler expects improvement per second."""
    rungs: list[Count]
    """The epochs at which trials are compared; where the scheduler does not halve, would be."""
    reduction_factor: Count
    memory_mb_per_trial: float | None
    """Most host memory; None: there is no limit of ours."""
    probes: bool = False
    """Whether frozen features are probed."""
    prior: bool = False
    """Whether it began with the studies of other data that come with tuner."""


class SessionStarted(_Event):
    """A process that began or resumed the search."""

    event: Literal["session_started"] = "session_started"
    resumed: bool
    max_concurrent: Count
    """Trials that may run at the same time."""
    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    augment_on: Literal["host", "device"] = "host"
    """Where images are augmented, by operations that can be done there; the same in all sessions."""
    sampler: str
    scheduler: str
    storage: str | None = None
    """The folder or address that holds the checkpoints; None: the run directory."""
    resolved: Resolved | None = None


OVER = ("finished", "time_budget", "expected_gain")
"""Reasons with which a search is over, so that its finalists are trained."""


class SessionEnded(_Event):
    """The end of a session; `reason` is why (all trials done, budget, little more to gain, interrupted, an error)."""

    event: Literal["session_ended"] = "session_ended"
    reason: Literal["finished", "time_budget", "expected_gain", "interrupted", "error"]
    message: str | None = None


class Notice(_Event):
    """A message that a user should read and need not act on: that a cache could not be used, and why."""

    event: Literal["notice"] = "notice"
    text: str


class Probed(_Event):
    """The result of a linear probe of one frozen backbone under one preprocessing."""

    event: Literal["probed"] = "probed"
    configuration: Configuration
    """As much of one as the features depend on."""
    method: str
    """Of the probe."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Values for the validation images by name: of the study's metric, and the accuracy."""
    reason: str | None = None
    """Why there are none; None: there are."""
    features: Count = 0
    images: Count = 0
    """Training images: a stratified part of them."""
    validation_images: Count = 0
    seconds: Seconds
    """Of the processor, with what the cache lacked."""


class ProbeWorked(_Event):
    """The processor time so far of what gives no result yet: it may be cut short, and has been spent then."""

    event: Literal["probe_worked"] = "probe_worked"
    seconds: Seconds
    """Since the result before, or since the probes of this session began."""


class Suspect(BaseModel):
    """An image whose label looks wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: Literal["train", "validation"]
    row: Count
    """Of the images as prepared that the split is taken from."""
    name: str
    """What errors call the image."""
    label: str
    """The class that was given."""
    label_probability: Share
    likely: str
    """The class that it looks like."""
    likely_probability: Share


class LabelsDoubted(_Event):
    """Labels of training and validation images that look wrong, by the features of one frozen backbone alone."""

    event: Literal["labels_doubted"] = "labels_doubted"
    configuration: Configuration
    """Of the backbone."""
    images: Count
    """So many labels were looked at."""
    suspects: list[Suspect]
    """The surest first, so many at most as are kept."""
    found: Count
    """Of all that were found."""
    accuracy: Share
    """Of the probe, for images that it was not trained on: of all images, by the labels that are given."""


class TrialStarted(_Event):
    """The first slot of a trial."""

    event: Literal["trial_started"] = "trial_started"
    trial: Count
    configuration: Configuration
    origin: Literal["baseline", "sampler", "grid", "queued", "recipe", "portfolio", "prior", "untried"]


class Facts(_Event):
    """Facts about a trial that are known once its network is built."""

    parameters: Size | None = None
    trainable_parameters: Size | None = None
    """Parameters trained in the last phase."""
    batch_size_used: Size | None = None
    """Smaller than the configuration's when memory ran out once."""
    setup_s: Seconds | None = None
    """Building the model and opening the data."""
    cut: str | None = None
    """The place whose cached activations the last phase read; None: it was trained from the images."""
    node: str | None = None
    """The name of the machine that trained it last."""

    def facts(self) -> dict[str, Any]:
        """Return the facts by name, for another event of the trial."""
        return {name: getattr(self, name) for name in Facts.model_fields if name not in _Event.model_fields}


class TrialMeasured(_Event):
    """Facts about a trial's network after its first epoch; recorded once, though a resumed trial measures again."""

    event: Literal["trial_measured"] = "trial_measured"
    trial: int
    parameters: int | None = None
    model_mb: float | None = None
    """Size of all weights as they are stored, in units of 2**20 bytes."""
    seconds_per_image: float | None = None
    """Inference, from images in memory to probabilities; None unless it is one of the study's metrics."""


class TrialPaused(Facts):
    """The pause of a trial at a rung, its state in a checkpoint; the scheduler may promote it later."""

    event: Literal["trial_paused"] = "trial_paused"
    trial: Count
    epoch: Count


class TrialResumed(_Event):
    """The resumption of a promoted or lost trial from the checkpoint of epoch `epoch` (0: the beginning)."""

    event: Literal["trial_resumed"] = "trial_resumed"
    trial: Count
    epoch: Count


class ConfigurationChanged(_Event):
    """Another configuration and other weights for a running trial, by population based training."""

    event: Literal["configuration_changed"] = "configuration_changed"
    trial: Count
    epoch: Count
    configuration: Configuration


class EpochReported(_Event):
    """One epoch of one trial."""

    event: Literal["epoch"] = "epoch"
    trial: Count
    epoch: Count
    """Counted from 1 over both phases."""
    phase: Phase
    seconds: Seconds
    """Training and validation of this epoch."""
    metrics: dict[str, float]
    """Values that were measured in this epoch, by name."""
    best_so_far: float
    """Best value of the study's metric up to this epoch; what samplers and schedulers compare."""
    learning_rate: float

    @classmethod
    def of(cls, trial: int, shown: Epoch) -> Self:
        """Return the event that says what an epoch of a trial showed."""
        return cls(trial=trial, **shown._replace(metrics=dict(shown.metrics))._asdict())

    def compact(self) -> Epoch:
        """Return the same for the state: in a third of the memory."""
        return Epoch._make(getattr(self, name) for name in Epoch._fields)


class CheckpointSaved(_Event):
    """A checkpoint after `epoch` at `path`, relative to the run directory, here or in the storage."""

    event: Literal["checkpoint_saved"] = "checkpoint_saved"
    trial: Count
    epoch: Count
    path: str


class TrialEnded(Facts):
    """The end of a trial: by itself (completed), by a scheduler or budget (stopped), or failed."""

    event: Literal["trial_ended"] = "trial_ended"
    trial: Count
    status: EndStatus
    reason: str


class FinalistsStarted(_Event):
    """The end of the search itself; its best trials are trained again with several seeds, or on several folds."""

    event: Literal["finalists_started"] = "finalists_started"
    trials: list[Count]
    """The best first; the baseline is the last where it is not among them."""
    trainings: Count = Field(validation_alias=AliasChoices("trainings", "seeds"))
    """Of each."""
    folds: Count = 0
    """The folds of the data, of which the numbers of trainings are; 0: they are numbers of seeds."""


class FinalistTrained(_Event):
    """The end of one more training of a finalist, to its own end, with one of the seeds or on one of the folds."""

    event: Literal["finalist_trained"] = "finalist_trained"
    trial: Count
    number: Number
    """Of the seed, or of the fold; every finalist is trained with the same ones."""
    status: Literal["completed", "failed"]
    reason: str
    epochs: Count
    best: float | None
    """Best value of the study's metric, on the validation split; None when it failed before the first epoch."""
    seconds: Seconds
    """Training and validation of all epochs."""


class Tested(_Event):
    """The result of predictions for the test split."""

    images: Annotated[Count, Field(ge=1)]
    test_accuracy: Share
    test_loss: float
    correct: str
    """Base64 of one bit for each test image (numpy.packbits): whether its class was the most probable one."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Values of the study's other metrics of predictions, without `val_`."""
    resampled: str = ""
    """Base64 of float32: values of the study's metric for test images drawn again with replacement, the same ones in
    all events; empty for the accuracy, of which `correct` says all."""
    groups: Count = 0
    """Groups that the test images are of: drawn as wholes; 0: each image stands for itself."""
    accuracy_resampled: str = ""
    """As `resampled`, of the accuracy, where images are of groups."""

    @model_validator(mode="after")
    def _has_a_bit_for_each_image(self) -> Self:
        if len(b64decode(self.correct, validate=True)) != -(-self.images // 8):
            raise ValueError(f"correct must have a bit for each of {self.images} images")
        if any(len(b64decode(text, validate=True)) % 4 for text in (self.resampled, self.accuracy_resampled)):
            raise ValueError("resampled must be of float32")
        return self


class FinalistTested(Tested):
    """The result of a trained finalist on the test split, after all of them were trained."""

    event: Literal["finalist_tested"] = "finalist_tested"
    trial: Count
    number: Number


class GuessTested(Tested):
    """The result of giving every test image the classes' shares of the training images: what is to be beaten."""

    event: Literal["guess_tested"] = "guess_tested"
    largest_class: str
    """Of the training images, and so the answer to every image."""
    share: Share
    """Of it among the test images."""


Event = (
    StudyCreated
    | SessionStarted
    | SessionEnded
    | Notice
    | Probed
    | ProbeWorked
    | LabelsDoubted
    | TrialStarted
    | TrialMeasured
    | TrialPaused
    | TrialResumed
    | ConfigurationChanged
    | EpochReported
    | CheckpointSaved
    | TrialEnded
    | FinalistsStarted
    | FinalistTrained
    | FinalistTested
    | GuessTested
)
