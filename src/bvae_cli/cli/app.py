"""The application: its commands, and the boundary where every error becomes a sentence, a hint and an exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import logging
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

from bvae_cli import __version__, ranks, registry
from bvae_cli.cli.company import only_the_first_talks, wait_to_tell
from bvae_cli.cli.process import LENIENT, open_streams, stopping_by_exception
from bvae_cli.errors import (
    BvaeError,
    ExitCode,
    InputOutputError,
    InterruptedRunError,
    TerminatedError,
    UsageError,
    is_out_of_memory,
    nearest,
    reason_of,
)
from bvae_cli.paths import readable
from bvae_cli.settings import require_known_variables

# Where each command's options come from: `module:function(arguments, lenient) -> command`.
_BUILDERS: dict[str, tuple[str, str]] = {
    "train": ("bvae_cli.cli.train", "Train a model, with or without a code on its latent bits."),
    "resume": ("bvae_cli.cli.resume", "Go on with an unfinished run, by the name of its folder."),
    "sample": ("bvae_cli.cli.sample", "Draw samples from a trained model and measure its quality."),
    "evaluate": ("bvae_cli.cli.evaluate", "Measure a trained model: bounds, errors, use of the bits."),
    "encode": ("bvae_cli.cli.encode", "Encode data with a trained model, into a file of bits."),
    "export": ("bvae_cli.cli.export", "Write a trained model for other programs: ONNX, safetensors, torch."),
    "decode": ("bvae_cli.cli.decode", "Repair codes by the code, and say of which it is not sure."),
    "search": ("bvae_cli.cli.search", "Find the nearest codes of each query, exactly."),
    "compare": ("bvae_cli.cli.compare", "Compare models with and without a code, over seeds, on the test split."),
    "report": ("bvae_cli.cli.report", "Draw the report of a comparison again."),
    "runs": ("bvae_cli.cli.runs", "List the runs in a folder."),
    "plot": ("bvae_cli.cli.plot", "Draw the loss curves of one or several runs."),
    "check-ecc": ("bvae_cli.cli.check_ecc", "Say which codes fit which latent sizes, and what they correct."),
    "codes": ("bvae_cli.cli.codes", "List the installed codes."),
    "datasets": ("bvae_cli.cli.datasets", "List the installed data sets, or pack one."),
    "devices": ("bvae_cli.cli.devices", "List the devices, the one chosen, and why."),
    "config": ("bvae_cli.cli.config", "Show the options in force and where each came from."),
}


_SHARED_WORK = {"train", "resume"}
_HELP_FLAGS = {"-h", "--help"}
# PATH_MAX of Linux, in bytes.
_LONGEST_PATH = 4096


class _PassingError(Exception):
    """Carries what typer would turn into exit codes of its own: an interruption, a reader that has gone."""

    def __init__(self, carried: BaseException) -> None:
        super().__init__()
        self.carried = carried


@contextlib.contextmanager
def _passing() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, OSError) as error:
        raise _PassingError(error) from error


class LazyGroup(typer.core.TyperGroup):
    """A group that imports a command's module when it is asked for, and tells it the arguments."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read what stands before the command (``--help`` writes here), and let every end of it through to ``main``."""
        with _passing():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and let every way in which it ends come through to ``main``."""
        with _passing():
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in the order in which help shows them."""
        return list(_BUILDERS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Build a command without arguments (completion asks so)."""
        return _build(cmd_name, [], lenient=True) if cmd_name in _BUILDERS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Build the command that the arguments name, with the options of the code that they name."""
        name = args[0]
        if name in _BUILDERS:
            rest = args[1:]
            if not ctx.resilient_parsing and not _HELP_FLAGS & set(rest):
                require_known_variables()
                _require_working_folder()
                _require_alone(name)
            return name, _resolved(name, rest, ctx), rest
        near = nearest(name, _BUILDERS)
        hint = f"Did you mean '{near}'?" if near else f"Commands: {', '.join(_BUILDERS)}."
        raise BvaeError(f"There is no command '{name}'.", hint, ExitCode.USAGE)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands from the table, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _BUILDERS.items()])


