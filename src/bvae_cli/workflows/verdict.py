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

# Arrays by arm and seed, as they stand beside the evaluations.
Arrays = Callable[[int, int], dict[str, Any]]


def claimed_pairs(coded: Sequence[bool]) -> list[tuple[int, int]]:
    """Return of which arms claims are made: each with a code against each without, or all against the first."""
    references = [index for index, has_code in enumerate(coded) if not has_code]
    contenders = [index for index, has_code in enumerate(coded) if has_code]
    if not references or not contenders:
        references, contenders = [0], list(range(1, len(coded)))
    return [(arm, reference) for arm in contenders for reference in references]


def effects_of(arms: Sequence[ArmRecord], protocol: Protocol, arrays: Arrays) -> list[Effect]:
    """Compare the arms metric by metric; Holm's correction runs over all claims of all pairs."""
    coded = [record.code != UNCODED for record in arms]
    claimed = claimed_pairs(coded)
    effects = []
    for arm, reference in claimed:
        effects += _of_pair(arms, arm, reference, protocol, arrays, protocol.claims)
    # What fewer bits alone do, beside what the code does: described, not claimed.
    uncoded = [index for index, has_code in enumerate(coded) if not has_code]
    for arm in uncoded[1:]:
        if (arm, uncoded[0]) not in claimed:
            effects += _of_pair(arms, arm, uncoded[0], protocol, arrays, [])
    claims = [index for index, effect in enumerate(effects) if effect.claim]
    p_values = [effects[index].paired.p_value for index in claims]
    if all(value is not None for value in p_values):
        for index, adjusted in zip(claims, holm([value for value in p_values if value is not None]), strict=True):
            effects[index] = _decided(effects[index], adjusted)
    return effects


def cautions_of(
    arms: Sequence[ArmRecord], effects: Sequence[Effect], protocol: Protocol, of_data: str | None = None
) -> list[str]:
    """Say what the comparison cannot show, first what there is to say of the data."""
    claims, seeds = sum(effect.claim for effect in effects), len(protocol.seeds)
    said = [] if of_data is None else [of_data]
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
    said += [*_about_settings(arms, protocol), *_about_information(arms), *_about_surrogates(arms)]
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


def _about_settings(arms: Sequence[ArmRecord], protocol: Protocol) -> list[str]:
    """Say what the arms' settings leave open: a shared learning rate, settings that nobody tuned, given models."""
    rates = list(dict.fromkeys(arm.settings.get("lr") for arm in arms))
    named = ("latent", "ecc", "seed", *protocol.tuned)
    names = {name for arm in arms for name in arm.settings} - {*named}
    differing = sorted(name for name in names if len({repr(arm.settings.get(name)) for arm in arms}) > 1)
    apart = f" They differ in more than their code: {', '.join(differing)}." if differing else ""
    if protocol.finished_models:
        return [f"The models were given: whether each arm had a fair budget is not known here.{apart}"]
    if "lr" in protocol.tuned:
        return []
    if len(rates) > 1:
        return [f"The learning rates were named and not tuned ({', '.join(f'{rate:g}' for rate in rates)})."]
    return [
        "The arms share one learning rate. That shows what each arm does at this rate, not what it can do; a repetition "
        "code acts as a larger step of its first and last layers, so part of a difference may be that. --tune lr=… gives "
        "each arm its own."
    ]


def _about_information(arms: Sequence[ArmRecord]) -> list[str]:
    """Say where an arm with a code has no uncoded one of the same number of information bits beside it."""
    uncoded = {arm.information_bits for arm in arms if arm.code == UNCODED}
    return [
        f"No uncoded arm has the {arm.information_bits} information bits of {arm.name}: what fewer bits do cannot be told "
        "from what the code does."
        for arm in arms
        if arm.code != UNCODED and arm.information_bits not in uncoded
    ]


