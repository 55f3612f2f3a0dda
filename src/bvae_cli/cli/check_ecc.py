"""``bvae check-ecc``: which codes fit which latent sizes, and what they correct, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from bvae_cli import registry
from bvae_cli.cli.options import Epsilon, Given, Json, command_for
from bvae_cli.codes.base import CodeSpec
from bvae_cli.codes.closed_forms import channel_capacity
from bvae_cli.config import (
    IMPLIED_CODE,
    PARAMETER_SET_USES,
    PARAMETER_SETS,
    ModelChoice,
    Sizes,
    sets_that_fit,
)
from bvae_cli.fields import validated

_TABLE_COPIES = (2, 3)
_EPSILONS = (0.01, 0.05)

Words = Annotated[
    int,
    typer.Option(
        "--measure",
        min=0,
        max=100_000_000,
        metavar="WORDS",
        help="Also measure the rates on so many words (loads torch).",
    ),
]


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command with the options of the code that ``arguments`` name."""
    return command_for(ModelChoice, _check_ecc, "check-ecc", arguments, lenient, leave_out=("hidden", "depth"))


def _check_ecc(given: Given, epsilon: Epsilon = None, measure: Words = 0, json: Json = False) -> None:
    """Say which codes fit which latent sizes, and what they correct.

    Without a code: a table of the parameter sets with R=2 and R=3. With one: K, rate, distance, guaranteed corrections,
    and error rates in closed form, by majority of hard bits and by adding logits.
    """
    from bvae_cli.cli.render import say, show_json, show_table

    if given.layer.code is None and not given.layer.code_options:
        sizes = _sizes_asked(given)
        rows = _table(sizes)
        if json:
            show_json(rows)
        else:
            show_table(list(rows[0]), [list(row.values()) for row in rows])
            for copies in _TABLE_COPIES:
                if remark := _repetition(copies).remark():
                    print(remark)
        return
    if not given.named & {"params", "latent"}:
        _show_spec(given, json)
        return
    resolved = given.resolve(ModelChoice)
    for note in resolved.notes:
        say(f"Note: {note}")
    spec: CodeSpec = resolved.config.ecc.spec("code")
    with registry.blaming("code", resolved.config.ecc.type):
        verdict = _verdict(spec, resolved.config.sizes.latent, epsilon or list(_EPSILONS), measure)
    if json:
        show_json(verdict)
    else:
        _show_verdict(verdict)


def _sizes_asked(given: Given) -> dict[str, int]:
    """Return the latent sizes to make a table of, by the set's name."""
    if not given.named & {"params", "latent"}:
        return {str(number): sizes.latent for number, sizes in PARAMETER_SETS.items()}
    config = given.resolve(ModelChoice).config
    name = "–" if "latent" in given.named or config.params is None else str(config.params)
    return {name: config.sizes.latent}


def _table(sizes: dict[str, int]) -> list[dict[str, object]]:
    rows = []
    for name, latent in sizes.items():
        row: dict[str, object] = {"set": name}
        if name.isdigit():
            chosen: Sizes = PARAMETER_SETS[int(name)]
            row |= {"hidden": chosen.hidden, "depth": chosen.depth}
        row["latent N"] = latent
        for copies in _TABLE_COPIES:
            spec = _repetition(copies)
            row[f"R={copies}"] = f"yes, K={spec.information_bits(latent)}" if spec.fits(latent) else "no"
        if name.isdigit():
            row["use"] = PARAMETER_SET_USES[int(name)]
        rows.append(row)
    return rows


def _repetition(copies: int) -> CodeSpec:
    spec: CodeSpec = registry.load("code", IMPLIED_CODE)(R=copies)
    return spec


def _show_spec(given: Given, json: bool) -> None:
    """Say which sets a code fits, where no size was named."""
    from bvae_cli.cli.render import show_json, show_table

    code = given.layer.code or IMPLIED_CODE
    spec_class = registry.load("code", code)
    spec: CodeSpec = validated(spec_class, given.layer.code_options, f"the code '{code}'")
    rows = [
        {
            "set": number,
            "latent N": sizes.latent,
            "fits": f"yes, K={spec.information_bits(sizes.latent)}" if spec.fits(sizes.latent) else "no",
        }
        for number, sizes in PARAMETER_SETS.items()
    ]
    if json:
        show_json({"code": spec.label(), "sets": rows})
        return
    show_table(list(rows[0]), [list(row.values()) for row in rows], f"{spec.label()}: {sets_that_fit(spec)}")
    if remark := spec.remark():
        print(remark)


