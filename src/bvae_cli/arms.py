"""What a person can say to ``compare``: the arms, what is tuned, and how the models are measured.

An arm is one way of training, of which several seeds are trained. Nothing here imports torch or numpy.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from bvae_cli import registry
from bvae_cli.config import NETWORKS, PARAMETER_SETS, PluginRef, Sizes, TrainConfig, between_commas, unbracketed
from bvae_cli.errors import UsageError, nearest
from bvae_cli.fields import main_flag, option, option_of, validated

UNCODED = "none"
# The name under which users of this method know the code `none`.
_UNCODED_ALIASES = frozenset({"uncoded", "baseline"})
# Seeds of the tuning stand this far above those of the verdict, so that no run serves both.
TUNING_SEED_OFFSET = 1_000_000
_MOST_TUNED_SETTINGS = 1000
_LARGEST_SEED = 2**63 - 1
# Options that decide no number by themselves, and without which a command asks for something else.
_ALWAYS_TOLD = frozenset({"dataset", "baseline_weights", "ecc_weights", "init_from"})
# What an arm may not have to itself: a comparison is of models on the same data.
_SHARED = frozenset({"subset", "likelihood"})
# What tuning leaves alone, and why.
_UNTUNED = {
    **dict.fromkeys(("params", "hidden", "latent", "depth"), "it makes another arm: name it with --arm"),
    **dict.fromkeys(("epochs", "patience", "min_delta"), "it is the budget, which every arm has alike"),
    "subset": "it is the data, which every arm has alike",
    "likelihood": "bounds of different ones do not compare",
    "seed": "it is what the verdict is averaged over; --tune-seeds sets how many",
}

_ARMS, _MEASURING, _OUTPUT = "Arms and seeds", "Measuring", "Output"


def _listed(separator: str) -> BeforeValidator:
    """Read a variable's text, where a flag would be repeated, as a list."""

    def split(value: Any) -> Any:
        return [item.strip() for item in value.split(separator) if item.strip()] if isinstance(value, str) else value

    return BeforeValidator(split)


