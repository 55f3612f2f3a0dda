"""Every option and every default of a model and its training: what a person can say to ``train``.

Values come from a file, then ``BVAE_*`` variables, then flags (or the arguments of the Python API); one pydantic model
refuses a wrong value with the same words wherever it came from. Nothing here imports torch or numpy.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from bvae_cli import paths, registry
from bvae_cli.errors import UsageError, unknown_name
from bvae_cli.fields import option, option_of, validated
from bvae_cli.folders import holds_pictures
from bvae_cli.presets import beneath

Estimator = Literal["gumbel", "gumbel-st", "st", "reinmax", "disarm", "dvae"]
Sampling = Literal["codeword", "bitwise"]
Activation = Literal["relu", "leaky-relu", "silu", "gelu"]
Network = Literal["mlp", "conv", "dcgan"]
NETWORKS = get_args(Network)
Schedule = Literal["constant", "cosine"]
LikelihoodName = Literal["bernoulli", "gaussian", "categorical", "poisson", "negative-binomial"]
ValueKind = Literal["bits", "reals", "symbols", "counts"]
# The values that a likelihood is normalised over; bits are numbers between 0 and 1 as well.
VALUES: dict[LikelihoodName, ValueKind] = {
    "bernoulli": "bits",
    "gaussian": "reals",
    "categorical": "symbols",
    "poisson": "counts",
    "negative-binomial": "counts",
}
# As the end of a sentence.
VALUES_IN_WORDS: dict[ValueKind, str] = {
    "bits": "bits, or between 0 and 1",
    "reals": "real numbers",
    "symbols": "symbols",
    "counts": "counts",
}


def fitting(likelihood: LikelihoodName) -> tuple[LikelihoodName, ...]:
    """Return the likelihoods of values that one fits, itself first: bits and counts are real numbers as well.

    >>> fitting("negative-binomial")
    ('negative-binomial', 'poisson', 'gaussian')
    """
    kind = VALUES[likelihood]
    alike = [name for name, other in VALUES.items() if other == kind and name != likelihood]
    wider = [name for name, other in VALUES.items() if other == "reals" and kind in ("bits", "counts")]
    return (likelihood, *alike, *wider)


# Names of a repetition code's option that stand without `--ecc`: users of this method type `--R 3` alone.
IMPLIED_CODE = "repetition"


# More than any data have rows and anybody has time for; beyond 2^63 torch itself gives up.
LARGEST_COUNT = 2**31 - 1


class Sizes(NamedTuple):
    """Width of each hidden layer, latent size N in code bits, number of hidden layers in encoder and in decoder."""

    hidden: int
    latent: int
    depth: int


class Saving(NamedTuple):
    """How often the state of a run is saved: after so many seconds, or where ``steps`` is not 0 after so many steps."""

    seconds: float
    steps: int


PARAMETER_SETS: dict[int, Sizes] = {
    0: Sizes(100, 100, 2),
    1: Sizes(200, 100, 2),
    2: Sizes(100, 200, 2),
    3: Sizes(200, 200, 2),
    4: Sizes(200, 200, 3),
    5: Sizes(200, 300, 2),
    6: Sizes(300, 200, 3),
    7: Sizes(500, 300, 5),
}
PARAMETER_SET_USES: dict[int, str] = {
    0: "quick testing",
    1: "recommended",
    2: "more latent capacity",
    3: "balanced large",
    4: "deeper",
    5: "R=3 compatible",
    6: "wide and deep",
    7: "largest",
}
DEFAULT_PARAMETER_SET = 1


_LONGEST_SHOWN = 60
_INTERVAL = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(s|m|h|steps?|)\s*")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
# What a path ends in that is taken for a data set of arrays.
FILES_OF_ARRAYS = (".npy", ".npz", ".csv", ".tsv", ".txt", ".parquet")
# A comma that no bracket encloses.
_BETWEEN_OPTIONS = re.compile(r",(?![^(]*\))")


class PluginRef(BaseModel):
    """The name of a plugin and its options, checked against the plugin itself.

    >>> PluginRef(type="repetition", options={"R": 3}).spec("code").label()
    'repetition(R=3)'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    options: dict[str, Any] = {}

    def spec(self, kind: registry.Kind) -> Any:
        """Return the plugin's spec, built from the options. Raises UsageError for a wrong name, option or value."""
        spec_class = registry.load(kind, self.type)
        return validated(spec_class, self.options, f"the {kind} '{self.type}'")

    def label(self) -> str:
        """Return the name with its options, in the grammar that ``--dataset`` reads: ``name:key=value,…``."""
        said = {key: value for key, value in self.options.items() if value is not None}
        options = ",".join(f"{key}={_bracketed(value)}" for key, value in said.items())
        return f"{self.type}:{options}" if options else self.type

    def paths(self, kind: registry.Kind) -> list[Path]:
        """Return the files and folders that the options name. Raises UsageError as ``spec`` does."""
        return [value for value in self.spec(kind).__dict__.values() if isinstance(value, Path)]

    def shown(self) -> str:
        """Return the name with its options for a person to read: of a long value, as a matrix, its beginning."""
        texts = {key: str(value) for key, value in self.options.items() if value is not None}
        short = {key: text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…" for key, text in texts.items()}
        return PluginRef(type=self.type, options=short).label()


def parse_code(text: Any) -> Any:
    """Read ``name`` or ``name:key=value,…`` as a code; anything but a string is returned as it is.

    A value that holds a comma stands in brackets: ``name:key=(a,b)``.
    """
    return _parse_named(text) if isinstance(text, str) else text


def parse_dataset(text: Any) -> Any:
    """Read a data set's name, ``name:key=value,…``, or a path; anything but text or a path is returned as it is.

    A folder is taken for one of IDX files, or of pictures where it holds those alone, a file for an array. Raises
    UsageError for what is neither a known name nor looks like a path.
    """
    if not isinstance(text, str | Path):
        return text
    known = registry.names("data set")
    if str(text).split(":", 1)[0] in known:
        return _parse_named(str(text))
    path = paths.expanded(text)
    # Unlike pathlib's, these are False for a word that is too long to be a path, or holds what no path does.
    if str(text) and os.path.isdir(path):  # noqa: PTH112
        if holds_pictures(path):
            return PluginRef(type="images", options={"path": str(path)})
        return PluginRef(type="mnist", options={"folder": str(path)})
    if os.path.isfile(path) or path.suffix in FILES_OF_ARRAYS or len(path.parts) > 1:  # noqa: PTH113
        return PluginRef(type="arrays", options={"path": str(path)})
    error = unknown_name("data set", str(text), known)
    raise UsageError(error.message, f"{error.hint} A file or folder of your own works as well: give its path.")


def _parse_named(text: str) -> PluginRef:
    name, _, rest = text.partition(":")
    options = {}
    for item in between_commas(rest):
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"'{item}' in '{text}' is not an option.", "Write name:key=value,key=value.")
        key, value = key.strip(), value.strip()
        if key in options:
            raise UsageError(f"'{text}' says the option '{key}' twice.", "Leave one of them out.")
        options[key] = unbracketed(value)
    return PluginRef(type=name, options=options)