def _verdict(spec: CodeSpec, latent: int, epsilons: list[float], words: int) -> dict[str, Any]:
    block = spec.block()
    information_bits = spec.information_bits(latent)
    return {
        "code": spec.label(),
        "latent": latent,
        "information_bits": information_bits,
        "uncoded_bits": spec.uncoded_bits(latent),
        "rate": information_bits / latent,
        "block": [block.n, block.k],
        "min_distance": block.min_distance,
        "correctable": block.correctable,
        "rates": [_rates(spec, latent, epsilon, words) for epsilon in epsilons],
        "no_hard_decoder": spec.no_hard_decoder(),
        "no_soft_decoder": spec.no_soft_decoder(),
        "remark": spec.remark(),
    }


def _rates(spec: CodeSpec, latent: int, epsilon: float, words: int) -> dict[str, Any]:
    known = spec.error_rates(latent, epsilon)
    rates: dict[str, Any] = {
        "epsilon": epsilon,
        "hard_bit_error_rate": known.hard_bit,
        "hard_word_error_rate": known.hard_word,
        "soft_bit_error_rate": known.soft_bit,
        "information_limit_bits": latent * channel_capacity(epsilon),
    }
    if words:
        rates["measured"] = _measured(spec, latent, epsilon, words)
    return rates


def _measured(spec: CodeSpec, latent: int, epsilon: float, words: int) -> dict[str, Any]:
    from bvae_cli.cli.render import plain
    from bvae_cli.evaluation.channel import measure_channel

    code = spec.build(latent)
    measured = {}
    if spec.no_hard_decoder() is None:
        measured["hard"] = plain(measure_channel(code, epsilon, words, "hard"))
    if 0 < epsilon < 0.5 and spec.no_soft_decoder() is None:
        measured["soft"] = plain(measure_channel(code, epsilon, words, "soft"))
    return measured


def _show_verdict(verdict: dict[str, Any]) -> None:
    from bvae_cli.cli.render import percent, show_facts, show_table

    show_facts(
        [
            ("code", verdict["code"]),
            ("latent", _latent(verdict)),
            ("rate", f"{verdict['rate']:.4g}"),
            ("distance", _distance(verdict)),
        ]
    )
    rows = []
    for rates in verdict["rates"]:
        row = [
            percent(rates["epsilon"]),
            percent(rates["hard_bit_error_rate"]),
            percent(rates["hard_word_error_rate"]),
            percent(rates["soft_bit_error_rate"]),
            f"{rates['information_limit_bits']:.1f} bits",
        ]
        measured = rates.get("measured")
        if measured:
            row += [_estimate(measured.get("hard")), _estimate(measured.get("soft"))]
        rows.append(row)
    columns = ["ε", "BER, hard", "WER, hard", "BER, soft", "N bits carry at most"]
    known = ("hard_bit_error_rate", "hard_word_error_rate", "soft_bit_error_rate")
    closed = any(rates[name] is not None for rates in verdict["rates"] for name in known)
    measured = len(rows[0]) > len(columns)
    if measured:
        columns += ["BER, hard, measured ± s.e.", "BER, soft, measured ± s.e."]
    show_table(columns, rows)
    print(
        "Hard: each stored bit flips with probability ε, and bits are decoded. Soft: Gaussian noise of the strength at "
        "which a lone bit is wrong with probability ε, and logits are decoded."
    )
    if not (closed or measured):
        decoded = verdict["no_hard_decoder"] is None or verdict["no_soft_decoder"] is None
        print("No closed form is known for this code" + ("; --measure 100000 measures its rates." if decoded else "."))
    for sentence in (verdict["no_hard_decoder"], verdict["no_soft_decoder"], verdict["remark"]):
        if sentence:
            print(sentence)


def _latent(verdict: dict[str, Any]) -> str:
    fit = f"N = {verdict['latent']} code bits fit: K = {verdict['information_bits']} information bits"
    rest = verdict["uncoded_bits"]
    return f"{fit}, the last {rest} of them uncoded" if rest else fit


def _distance(verdict: dict[str, Any]) -> str:
    if verdict["min_distance"] is None:
        return "not known: too many words to count"
    return (
        f"d = {verdict['min_distance']}, so t = {verdict['correctable']} wrong bits in a block of "
        f"{verdict['block'][0]} are always corrected"
    )


def _estimate(errors: dict[str, Any] | None) -> str:
    from bvae_cli.cli.render import percent

    if errors is None:
        return "–"
    rate = errors["bit_error_rate"]
    return f"{percent(rate['mean'])} ± {percent(rate['standard_error'])}"
