"""``bvae codes``: list, show, check, and measure error rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bvae_cli import registry
from bvae_cli.cli.code_files import blaming_file, names_a_file, refuse_other_files, specs_of_file
from bvae_cli.cli.listing import show_plugins
from bvae_cli.cli.options import Epsilon, Given, Json, Verbose, command_for, complete_codes
from bvae_cli.codes.gf2 import min_distance
from bvae_cli.config import ModelChoice, PluginRef, parse_code
from bvae_cli.errors import UsageError, unknown_name
from bvae_cli.fields import validated

if TYPE_CHECKING:
    from bvae_cli.codes.base import CodeSpec
    from bvae_cli.conformance.checks import Outcome

_ACTIONS = ("list", "show", "check", "ber")
_EPSILONS = (0.01, 0.02, 0.05, 0.1)
_WORDS = 100_000
_LARGEST_MATRIX = 32
# The actions that have a use for an option; all others refuse it.
_USED_BY = {"epsilon": ("show", "ber"), "words": ("ber",), "plot": ("ber",), "seed": ("ber",)}


def build(arguments: Sequence[str], lenient: bool) -> Any:
    """Build the command with the options of the code that ``arguments`` name."""
    words = [argument for argument in arguments if not argument.startswith("-")]
    named = ["--ecc", words[1]] if len(words) > 1 and words[0] in _ACTIONS[1:] and not names_a_file(words[1]) else []
    return command_for(ModelChoice, _codes, "codes", named, lenient, leave_out=ModelChoice.model_fields)


def _actions(incomplete: str) -> list[str]:
    return [name for name in _ACTIONS if name.startswith(incomplete)]


def _codes(
    given: Given,
    action: Annotated[
        str, typer.Argument(metavar="list|show|check|ber", help="What to do.", autocompletion=_actions)
    ] = "list",
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME…",
            help="The code; `ber` takes several, as hamming:r=4; `check` also a .py file that defines codes.",
            autocompletion=complete_codes,
        ),
    ] = None,
    epsilon: Epsilon = None,
    words: Annotated[
        int | None,
        typer.Option(
            "--words",
            min=1,
            max=100_000_000,
            help=f"ber: random words that are sent for each rate. [default: {_WORDS}]",
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="ber: draw the rates into this .png, .svg or .pdf.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="ber: seed of every draw. [default: 0]")] = None,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """List the installed codes, show one of them, check that one does what a code must do, or measure error rates.

    `list` shows every code with its origin, version and options; a broken one says what is wrong with it. `show` tells
    length, rate, distance, generator matrix, error rates and how it is decoded. `check` runs the checks that plugin authors
    have (bvae_cli.testing) and fails where one of them does: on a code, or on every code that a file of your own defines
    (my.py, or my.py:r=3 with options). `ber` sends random words over flips and over Gaussian noise, and shows the share of
    wrong information bits beside the closed form.

    Several codes have their options behind their names: bch:n=31,t=2, with brackets around a value that has commas in it,
    and quotes around one that has spaces: "unequal:groups=(15 repetition:R=5 + 16 hamming:r=3,extended=true)". An option n
    of a code is said as --ecc-n, because -n is the parameter set.
    """
    if action not in _ACTIONS:
        raise unknown_name("action", action, _ACTIONS)
    named = names or []
    _require_use(action, {"epsilon": epsilon, "words": words, "plot": plot, "seed": seed})
    _require_names(action, named, given.layer.code_options)
    if action == "list":
        show_plugins("code", json)
        return
    if names_a_file(named[0]):
        _check_file(named[0], given.layer.code_options, json)
        return
    specs = [_spec(name, given.layer.code_options) for name in named]
    if action == "ber":
        from bvae_cli.cli.error_rates import show_error_rates

        show_error_rates(specs, epsilon or _EPSILONS, _WORDS if words is None else words, seed or 0, plot, json)
    elif action == "check":
        from bvae_cli.cli.render import say

        say("bvae codes check: loading torch …")
        _check(specs, lambda spec: registry.blaming("code", spec.family), json)
    else:
        with registry.blaming("code", specs[0].family):
            facts = _facts(specs[0], sorted(epsilon or _EPSILONS))
        _show(facts, json)


def _require_use(action: str, options: Mapping[str, Any]) -> None:
    """Raise UsageError for an option that was given to an action without a use for it."""
    for option, value in options.items():
        if value is not None and action not in _USED_BY[option]:
            users = " and ".join(f"`bvae codes {user}`" for user in _USED_BY[option])
            raise UsageError(
                f"`bvae codes {action}` has no use for --{option}.",
                f"It is for {users}; an option of a code that is called {option} is said as --ecc-{option}.",
            )


def _require_names(action: str, named: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise UsageError where there are too few or too many names, or options that belong to none of them."""
    if action == "list" and named:
        raise UsageError("`bvae codes list` takes no name.", f"`bvae codes show {named[0]}` shows one code.")
    if action != "list" and not named:
        raise UsageError(f"`bvae codes {action}` needs the name of a code.", "`bvae codes` lists them.")
    if len(named) > 1 and action != "ber":
        raise UsageError(f"`bvae codes {action}` takes one code.", "`bvae codes ber` takes several.")
    for name in filter(names_a_file, named):
        refuse_other_files(name, action)
    if options and len(named) != 1:
        option = next(iter(options))
        raise UsageError(
            f"The option '{option}' is of one code, and {len(named) or 'none'} are named.",
            f"Write options behind a name: {named[0] if named else 'NAME'}:{option}={options[option]}.",
        )