def _require_working_folder() -> None:
    """Refuse to work in a folder that is deleted or too deep: a library of torch's would end the process without a word."""
    try:
        here = Path.cwd()
    except OSError:
        raise InputOutputError(
            "The current folder is not there any more.", 'Change into one that is: `cd ..` or `cd "$HOME"`.'
        ) from None
    if len(os.fsencode(here)) >= _LONGEST_PATH:
        raise InputOutputError("The path of the current folder is too long to work in.", "Change into another folder.")


def _require_alone(name: str) -> None:
    size = ranks.here().size
    if size > 1 and name not in _SHARED_WORK:
        raise UsageError(
            f"`bvae {name}` works in one process, and {size} were started.",
            "Start it without torchrun; only `bvae train` and `bvae resume` share their work among processes.",
        )


def _build(name: str, arguments: Sequence[str], lenient: bool) -> Any:
    builder: Callable[[Sequence[str], bool], Any] = importlib.import_module(_BUILDERS[name][0]).build
    return builder(arguments, lenient)


def _resolved(name: str, rest: Sequence[str], ctx: Any) -> Any:
    try:
        return _build(name, rest, lenient=ctx.resilient_parsing or bool(_HELP_FLAGS & set(rest)))
    except BvaeError:
        if not ctx.resilient_parsing:
            raise
        return _build(name, [], lenient=True)  # completion of a line with a mistake in it


app = typer.Typer(
    cls=LazyGroup,
    name="bvae",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bvae {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train, sample and measure binary variational autoencoders, with and without an error-correcting code.

    The one line that does it, on data that came with it: bvae train -n 5 --ecc repetition --R 3
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with one of the codes of ``ExitCode``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=LENIENT)
    # It would tell everybody without a home folder where it keeps its list of fonts meanwhile.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        with only_the_first_talks(), stopping_by_exception():
            code = _ended(given)
    except KeyboardInterrupt as stop:  # wherever it comes, in the midst of an error's sentence too
        terminated = isinstance(stop, TerminatedError)
        if ranks.is_first():
            _tell("Terminated." if terminated else "Interrupted.", None)
        code = ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED
    sys.exit(int(code))


def _ended(given: list[str]) -> int:
    """Run a command; say how it ended where it did not end well, and return its exit code."""
    try:
        return _run(given)
    except BvaeError as error:
        if _verbose(given) and not isinstance(error, InterruptedRunError):  # that one was asked for
            traceback.print_exc()
        _tell(error.message, error.hint or _see(given))
        return error.exit_code
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message(), file=sys.stderr)
        else:
            _tell(*_usage_words(error, given))
        return ExitCode.USAGE
    except BrokenPipeError:
        # The reader of stdout has gone (`| head`): that is no error.
        _forget_stdout()
        return ExitCode.DONE
    except OSError as error:
        where = "The output" if error.filename is None else str(error.filename)
        _tell(
            f"{where} cannot be read or written: {reason_of(error)}.",
            "Take a shorter name." if error.errno == errno.ENAMETOOLONG else "Look at the disk and its permissions.",
        )
        if error.filename is None:
            _forget_stdout()
        return ExitCode.INPUT_OUTPUT
    except Exception as error:
        if _verbose(given):
            traceback.print_exc()
        if isinstance(error, UnicodeEncodeError) and error.encoding != "utf-8":
            _tell(
                f"The locale of this shell ({error.encoding}) has no letters for the name {error.object}.",
                "Set PYTHONUTF8=1, or a locale in UTF-8 as LC_ALL=C.UTF-8.",
            )
            return ExitCode.INPUT_OUTPUT
        _tell(*_failure_words(error, given))
        return ExitCode.FAILED


# What makes a command smaller; the commands without an entry hold nothing large.
_SMALLER = {
    "train": "Take a smaller --batch-size, --hidden or --latent; --dry-run says what a model needs.",
    "compare": "Take a smaller --batch-size, --hidden or --latent; `bvae train --dry-run` says what a model needs.",
    "sample": "Take fewer --num-samples, or fewer rows with --subset.",
    "encode": "Name the same weights with --device cpu, or fewer rows with --subset.",
    "search": "Ask for fewer --neighbours, or of fewer --rows at once.",
    "evaluate": "Take fewer rows with --subset, or fewer --iwae-samples.",
    "export": "Take fewer rows with --subset, or fewer --iwae-samples.",
}