def _about_surrogates(arms: Sequence[ArmRecord]) -> list[str]:
    """Say where what an arm maximised lies, on the average, above log p(x): nobody shall take that for its bound."""
    said = []
    for arm in arms:
        runs = [run.metrics for run in arm.runs if {"bitwise_surrogate", "log_likelihood"} <= run.metrics.keys()]
        surrogate, exact = (
            math.fsum(metrics[name].mean for metrics in runs) / max(1, len(runs))
            for name in ("bitwise_surrogate", "log_likelihood")
        )
        if surrogate > exact:
            said.append(
                f"What {arm.name} maximised in training, the bitwise surrogate ({surrogate:.2f} nats), lies above its "
                f"log p(x) ({exact:.2f} nats): it is no bound."
            )
    return said


def verdict_of(arms: Sequence[ArmRecord], effects: Sequence[Effect], protocol: Protocol) -> list[str]:
    """Say in a sentence for each pair of arms what its claims come to, losses as plainly as gains."""
    claims = [effect for effect in effects if effect.claim]
    undecidable = bool(claims) and smallest_p_value(len(protocol.seeds)) > protocol.alpha / len(claims)
    sentences = []
    for arm, reference in dict.fromkeys((effect.arm, effect.reference) for effect in claims or effects):
        of_pair = [effect for effect in claims if (effect.arm, effect.reference) == (arm, reference)]
        if not any(any(effect.paired.differences) for effect in of_pair):
            said = "no difference; every claim came out equal, seed by seed"
        elif protocol.finished_models and len(protocol.seeds) == 1:
            said = f"one model each: {_listed(of_pair, protocol)}"
        elif undecidable:
            verb = "decides" if len(protocol.seeds) == 1 else "decide"
            said = f"{_count(len(protocol.seeds), 'seed')} {verb} nothing; measured were {_listed(of_pair, protocol)}"
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


def _of_pair(
    arms: Sequence[ArmRecord], arm: int, reference: int, protocol: Protocol, arrays: Arrays, claims: Sequence[str]
) -> list[Effect]:
    one, other = arms[arm], arms[reference]
    shared = [name for name in in_order(one.runs[0].metrics) if all(name in run.metrics for run in (*one.runs, *other.runs))]
    images = [[arrays(index, run.seed) for run in arms[index].runs] for index in (arm, reference)]
    effects = []
    for name in shared:
        metric, _ = metric_of(name)
        if metric.better is None:
            continue
        effect = paired(_values(one, name), _values(other, name), metric.is_rate)
        # Words that are drawn are no images, and those of one arm have nothing to do with those of another.
        if metric.of_images and all(name in values for side in images for values in side):
            sides = [[values[name] for values in side] for side in images]
            effect = replace(effect, image_interval=over_images(sides[0], sides[1], protocol.bootstrap_samples))
        effects.append(
            Effect(
                arm=one.name,
                reference=other.name,
                metric=name,
                paired=effect,
                claim=name in claims,
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
    """Say how large a difference is, with its interval over seeds, or over images where there is one seed.

    The difference is what was tested; a ratio is told beside it where it points the same way, which means of other scales
    need not.
    """
    value, unit = effect.paired, metric_of(effect.metric)[0].unit
    scale, shown = (100.0, " pp") if unit == "share" else (1.0, f" {unit}" if unit else "")
    text = f"{scale * value.mean:+.3g}{shown}{_bounds(value, scale)}"
    if value.ratio is not None and (value.ratio.mean > 1) == (value.mean > 0):
        text += f", {_change(value.ratio.mean)}"
        if value.ratio.interval is not None:
            text += f" [{_change(value.ratio.interval.low)}, {_change(value.ratio.interval.high)}]"
    return text


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def _bounds(effect: Paired, scale: float) -> str:
    interval = effect.seed_interval or effect.image_interval
    return "" if interval is None else f" [{scale * interval.low:+.3g}, {scale * interval.high:+.3g}]"


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