class CompareConfig(TrainConfig):
    """Everything that decides a comparison: how its arms are trained and how they are measured."""

    # A run with another learning rate than its arm's is another arm's.
    on_divergence: Annotated[Literal["rewind", "stop"], option("Training", decides=False)] = Field(
        "stop",
        description="Where the loss is no number or explodes: stop, and count the run as diverged; or go back to the best "
        "epoch with a quarter of the learning rate, twice at most.",
    )
    seeds: Annotated[int | None, option(_ARMS)] = Field(
        None,
        ge=1,
        le=1000,
        description="Seeds of each arm, from --seed upwards [default: the fewest that can make every claim significant].",
    )
    arm: Annotated[list[str], _listed(";"), option(_ARMS, metavar="NAME:KEY=VALUE,…")] = Field(
        [],
        description="An arm: a code (or `uncoded`), its options and any option of `train`; repeatable. Beside --ecc it is "
        "one arm more. A value with a comma stands in brackets: KEY=(VALUE,…).",
    )
    tune: Annotated[list[str], _listed(";"), option(_ARMS, metavar="OPTION=VALUE,…")] = Field(
        [],
        description="Choose this option of `train` for each arm on the validation split, as lr=3e-4,1e-3,3e-3; repeatable, "
        "then every combination is tried.",
    )
    tune_seeds: Annotated[int, option(_ARMS)] = Field(
        1, ge=1, le=1000, description="Seeds of each tuned setting; they are never those of the verdict."
    )
    baseline_weights: Annotated[list[Path], _listed(";"), option(_ARMS, decides=False, metavar="FILE|FOLDER")] = Field(
        [], description="Finished models for the baseline instead of training it; repeatable, one for each seed."
    )
    ecc_weights: Annotated[list[Path], _listed(";"), option(_ARMS, decides=False, metavar="FILE|FOLDER")] = Field(
        [], description="Finished models with a code, to stand beside --baseline-weights; repeatable."
    )
    eval_subset: Annotated[int, option(_MEASURING)] = Field(
        0, ge=0, le=2**31 - 1, description="Measure on the first so many rows of the test split; 0 takes all."
    )
    iwae_samples: Annotated[int, option(_MEASURING)] = Field(
        64, ge=1, le=1_000_000, description="Draws S of the tighter bound IWAE-S."
    )
    noise_epsilon: Annotated[list[Annotated[float, Field(ge=0, le=0.5)]], _listed(","), option(_MEASURING)] = Field(
        [0.0, 0.01, 0.02, 0.05, 0.1],
        min_length=1,
        description="Probability with which stored code bits flip, 0…½; repeatable.",
    )
    calibration_bins: Annotated[int, option(_MEASURING)] = Field(
        10, ge=2, le=1000, description="Bins of the reliability diagram and of the calibration error."
    )
    bootstrap_samples: Annotated[int, option(_MEASURING)] = Field(
        2000, ge=100, le=1_000_000, description="Resamples of the interval over images."
    )
    results_dir: Annotated[Path, option(_OUTPUT, decides=False)] = Field(
        Path("results"), description="Folder that holds the folders of comparisons."
    )
    out: Annotated[Path | None, option(_OUTPUT, decides=False, metavar="FOLDER")] = Field(
        None, description="Folder of this comparison [default: one of its own in --results-dir]."
    )

    IMAGES_FOR_A_BIN: ClassVar[int] = 10

    @model_validator(mode="after")
    def _enough_to_measure(self) -> Self:
        if self.eval_subset:
            self.require_rows(self.eval_subset)
        named_alike = {f"{epsilon:g}": epsilon for epsilon in self.noise_epsilon}
        if len(named_alike) < len(set(self.noise_epsilon)):
            raise UsageError("Two --noise-epsilon are the same in six digits.", "Leave one of them out.")
        object.__setattr__(self, "noise_epsilon", sorted(set(self.noise_epsilon)))
        if self.seed + TUNING_SEED_OFFSET + 2000 > _LARGEST_SEED:
            raise UsageError(f"--seed {self.seed} leaves no room for the seeds after it.", "Take a smaller one.")
        if bool(self.baseline_weights) != bool(self.ecc_weights):
            missing = "--ecc-weights" if self.baseline_weights else "--baseline-weights"
            raise UsageError(
                f"{missing} is missing: finished models are compared with finished models.",
                "Name both, or neither: a run that is finished in --output-dir is never trained again.",
            )
        if self.baseline_weights and (self.arm or self.tune or self.seeds):
            raise UsageError(
                "Finished models leave nothing to train: --arm, --tune and --seeds do not go with them.",
                "Repeat --baseline-weights and --ecc-weights, one model for each seed.",
            )
        named = [name for name in [*_trainable(), "ecc", "dataset"] if name in self.model_fields_set]
        if self.baseline_weights and named:
            flags = ", ".join(main_flag(type(self), name) for name in named)
            raise UsageError(
                f"Finished models bring their own data, sizes and settings: {flags} cannot change them.",
                f"Leave out {flags}.",
            )
        return self

    def _networks(self) -> set[str]:
        if any(text.partition("=")[0].strip() == "network" for text in self.tune):
            return set(NETWORKS)
        return {arm.config.network for arm in arms_of(self)}

    def require_rows(self, rows: int) -> None:
        """Raise UsageError where so many rows are too few for the bins of the reliability diagram."""
        needed = self.IMAGES_FOR_A_BIN * self.calibration_bins
        if rows < needed:
            raise UsageError(
                f"{rows} test images are too few for {self.calibration_bins} bins of the reliability diagram, which need "
                f"{needed}.",
                f"Measure on {needed} images or more (--eval-subset 0 takes all), or take fewer --calibration-bins.",
            )


@dataclass(frozen=True)
class Arm:
    """One way of training: its name, the configuration without its seed, and what a person should know of it."""

    name: str
    config: TrainConfig
    note: str | None = None

    @property
    def coded(self) -> bool:
        """Say whether its code is another than `none`."""
        return self.config.ecc.type != UNCODED

    def with_settings(self, setting: dict[str, str], seed: int) -> TrainConfig:
        """Return the configuration of one run. Raises UsageError for a setting that this arm cannot have."""
        return _derived(self.config, {**setting, "seed": seed}, f"the arm {self.name}")