def between_commas(text: str) -> list[str]:
    """Split a text at the commas that no bracket encloses; of an empty one nothing is left.

    >>> between_commas("groups=(9 repetition:R=3 + 8 hamming:r=3,extended=true),lr=1e-3")
    ['groups=(9 repetition:R=3 + 8 hamming:r=3,extended=true)', 'lr=1e-3']
    """
    return _BETWEEN_OPTIONS.split(text) if text else []


def unbracketed(value: str) -> str:
    """Return a value without the brackets that hold its commas together."""
    return value[1:-1] if value.startswith("(") and value.endswith(")") else value


def _bracketed(value: Any) -> str:
    return f"({value})" if "," in str(value) else str(value)


def _as_text(value: Any) -> Any:
    """Return a whole number as text: a file and the Python API may give one."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


MODEL, DATA, TRAINING, LATENT, MACHINE, OUTPUT = "Model", "Data", "Training", "Latent bits", "Machine", "Output"


class ModelChoice(BaseModel):
    """The fields that name a model: its sizes, its code, its data; shared by every command that needs one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    params: Annotated[int | None, option(MODEL, "-n", "--params", decides=False)] = Field(
        None, ge=0, le=7, description="Parameter set 0…7: hidden, latent and depth at once [default: 1]."
    )
    hidden: Annotated[int | None, option(MODEL)] = Field(
        None, ge=1, le=65536, description="Width of each hidden layer [default: the set's]."
    )
    latent: Annotated[int | None, option(MODEL)] = Field(
        None, ge=1, le=1048576, description="Latent size N in code bits [default: the set's]."
    )
    depth: Annotated[int | None, option(MODEL)] = Field(
        None, ge=1, le=64, description="Hidden layers in encoder and in decoder [default: the set's]."
    )
    ecc: Annotated[PluginRef, BeforeValidator(parse_code), option(MODEL, "--ecc", "--ecc-type", metavar="NAME")] = Field(
        PluginRef(type="none"), description="Code on the latent bits; see `bvae codes`."
    )

    @field_validator("*")
    @classmethod
    def _at_home(cls, value: Any) -> Any:
        # A shell does this for a flag, and nobody for a file or a variable.
        if isinstance(value, list):
            return [paths.expanded(item) if isinstance(item, Path) else item for item in value]
        return paths.expanded(value) if isinstance(value, Path) else value

    @model_validator(mode="after")
    def _sizes_and_code(self) -> Self:
        chosen = DEFAULT_PARAMETER_SET if self.params is None else self.params
        for name, size in zip(Sizes._fields, PARAMETER_SETS[chosen], strict=True):
            if getattr(self, name) is None:
                object.__setattr__(self, name, size)  # frozen for everybody else
        spec = self.ecc.spec("code")
        object.__setattr__(self, "ecc", PluginRef(type=self.ecc.type, options=spec.model_dump(mode="json")))
        if not self._builds_its_size():
            return self
        try:
            spec.check_size(self.latent)
        except UsageError as error:
            fitting = sets_that_fit(spec, sized=True)
            raise UsageError(error.message, f"{error.hint} {fitting}" if error.hint else fitting) from None
        return self

    def _builds_its_size(self) -> bool:
        """Say whether the latent size is going to be built: where weights are named, they bring their own."""
        return True

    @property
    def sizes(self) -> Sizes:
        """The three sizes, the set's where none was named."""
        assert self.hidden is not None  # filled by the validator
        assert self.latent is not None
        assert self.depth is not None
        return Sizes(self.hidden, self.latent, self.depth)