# What typer says of words that are one too many.
_EXTRA = re.compile(r"Got unexpected extra argument(?:\(s\)|s)? \((.*)\)")


def _failure_words(error: Exception, arguments: Sequence[str]) -> tuple[str, str]:
    if is_out_of_memory(error):
        command = arguments[0] if arguments else ""
        return "The memory of this device does not suffice.", _SMALLER.get(command, "Ask for less at once.")
    words = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".:")
    return f"bvae failed: {words}.", "Run it again with --verbose for a traceback, and report it."


def _run(arguments: list[str]) -> int:
    try:
        result = app(arguments, standalone_mode=False, prog_name="bvae")
    except _PassingError as error:
        raise error.carried from None
    sys.stdout.flush()
    return result if isinstance(result, int) else ExitCode.DONE


def _verbose(arguments: Sequence[str]) -> bool:
    return "--verbose" in arguments or "-v" in arguments


def _forget_stdout() -> None:
    """Send what is still to be flushed nowhere: Python would complain at exit of what was said already."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(message: str, hint: str | None) -> None:
    wait_to_tell()
    with contextlib.suppress(OSError):  # nobody listens any more: the exit code says it all the same
        print(f"Error: {readable(message)}", file=sys.stderr)
        if hint:
            print(f"Hint: {readable(hint)}", file=sys.stderr, flush=True)


def _takes_weights_alone(parameters: Sequence[Any]) -> bool:
    """Say whether a command is given its weights by an option, and nothing by itself."""
    by_itself = any(one.param_type_name == "argument" for one in parameters)
    return not by_itself and any("--weights" in one.opts for one in parameters)


def _see(arguments: Sequence[str]) -> str:
    command = f" {arguments[0]}" if arguments and arguments[0] in _BUILDERS else ""
    return f"`bvae{command} --help` lists what there is."


def _usage_words(error: Any, arguments: Sequence[str]) -> tuple[str, str]:
    """Return the sentence and the hint for what typer refused; an unknown option gets its nearest neighbour."""
    context = getattr(error, "ctx", None)
    see = _see(arguments)
    unknown = getattr(error, "option_name", None)
    if unknown is not None and context is not None and type(error).__name__ == "NoSuchOption":
        parameters = context.command.params
        by_itself = {f"--{one.name}": one.metavar for one in parameters if one.param_type_name == "argument" and one.metavar}
        known = [flag for one in parameters if one.param_type_name == "option" for flag in one.opts]
        if (longer := f"--ecc-{unknown.lstrip('-')}") in known:
            return f"There is no option {unknown}.", f"The code's own is {longer}: the short name is taken."
        if unknown not in by_itself and (owners := _owners("code", unknown)):
            hint = f"It belongs to another code: --ecc {' or --ecc '.join(owners)}."
            return f"The code in force has no option {unknown}.", hint
        if unknown not in by_itself and (owners := _owners("data set", unknown)):
            wanted = " or ".join(f"--dataset {owner}:{_field_of(unknown)}=…" for owner in owners)
            return f"There is no option {unknown}.", f"An option of a data set is written behind its name: {wanted}."
        near = unknown if unknown in by_itself else nearest(unknown, [*known, *by_itself])
        if near in by_itself:
            word = by_itself[near].strip("[]")
            return f"There is no option {unknown}.", f"{word} is given by itself, as in `{context.command_path} {word}`."
        return f"There is no option {unknown}.", f"Did you mean {near}?" if near else see
    words = " ".join(error.format_message().split()).rstrip(".")
    extra = _EXTRA.fullmatch(words)
    if extra is not None and arguments.count(extra[1]) > 1:
        return f"{extra[1]} is named twice.", "Name it once."
    if extra is not None and context is not None and _takes_weights_alone(context.command.params):
        return f"{words}.", f"Weights are named by an option: `{context.command_path} --weights {shlex.quote(extra[1])}`."
    return f"{words}.", see


def _owners(kind: registry.Kind, flag: str) -> list[str]:
    """Return the installed plugins that have this option; only a mistake makes all of them worth importing."""
    return [row.name for row in registry.rows(kind) if row.spec is not None and _field_of(flag) in row.spec.model_fields]


def _field_of(flag: str) -> str:
    return flag.removeprefix("--ecc-").removeprefix("--").replace("-", "_")
