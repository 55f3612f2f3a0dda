"""The way in which several runs are trained: workers × threads of each × models in a batch, chosen by measurement."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from bvae_cli import devices
from bvae_cli.errors import BvaeError
from bvae_cli.workflows.crew import Crew
from bvae_cli.workflows.observing import TrainResult
from bvae_cli.workflows.parts import ManyRun, PartObserver, parts_of, train_part
from bvae_cli.workflows.planning import Plan
from bvae_cli.workflows.trials import Trial, trial_rows

# The rest is for the steps themselves, and for whatever else runs on the machine.
_SHARE_OF_MEMORY = 0.5
# A Python with torch in it, before it has data and models.
_BYTES_OF_A_PROCESS = 400_000_000
# Work that is over sooner, by the estimate or by the measurement, is not worth a measurement, or the start of workers.
_WORTH_A_MEASUREMENT, _WORTH_WORKERS = 10.0, 30.0
# For that estimate alone: what a step takes beside its arithmetic, and the arithmetic of a slow core.
_SECONDS_OF_A_STEP, _FLOP_PER_SECOND = 1e-3, 5e10
# Each trial takes so long, after its models were made; what would take far longer is not tried.
_SECONDS_OF_A_TRIAL, _LONGEST_EPOCH_OF_A_TRIAL = 0.2, 0.6
# Beyond this a larger batch of models gains nothing on a CPU.
_MOST_MODELS_TRIED = 32
# What is better by less than this is not worth another way: the measurement is no better than that.
_MARGIN = 1.05


@dataclass(frozen=True)
class Way:
    """How several runs are trained: so many processes at once, threads in each, and runs at most in one model.

    ``workers`` is 1 where all is done in this process. ``images_per_second`` are those that were measured, of all runs
    together, by the name of the way; ``reason`` is for a person.
    """

    workers: int
    threads: int
    models: int
    reason: str
    images_per_second: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{name_of(self.workers, self.threads, self.models)}: {self.reason}"


def name_of(workers: int, threads: int, models: int) -> str:
    """Name a way.

    >>> name_of(2, 1, 10)
    '2 workers × 1 thread × 10 models'
    """
    counted = ((workers, "worker"), (threads, "thread"), (models, "model"))
    return " × ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counted)


def at_once(plan: Plan, workers: int = 1) -> int:
    """Return how many runs of a plan the memory lets each of so many workers train as one."""
    memory = devices.memory_bytes(plan.device)
    # In float16 each run scales its loss by itself.
    if plan.precision == "float16":
        return 1
    if memory is None:
        return 2**31
    here = int(_SHARE_OF_MEMORY * memory) // workers - (_BYTES_OF_A_PROCESS if workers > 1 else 0)
    return max(1, here // plan.memory_bytes)


@contextlib.contextmanager
def chosen(runs: Sequence[ManyRun]) -> Iterator[Chosen]:
    """Choose the way for runs that are not finished; workers that were measured are there until the end of the block."""
    with contextlib.ExitStack() as stack:
        threads = torch.get_num_threads()
        stack.callback(torch.set_num_threads, threads)
        choice = _Choice(runs, threads, stack)
        yield Chosen(choice.choose(), choice.crew)


@dataclass(frozen=True)
class Chosen:
    """A way, and its workers where they are there already."""

    way: Way
    crew: Crew | None

    def train(self, runs: Sequence[ManyRun], observer: PartObserver, overwrite: bool) -> dict[int, TrainResult]:
        """Train runs in this way; return how each ended, by index."""
        parts = parts_of(runs, self._at_once)
        if self.way.workers > 1:
            with self.crew or Crew(self.way.workers) as crew:
                # The largest first, so that the last ones fill what is left.
                return crew.train(sorted(parts, key=_work_of, reverse=True), self.way.threads, observer, overwrite)
        torch.set_num_threads(self.way.threads)
        results: dict[int, TrainResult] = {}
        for part in parts:
            results |= train_part(part, observer, overwrite)
        return results

    def _at_once(self, group: Sequence[ManyRun]) -> int:
        # Every worker gets its share of a group, so that none is without work in the end.
        share = -(-len(group) // self.way.workers)
        return min(self.way.models, share, at_once(group[0].prepared.plan, self.way.workers))


class _Choice:
    """The choice of a way, on its way."""

    def __init__(self, runs: Sequence[ManyRun], threads: int, stack: contextlib.ExitStack) -> None:
        self.runs, self.threads, self._stack = runs, threads, stack
        self.crew: Crew | None = None
        self.rates: dict[str, float] = {}
        groups = parts_of(runs, len)
        # The measurement is made on the runs that most of the work is in.
        self.group = max(groups, key=_work_of)
        self.run = self.group[0]
        config = self.run.config
        self.asked_workers = None if config.workers == "auto" else int(config.workers)
        self.asked_models = config.models_at_once

    def choose(self) -> Way:
        """Measure what is to be measured, and choose."""
        plan, most = self.run.prepared.plan, self._most_models(1)
        if not plan.device.startswith("cpu"):
            return Way(1, self.threads, most, f"on {plan.device} all runs are one model that the memory holds")
        if len(self.runs) == 1:
            return Way(1, self.threads, 1, "there is one run")
        if self.asked_workers is not None and self.asked_workers > 1:
            return self._asked(self.asked_workers)
        if self.asked_workers == 1 and self.asked_models:
            return Way(1, self.threads, most, "asked for")
        seconds = _seconds_of(self.runs)
        if seconds < _WORTH_A_MEASUREMENT:
            return Way(1, self.threads, most, f"about {seconds:.1f} s of work or more, too little for a measurement")
        return self._measured()

    def _asked(self, asked: int) -> Way:
        workers = min(asked, len(self.runs))
        return Way(workers, max(1, self.threads // workers), self._most_models(workers), "asked for")

    def _measured(self) -> Way:
        alone = name_of(1, self.threads, 1)
        rates = self._rates_here()
        if not rates[self.threads, 1]:
            return Way(1, self.threads, self._most_models(1), "a trial diverged")
        best = max(rates, key=lambda way: rates[way])
        # What most people know is taken where nothing is clearly better.
        if rates[best] < _MARGIN * rates[self.threads, 1]:
            best = self.threads, 1
        way = Way(1, *best, "", self.rates)
        images = sum(_least_images(run) for run in self.runs)
        if self.asked_workers is None and self.threads > 1 and images > _WORTH_WORKERS * rates[best]:
            models = max((of for of in rates if of[0] == 1), key=lambda of: rates[of])[1]
            try:
                way = self._with_workers(rates[best], models) or way
            except (BvaeError, RuntimeError):  # a machine that cannot have workers does without them
                self._end_workers()
        rate = self.rates[name_of(way.workers, way.threads, way.models)]
        how = f"{rate / self.rates[alone]:.1f} × the images/s of one after another (measured)"
        return Way(way.workers, way.threads, way.models, how, self.rates)

    def _rates_here(self) -> dict[tuple[int, int], float]:
        """Return images/s in this process by threads and models."""
        rates: dict[tuple[int, int], float] = {}
        most = min(self._most_models(1), _MOST_MODELS_TRIED)
        tried = {1, most} if self.asked_models else {1, *(count for count in (5, 10) if count < most), most}
        for models in sorted(tried):
            fastest = max(rates.values(), default=0.0)
            if rates and models * trial_rows(self.run) > _LONGEST_EPOCH_OF_A_TRIAL * fastest:
                break
            trial = Trial(self.run, models)
            for threads in sorted({self.threads, 1}, reverse=True):
                torch.set_num_threads(threads)
                rates[threads, models] = trial.images_per_second(_SECONDS_OF_A_TRIAL)
                self.rates[name_of(1, threads, models)] = rates[threads, models]
        torch.set_num_threads(self.threads)
        return rates

    def _with_workers(self, rate_here: float, models: int) -> Way | None:
        """Measure workers at the same time; return the best way with them, or None where this process alone is better."""
        plan = self.run.prepared.plan
        memory = devices.memory_bytes(plan.device) or 2**62
        room = int(_SHARE_OF_MEMORY * memory) // (_BYTES_OF_A_PROCESS + plan.memory_bytes)
        size = min(self.threads, len(self.runs), room)
        if size < 2:
            return None
        crew = self._start(size)
        best: tuple[float, Way] | None = None
        for workers in sorted({size, *(count for count in (size // 2, size // 4) if count > 1)}, reverse=True):
            threads = max(1, self.threads // workers)
            for count in sorted({models, self._most_models(workers)} if workers == size else {models}):
                here = min(count, self._most_models(workers), _MOST_MODELS_TRIED)
                name = name_of(workers, threads, here)
                if name in self.rates:
                    continue
                self.rates[name] = crew.images_per_second(self.run, workers, threads, here, 2 * _SECONDS_OF_A_TRIAL)
                if best is None or self.rates[name] > best[0]:
                    best = self.rates[name], Way(workers, threads, here, "", self.rates)
        if best is None or best[0] < _MARGIN * rate_here:
            self._end_workers()
            return None
        crew.keep(best[1].workers)
        return best[1]

    def _most_models(self, workers: int) -> int:
        share = -(-len(self.group) // workers)
        limits = [share, at_once(self.run.prepared.plan, workers)]
        return max(1, min([*limits, self.asked_models] if self.asked_models else limits))

    def _end_workers(self) -> None:
        if self.crew is not None:
            self.crew.close()
        self.crew = None

    def _start(self, size: int) -> Crew:
        self.crew = self._stack.enter_context(Crew(size))
        return self.crew


def _work_of(runs: Sequence[ManyRun]) -> float:
    """Return the arithmetic of runs at least, in FLOP."""
    return float(sum(_least_images(run) * run.prepared.plan.flop_per_image for run in runs))


def _least_images(run: ManyRun) -> int:
    """Return how many images a run trains on at least: patience may end it, after the warm-up."""
    config = run.config
    return min(config.epochs, config.beta_warmup_epochs + config.patience) * run.prepared.plan.training_rows


def _seconds_of(runs: Sequence[ManyRun]) -> float:
    """Guess how long runs take one after another at least; only the order of magnitude counts."""
    steps = sum(-(-_least_images(run) // run.config.batch_size) for run in runs)
    return steps * _SECONDS_OF_A_STEP + _work_of(runs) / _FLOP_PER_SECOND