def arms_of(config: CompareConfig) -> list[Arm]:
    """Return the arms: with a code the uncoded one of N bits, that of K bits, and the coded one; then those named.

    Raises UsageError where there are fewer than two different ones.
    """
    arms = _three_arms(config) if config.ecc.type != UNCODED else []
    arms += [_named_arm(config, text) for text in config.arm]
    distinct = _without_twins(arms)
    if len({arm.name for arm in distinct}) < len(distinct):
        distinct = [replace(arm, name=_told_apart(index, distinct)) for index, arm in enumerate(distinct)]
    if len(distinct) < 2:
        raise UsageError(
            "A comparison needs two different arms." if config.arm else "A comparison needs a code.",
            "Name a code with --ecc, or arms with --arm, as --arm uncoded:latent=100 --arm repetition:R=3.",
        )
    return distinct


def tuned_settings(config: CompareConfig) -> list[dict[str, str]]:
    """Return every combination of the tuned options; one empty setting where nothing is tuned."""
    grid: dict[str, list[str]] = {}
    for text in config.tune:
        name, equals, values = text.partition("=")
        field = name.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"--tune '{text}' names no values.", "Write it as lr=3e-4,1e-3,3e-3.")
        tunable = [known for known in _trainable() if known not in _UNTUNED]
        if field in _UNTUNED:
            raise UsageError(f"{field} is not tuned: {_UNTUNED[field]}.", f"Can be tuned: {', '.join(sorted(tunable))}.")
        if field not in tunable:
            raise _unknown_key(field, "an option of `train` that can be tuned", tunable)
        if not _values(values):
            raise UsageError(f"--tune '{text}' names no values.", "Write it as lr=3e-4,1e-3,3e-3.")
        if field in grid:
            raise UsageError(f"--tune names {field} twice.", "Write all of its values behind one.")
        # 1e-3 and 0.001 are one value, and are to be trained once.
        checked = {
            str(getattr(_derived(_trained(config), {field: value}, "--tune"), field)): value for value in _values(values)
        }
        grid[field] = list(checked)
    settings = [dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*grid.values())]
    if len(settings) > _MOST_TUNED_SETTINGS:
        raise UsageError(
            f"--tune asks for {len(settings)} settings of each arm.", f"Take at most {_MOST_TUNED_SETTINGS}: fewer values."
        )
    return settings


def _three_arms(config: CompareConfig) -> list[Arm]:
    base = _trained(config)
    sizes, information_bits = base.sizes, base.ecc.spec("code").information_bits(base.sizes.latent)
    uncoded = {"ecc": PluginRef(type=UNCODED)}
    of_a_set = any(it == sizes._replace(latent=information_bits) for it in PARAMETER_SETS.values())
    note = (
        None
        if of_a_set
        else f"No parameter set has K = {information_bits} code bits with these layers: built at exactly that size."
    )
    return [
        Arm(f"uncoded N={sizes.latent}", _derived(base, uncoded, "the uncoded arm")),
        Arm(
            f"uncoded K={information_bits}", _derived(base, {**uncoded, "latent": information_bits}, "the uncoded arm"), note
        ),
        Arm(f"{base.ecc.spec('code').label()} N={sizes.latent}", base),
    ]