def _spec(name: str, options: Mapping[str, Any]) -> CodeSpec:
    code: PluginRef = parse_code(name)
    spec: CodeSpec = validated(registry.load("code", code.type), {**code.options, **options}, f"the code '{code.type}'")
    return spec


def _show(facts: dict[str, Any], as_json: bool) -> None:
    from bvae_cli.cli.render import percent, show_facts, show_json, show_line, show_table

    if as_json:
        show_json(facts)
        return
    show_facts(
        [
            ("code", facts["code"]),
            ("block", f"n = {facts['n']} code bits, k = {facts['k']} information bits, rate {facts['rate']:.4g}"),
            ("distance", _distance(facts["min_distance"], facts["correctable"], facts["counted_distance"])),
            ("soft", facts["soft_decoding"] + _cost(facts["soft_cost"])),
            ("hard", facts["hard_decoding"]),
        ]
    )
    rows = [
        [percent(rates["epsilon"]), *(percent(rates[name]) for name in ("hard_bit", "hard_block", "soft_bit"))]
        for rates in facts["error_rates"]
    ]
    if all(cell == percent(None) for row in rows for cell in row[1:]):
        measured = (
            "; `bvae codes ber` measures them" if facts["can_be_decoded"] else ", and nothing decodes it to measure them"
        )
        print(f"No error rates are known in closed form{measured}.")
    else:
        show_table(["ε", "BER, hard", "block errors, hard", "BER, soft"], rows, "Error rates in closed form")
        print(
            "Hard: bits flip with probability ε. Soft: Gaussian noise at which a bit sent alone is wrong with probability ε."
        )
    if facts["generator_matrix"] is not None and facts["n"] <= _LARGEST_MATRIX:
        print("generator matrix")
        for row in facts["generator_matrix"]:
            print("  " + " ".join(map(str, row)))
    if facts["remark"]:
        show_line(facts["remark"])


def _cost(cost: float | None) -> str:
    if not cost:
        return ""
    return f"; about {cost:,.0f} exponentials and logarithms for each information bit"


def _distance(distance: int | None, correctable: int | None, counted: int | None) -> str:
    if distance is None:
        return "not known"
    if counted not in (None, distance):
        return f"the code claims d = {distance}; counted are {counted}"
    if not correctable:
        return f"d = {distance}: no wrong bit is certain to be corrected"
    return f"d = {distance}: up to {correctable} wrong bit{'' if correctable == 1 else 's'} always corrected"


def _facts(spec: CodeSpec, epsilons: Sequence[float]) -> dict[str, Any]:
    block = spec.block()
    matrix = getattr(spec, "generator_matrix", lambda: None)()
    return {
        "code": spec.label(),
        "n": block.n,
        "k": block.k,
        "rate": block.k / block.n,
        "min_distance": block.min_distance,
        "correctable": block.correctable,
        "counted_distance": None if matrix is None else min_distance(matrix),
        "soft_decoding": spec.no_soft_decoder() or spec.soft_decoding(),
        "soft_cost": None if spec.no_soft_decoder() else spec.soft_cost(),
        "hard_decoding": spec.no_hard_decoder() or spec.hard_decoding(),
        "can_be_decoded": spec.no_soft_decoder() is None or spec.no_hard_decoder() is None,
        "generator_matrix": matrix,
        "error_rates": [
            {
                "epsilon": epsilon,
                "hard_bit": spec.hard_bit_error_rate(epsilon),
                "hard_block": spec.hard_block_error_rate(epsilon),
                "soft_bit": spec.soft_bit_error_rate(epsilon),
            }
            for epsilon in epsilons
        ],
        "remark": spec.remark(),
    }


def _check_file(name: str, options: Mapping[str, Any], as_json: bool) -> None:
    """Check every code that a .py file defines. Raises what importing it raises."""
    from bvae_cli.cli.render import say

    if options:
        raise UsageError(
            "Options of a code in a file are no options of `bvae codes`.",
            f"Write them behind the name: {name}:{next(iter(options))}=….",
        )
    say("bvae codes check: loading torch …")
    # First of all: what the file is called must not be in the way of what these import.
    import bvae_cli.conformance.posteriors
    import bvae_cli.conformance.words  # noqa: F401

    with specs_of_file(name) as (specs, left_out):
        for sentence in left_out:
            say(f"Not checked: {sentence}")
        _check(specs, lambda spec: blaming_file(name, spec), as_json)


def _check(specs: Sequence[CodeSpec], blaming: Callable[[CodeSpec], AbstractContextManager[None]], as_json: bool) -> None:
    """Run all checks on each code and show them. Raises BvaeError where one fails."""
    from bvae_cli.cli.outcomes import outcome_facts, require_passed, show_outcomes
    from bvae_cli.cli.render import show_json
    from bvae_cli.conformance import conformance_of

    found: list[tuple[CodeSpec, list[Outcome]]] = []
    for spec in specs:
        with blaming(spec):
            found.append((spec, list(conformance_of(spec).outcomes())))
    if as_json:
        show_json([outcome_facts("code", spec.label(), outcome) for spec, outcomes in found for outcome in outcomes])
    else:
        for spec, outcomes in found:
            show_outcomes(spec.label(), outcomes)
    for spec, outcomes in found:
        require_passed(spec.label(), outcomes)
