"""One contender in a process of its own: asleep on a pipe until it is given a turn.

Started by ``tournament``: a ``Setting`` as JSON in the first line of stdin, then for each line ``{"seconds": s}`` a turn
of at least so long, answered on stdout with the work done, the seconds it took, and the processor's seconds that went by
while it should have been asleep.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

# A compiled loop compiles again when Adam has its state, in its second step.
_WARM_UP_STEPS = 12


def main() -> None:
    """Answer turns until stdin ends."""
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    asked = json.loads(sys.stdin.readline())
    import torch

    from timing.contenders import EPOCH_BY_EPOCH, MissingError, work_of
    from timing.setting import Setting

    setting = Setting(**asked)
    if setting.threads:
        torch.set_num_threads(setting.threads)
    answer(imported=True)
    sys.stdin.readline()
    try:
        work = work_of(setting)
        for _ in range(1 if setting.implementation in EPOCH_BY_EPOCH else _WARM_UP_STEPS):
            next(work)
    except MissingError as reason:
        answer(missing=str(reason))
        return
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        answer(missing=f"it failed: {type(error).__name__}: {first}")
        raise
    answer(ready=True, threads=torch.get_num_threads())
    awake = time.process_time()
    for line in sys.stdin:
        asleep = time.process_time() - awake
        least = json.loads(line)["seconds"]
        done, started = 0.0, time.perf_counter()
        while time.perf_counter() - started < least:
            done += next(work)
        if setting.device.startswith("cuda"):
            torch.cuda.synchronize()
        answer(done=done, seconds=time.perf_counter() - started, seconds_awake_in_sleep=asleep)
        awake = time.process_time()


if __name__ == "__main__":
    main()