def _named_arm(config: CompareConfig, text: str) -> Arm:
    """Read ``name:key=value,…``: keys are the code's own options first, then those of ``train``."""
    name, _, rest = text.partition(":")
    code = UNCODED if name.strip() in _UNCODED_ALIASES else name.strip()
    fields = registry.load("code", code).model_fields
    code_options: dict[str, str] = {}
    overrides: dict[str, Any] = {}
    for item in filter(str.strip, between_commas(rest)):
        key, equals, value = (part.strip() for part in item.partition("="))
        value = unbracketed(value)
        if not equals or not value:
            raise UsageError(f"'{item}' in the arm '{text}' is not an option.", "Write NAME:key=value,key=value.")
        field = key.replace("-", "_")
        if key.removeprefix("ecc_") in code_options or field in overrides:
            raise UsageError(f"The arm '{text}' names {key} twice.", "Leave one of them out.")
        if field in _SHARED:
            raise UsageError(
                f"The arm '{text}' names {field}: all arms have the same data.", f"Set it for all with --{field}."
            )
        if key.removeprefix("ecc_") in fields:
            code_options[key.removeprefix("ecc_")] = value
        elif field in _trainable():
            overrides[field] = value
        else:
            raise _unknown_key(key, f"an option of the arm '{text}'", [*fields, *_trainable()])
    if "seed" in overrides:
        raise UsageError(f"The arm '{text}' names a seed; all arms have the same.", "Set the first with --seed.")
    what = f"the arm '{text}'"
    derived = _derived(_trained(config), {"ecc": PluginRef(type=code, options=code_options), **overrides}, what)
    label = "uncoded" if code == UNCODED else derived.ecc.spec("code").label()
    extra = [f"{key}={value}" for key, value in overrides.items() if key != "latent"]
    return Arm(", ".join([f"{label} N={derived.sizes.latent}", *extra]), derived)


def _derived(base: TrainConfig, overrides: dict[str, Any], what: str) -> TrainConfig:
    """Return ``base`` with other values, checked as if a person had typed them."""
    values = {name: getattr(base, name) for name in TrainConfig.model_fields if name != "params"}
    if overrides.get("params") is not None:
        for size in Sizes._fields:
            values.pop(size)
    made: TrainConfig = validated(TrainConfig, {**values, **overrides}, what)
    return made


def _trained(config: CompareConfig) -> TrainConfig:
    """Return what the comparison says of training."""
    return TrainConfig(**{name: getattr(config, name) for name in TrainConfig.model_fields if name != "params"})


def _without_twins(arms: Sequence[Arm]) -> list[Arm]:
    distinct: list[Arm] = []
    for arm in arms:
        if all(arm.config.deciding() != other.config.deciding() for other in distinct):
            distinct.append(arm)
    return distinct


def _told_apart(index: int, arms: Sequence[Arm]) -> str:
    """Return an arm's name, with its number behind it where another has the same."""
    name = arms[index].name
    return name if sum(arm.name == name for arm in arms) == 1 else f"{name} #{index + 1}"


def command_of(config: CompareConfig, here: bool = False) -> str:
    """Return the command line that asks for this comparison, whatever file, variables and flags it came from.

    With ``here`` it also names the folders, the device and whatever else decides no number, so that it goes on in place.
    """
    words = ["bvae", "compare"]
    sizes = next((number for number, sizes in PARAMETER_SETS.items() if sizes == config.sizes), None)
    if not config.baseline_weights:
        words += ["-n", str(sizes)] if sizes is not None else []
    skipped = {"params", *(Sizes._fields if sizes is not None or config.baseline_weights else ())}
    for name, info in CompareConfig.model_fields.items():
        value = getattr(config, name)
        told = here or name in _ALWAYS_TOLD or option_of(CompareConfig, name).decides
        if name in skipped or not told or value == info.get_default(call_default_factory=True):
            continue
        flag = main_flag(CompareConfig, name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, bool):
                words.append(flag if item else f"--no-{flag.removeprefix('--')}")
            else:
                words += [flag, item.label() if isinstance(item, PluginRef) else str(item)]
    return shlex.join(words)


def _trainable() -> list[str]:
    """Names of the options of ``train`` that an arm may set: those that decide its numbers, and the set."""
    fields = TrainConfig.model_fields
    return ["params", *(name for name in fields if name != "ecc" and option_of(TrainConfig, name).decides)]


def _values(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _unknown_key(key: str, what: str, known: Iterable[str]) -> UsageError:
    known = sorted(set(known))
    near = nearest(key, known)
    return UsageError(f"'{key}' is not {what}.", f"Did you mean '{near}'?" if near else f"Valid: {', '.join(known)}.")
