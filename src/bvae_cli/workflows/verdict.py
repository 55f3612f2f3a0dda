"""From what was measured to what it comes to: effects, claims, and the sentences on top of a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bvae_cli.arms import UNCODED
from bvae_cli.comparisons import ArmRecord, Effect, Protocol
from bvae_cli.evaluation.metrics import in_order, metric_of, title_of
from bvae_cli.evaluation.paired import Paired, over_images, paired, verdict
from bvae_cli.evaluation.statistics import holm, seeds_needed, smallest_p_value
from bvae_cli.workflows.assessing import PICTURE_PREFIX

# Arrays by arm and seed, as they stand beside the evaluations.
Arrays = Callable[[int, int], dict[str, Any]]


def pairs_of(coded: Sequence[bool]) -> list[tuple[int, int]]:
    """Return which arm is held against which: each with a code against each without, or all against the first."""
    references = [index for index, has_code in enumerate(coded) if not has_code]
    contenders = [index for index, has_code in enumerate(coded) if has_code]
    if not references or not contenders:
        references, contenders = [0], list(range(1, len(coded)))
    return [(arm, reference) for arm in contenders for reference in references]


def effects_of(arms: Sequence[ArmRecord], protocol: Protocol, arrays: Arrays) -> list[Effect]:
    """Compare the arms metric by metric; Holm's correction runs over all claims of all pairs."""
    effects = []
    for arm, reference in pairs_of([record.code != UNCODED for record in arms]):
        effects += _of_pair(arms, arm, reference, protocol, arrays)
    claims = [index for index, effect in enumerate(effects) if effect.claim]
    p_values = [effects[index].paired.p_value for index in claims]
    if all(value is not None for value in p_values):
        for index, adjusted in zip(claims, holm([value for value in p_values if value is not None]), strict=True):
            effects[index] = _decided(effects[index], adjusted)
    return effects


def cautions_of(arms: Sequence[ArmRecord], effects: Sequence[Effect], protocol: Protocol) -> list[str]:
    """Say what the comparison cannot show."""
    claims, seeds = sum(effect.claim for effect in effects), len(protocol.seeds)
    said = []
    if protocol.finished_models and seeds == 1:
        said.append(
            "One model of each arm was given: what follows holds for these models on images like these, not for the way in "
            "which they were trained."
        )
    elif claims and smallest_p_value(seeds) > protocol.alpha / claims:
        said.append(
            f"With {_count(seeds, 'seed')} no claim can be significant: the least p of the sign-flip test is "
            f"{smallest_p_value(seeds):.3g}, and {_count(claims, 'claim')} ask for {protocol.alpha / claims:.3g}; "
            f"{seeds_needed(claims, protocol.alpha)} seeds could."
        )
    if not protocol.tuned and not protocol.finished_models:
        said.append(
            "Nothing was tuned: the arms share one learning rate. That shows what each arm does at this rate, not what it "
            "can do; a repetition code acts as a larger step of its first and last layers, so part of a difference may be "
            "that. --tune lr=… gives each arm its own."
        )
    unfinished = [arm.name for arm in arms if any(run.stopped.startswith("all ") for run in arm.runs)]
    if unfinished:
        said.append(
            f"Not every run stopped early ({'; '.join(unfinished)}): at the last epoch the arms may stand at different "
            "points of their curves."
        )
    versions = {run.versions.get("torch", "unknown") for arm in arms for run in arm.runs}
    if len(versions) > 1:
        said.append(f"The models were trained with different versions of torch: {', '.join(sorted(versions))}.")
    edges = [arm.name for arm in arms if _at_an_edge(arm)]
    if edges:
        said.append(
            f"The chosen setting lies at the edge of what was tried ({'; '.join(edges)}): a wider --tune might "
            "find a better one."
        )
    return said