class TrainConfig(ModelChoice):
    """Everything that decides a training run, and where and how it runs."""

    preset: Annotated[Literal["none", "coded-dvae"], option(MODEL, decides=False)] = Field(
        "none",
        description="Take the options of a published model where nothing else says them; "
        "coded-dvae is that of Martínez-García et al. (UAI 2025).",
    )
    dataset: Annotated[PluginRef, BeforeValidator(parse_dataset), option(DATA, decides=False, metavar="NAME|PATH")] = Field(
        PluginRef(type="binarized-mnist"),
        description="Data set: a name of `bvae datasets` (with options as name:key=value,…), or a file or folder.",
    )
    subset: Annotated[int, option(DATA)] = Field(
        0, ge=0, le=LARGEST_COUNT, description="Train on the first so many rows only; 0 takes all. Validation stays whole."
    )
    likelihood: Annotated[Literal["auto", LikelihoodName], option(DATA, added=True)] = Field(
        "auto",
        description="What the decoder says of a value, p(x given c); auto takes what the data set says: bernoulli for bits, "
        "gaussian for real values, categorical for symbols, poisson for counts.",
    )
    sigma: Annotated[float, option(DATA, added=True)] = Field(
        0.0, ge=0, le=1e30, description="σ of the gaussian likelihood, for all features; 0 learns one for each."
    )
    epochs: Annotated[int, option(TRAINING)] = Field(
        100, ge=1, le=LARGEST_COUNT, description="Passes over the training data, at most."
    )
    batch_size: Annotated[int, option(TRAINING)] = Field(1000, ge=1, le=LARGEST_COUNT, description="Rows in one step.")
    lr: Annotated[float, option(TRAINING)] = Field(0.001, gt=0, le=10, description="Learning rate of Adam.")
    lr_schedule: Annotated[Schedule, option(TRAINING)] = Field(
        "constant", description="Learning rate over the epochs: constant, or cosine decay to 0."
    )
    beta_max: Annotated[float, option(TRAINING)] = Field(
        1.0, ge=0, le=1000, description="Weight of the KL term after the warm-up; 1 is the ELBO."
    )
    beta_warmup_epochs: Annotated[int, option(TRAINING)] = Field(
        10, ge=0, le=LARGEST_COUNT, description="Epochs over which that weight rises from 0."
    )
    patience: Annotated[int, option(TRAINING)] = Field(
        10, ge=1, le=LARGEST_COUNT, description="Stop after so many epochs without improvement, counted after the warm-up."
    )
    min_delta: Annotated[float, option(TRAINING)] = Field(
        0.0, ge=0, description="Improvement of the validation loss, in nats, that patience takes for one."
    )
    grad_clip: Annotated[float, option(TRAINING)] = Field(
        0.0, ge=0, description="Largest norm of the gradient; 0 leaves it alone."
    )
    seed: Annotated[int, option(TRAINING)] = Field(0, ge=0, lt=2**63, description="Seed of weights, order and noise.")
    init_from: Annotated[Path | None, option(TRAINING, decides=False)] = Field(
        None, description="Start from the weights of another run (same sizes and code)."
    )
    on_divergence: Annotated[Literal["rewind", "stop"], option(TRAINING, decides=False)] = Field(
        "rewind",
        description="Where the loss is no number or explodes: go back to the best epoch with a quarter of the learning "
        "rate, twice at most; or stop.",
    )
    estimator: Annotated[Estimator, option(LATENT)] = Field("reinmax", description="Gradient through the sampled bits.")
    sampling: Annotated[Sampling, option(LATENT)] = Field(
        "codeword",
        description="Training draws a true codeword, or each code bit on its own (a surrogate, never a bound).",
    )
    network: Annotated[Network, option(MODEL, added=True)] = Field(
        "mlp",
        description="Encoder and decoder: mlp; or for pictures conv (strided convolutions) or dcgan (those of the published "
        "coded DVAE): --depth is then how often a picture is halved, --hidden the layer between it and the bits.",
    )
    channels: Annotated[int, option(MODEL, added=True)] = Field(
        32, ge=1, le=4096, description="Channels of the first convolution; each halving doubles them."
    )
    channel_epsilon: Annotated[float, option(LATENT, added=True)] = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Training flips each code bit that the decoder sees with this probability, to make it robust (NECST); "
        "validation and every reported bound flip none.",
    )
    activation: Annotated[Activation, option(LATENT)] = Field(
        "leaky-relu", description="Activation of the hidden layers; leaky-relu has the slope 0.2 below 0."
    )
    tau_start: Annotated[float, option(LATENT)] = Field(
        1.0, gt=0, le=100, description="First temperature of the relaxed estimators."
    )
    tau_end: Annotated[float, option(LATENT)] = Field(
        0.4, gt=0, le=100, description="Last temperature; it falls by 5 % an epoch until then."
    )
    consistency_weight: Annotated[float, option(LATENT)] = Field(
        0.01, ge=0, le=1000, description="Weight of the agreement of encoder and code, at most that many nats."
    )
    device: Annotated[str, option(MACHINE, decides=False)] = Field(
        "auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:0 … or mps."
    )
    amp: Annotated[Literal["auto", "off", "bf16", "fp16"], option(MACHINE, decides=False)] = Field(
        "auto", description="Mixed precision; auto takes bf16 on GPUs that have it."
    )
    threads: Annotated[int, option(MACHINE, decides=False)] = Field(
        0, ge=0, le=4096, description="CPU threads; 0 measures which number is fastest where a run is long enough."
    )
    compile: Annotated[Literal["auto", "on", "off"], option(MACHINE, decides=False)] = Field(
        "auto",
        description="Compile the step; auto tries it where a compiler is there and the run long, and keeps what is faster.",
    )
    workers: Annotated[str, BeforeValidator(_as_text), option(MACHINE, decides=False, metavar="auto|N")] = Field(
        "auto",
        pattern=r"^(auto|[1-9]\d{0,2})$",
        description="Processes that train several runs (--seeds, compare) side by side: auto takes as many as a measurement "
        "shows to be fastest, 1 starts none.",
    )
    models_at_once: Annotated[int, option(MACHINE, decides=False)] = Field(
        0,
        ge=0,
        le=LARGEST_COUNT,
        description="Of several runs, train at most so many as one model; 0 takes what is fastest and fits the memory.",
    )
    output_dir: Annotated[Path, option(OUTPUT, decides=False)] = Field(
        Path("weights"), description="Folder that holds the folders of runs."
    )
    save_every_epoch: Annotated[bool, option(OUTPUT, decides=False)] = Field(
        False, description="Keep the weights of every epoch, not only the best."
    )
    checkpoint_every: Annotated[str, BeforeValidator(_as_text), option(OUTPUT, decides=False, metavar="TIME|STEPS")] = Field(
        "10s",
        description="Save the state to go on from after so much time (as 30s, 5m, 1h) or so many steps (as 500steps); "
        "also after an epoch, where that takes less than a hundredth of the time.",
    )
    tensorboard: Annotated[bool, option(OUTPUT, decides=False)] = Field(
        False, description="Write TensorBoard events into the run's folder (needs the extra `tensorboard`)."
    )

    DIGEST_LENGTH: ClassVar[int] = 8

    @model_validator(mode="before")
    @classmethod
    def _upon_its_preset(cls, values: Any) -> Any:
        return beneath(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _temperatures_extras_and_data(self) -> Self:
        if self.tau_end > self.tau_start:
            raise UsageError(
                f"--tau-end {self.tau_end} is above --tau-start {self.tau_start}.",
                "The temperature falls during training.",
            )
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise UsageError("TensorBoard is not installed.", "pip install 'bvae-cli[tensorboard]', or leave it out.")
        if (reason := self.ecc.spec("code").no_soft_decoder()) is not None:
            raise UsageError(reason, "Take a code with a soft decoder: `bvae codes show NAME` says which have one.")
        _ = self.saving
        if self.sigma and self.likelihood not in ("auto", "gaussian"):
            raise UsageError(f"--sigma is for the gaussian likelihood, not for {self.likelihood}.", "Leave it out.")
        spec = self.dataset.spec("data set").for_likelihood(self.likelihood)
        object.__setattr__(self, "dataset", PluginRef(type=self.dataset.type, options=spec.model_dump(mode="json")))
        return self

    def require_use(self, named: Collection[str]) -> None:
        """Raise UsageError where a person ``named`` an option that changes nothing: channels without a convolution."""
        if "channels" in named and self._networks() <= {"mlp"}:
            raise UsageError("--channels is for the networks conv and dcgan, not for mlp.", "Leave it out.")

    def _networks(self) -> set[str]:
        return {self.network}

    @property
    def saving(self) -> Saving:
        """How often the state is saved. Raises UsageError for what says neither a time nor a number of steps."""
        found = _INTERVAL.fullmatch(self.checkpoint_every)
        if found is None:
            raise UsageError(
                f"--checkpoint-every '{self.checkpoint_every}' is neither a time nor a number of steps.",
                "As in 30s, 5m, 1h or 500steps.",
            )
        number, unit = found.groups()
        if unit in _SECONDS:
            return Saving(float(number) * _SECONDS[unit], 0)
        if "." in number or int(number) == 0:
            raise UsageError(f"--checkpoint-every '{self.checkpoint_every}': there is no such step.", "As in 500steps.")
        return Saving(0.0, int(number))

    def deciding(self) -> dict[str, Any]:
        """Return, as plain JSON values, the fields that decide the numbers of a run; the data itself is added to them."""
        values = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if self._decides(name)}

    def _decides(self, name: str) -> bool:
        said = option_of(type(self), name)
        return said.decides and not (said.added and getattr(self, name) == type(self).model_fields[name].default)


def sets_that_fit(spec: Any, sized: bool = False) -> str:
    """Say which parameter sets a code fits, as a sentence; ``sized`` where sizes that do were just named."""
    fitting = [str(number) for number, sizes in PARAMETER_SETS.items() if spec.fits(sizes.latent)]
    if not fitting:
        return f"No parameter set fits; name {'one of these sizes' if sized else 'a size'} with --latent."
    return f"Parameter sets that fit: {', '.join(fitting)}."


def digest_of(values: Mapping[str, Any]) -> str:
    """Return the sha256 of plain JSON values, whatever their order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