def verdict_of(arms: Sequence[ArmRecord], effects: Sequence[Effect], protocol: Protocol) -> list[str]:
    """Say in a sentence for each pair of arms what its claims come to, losses as plainly as gains."""
    claims = [effect for effect in effects if effect.claim]
    undecidable = bool(claims) and smallest_p_value(len(protocol.seeds)) > protocol.alpha / len(claims)
    sentences = []
    for arm, reference in dict.fromkeys((effect.arm, effect.reference) for effect in effects):
        of_pair = [effect for effect in claims if (effect.arm, effect.reference) == (arm, reference)]
        if not any(any(effect.paired.differences) for effect in of_pair):
            said = "no difference; every claim came out equal, seed by seed"
        elif protocol.finished_models and len(protocol.seeds) == 1:
            said = f"one model each: {_listed(of_pair, protocol)}"
        elif undecidable:
            said = f"{_count(len(protocol.seeds), 'seed')} decide nothing; measured were {_listed(of_pair, protocol)}"
        else:
            said = _decisions(of_pair, protocol)
        sentences.append(f"{arm} against {reference}: {said}.")
    return sentences


def _decisions(effects: Sequence[Effect], protocol: Protocol) -> str:
    """Gather what is better, what is worse, and where no difference is shown."""
    words = {"better": "better in ", "worse": "worse in ", "not shown": "no difference shown in "}
    parts = {it: [effect for effect in effects if effect.verdict == it] for it in words}
    return "; ".join(words[it] + _listed(found, protocol) for it, found in parts.items() if found)


def _listed(effects: Sequence[Effect], protocol: Protocol) -> str:
    return ", ".join(f"{title_of(effect.metric, protocol.iwae_samples)} ({_size(effect)})" for effect in effects)


def _of_pair(arms: Sequence[ArmRecord], arm: int, reference: int, protocol: Protocol, arrays: Arrays) -> list[Effect]:
    one, other = arms[arm], arms[reference]
    shared = [name for name in in_order(one.runs[0].metrics) if all(name in run.metrics for run in (*one.runs, *other.runs))]
    images = [[arrays(index, run.seed) for run in arms[index].runs] for index in (arm, reference)]
    effects = []
    for name in shared:
        metric, _ = metric_of(name)
        if metric.better is None:
            continue
        effect = paired(_values(one, name), _values(other, name), metric.is_rate)
        if all(name in values for side in images for values in side) and not name.startswith(PICTURE_PREFIX):
            sides = [[values[name] for values in side] for side in images]
            effect = replace(effect, image_interval=over_images(sides[0], sides[1], protocol.bootstrap_samples))
        effects.append(
            Effect(
                arm=one.name,
                reference=other.name,
                metric=name,
                paired=effect,
                claim=name in protocol.claims,
                adjusted_p_value=None,
                verdict=None,
            )
        )
    return effects


def _values(arm: ArmRecord, metric: str) -> list[float]:
    return [run.metrics[metric].mean for run in arm.runs]


def _decided(effect: Effect, adjusted: float) -> Effect:
    better = metric_of(effect.metric)[0].better
    assert better is not None  # claims are made of what has a direction
    decided = verdict(effect.paired.mean, adjusted, better)
    return effect.model_copy(update={"adjusted_p_value": adjusted, "verdict": decided})


def _size(effect: Effect) -> str:
    """Say how large a difference is, with its interval over seeds, or over images where there is one seed."""
    paired_ = effect.paired
    if paired_.ratio is not None and paired_.ratio.interval is not None:
        return (
            f"{_change(paired_.ratio.mean)} [{_change(paired_.ratio.interval.low)}, {_change(paired_.ratio.interval.high)}]"
        )
    return f"{paired_.mean:+.3g}{_unit(effect)}{_bounds(paired_)}"


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def _bounds(effect: Paired) -> str:
    interval = effect.seed_interval or effect.image_interval
    return "" if interval is None else f" [{interval.low:+.3g}, {interval.high:+.3g}]"


def _unit(effect: Effect) -> str:
    unit = metric_of(effect.metric)[0].unit
    return f" {unit}" if unit and unit != "share" else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _at_an_edge(arm: ArmRecord) -> bool:
    """Say whether the chosen value of a tuned number is the smallest or the largest of three or more that were tried."""
    for name, chosen in arm.chosen.items():
        tried = sorted({_number(tuned.setting[name]) for tuned in arm.tuning})
        if len(tried) > 1 and not any(math.isnan(value) for value in tried) and _number(chosen) in (tried[0], tried[-1]):
            return True
    return False


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
