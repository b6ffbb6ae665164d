"""Every constant of the evaluator, with its unit and its reason. Part of the cache key and the
manifest.

Covered: how many calls, how wide an interval, how long to wait.
Not covered: tolerances (they belong to the task) and floors (they belong to the device,
`peaks.py`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from harness.types import JsonObject


@dataclass(frozen=True)
class EvaluatorSettings:
    """Settings of one evaluator; equal settings are a condition for sharing a cached evaluation."""

    ring_slots: int = 5
    """Distinct buffers per tensor; a block holds as many calls, each in a slot of its own, so that
    an output that is returned twice or written late is seen."""

    correctness_seeds: int = 3
    """Fresh inputs per workload before anything is timed, each verified in full."""

    warmup_calls: int = 2
    """Untimed calls per workload and side: thread pools start, pages are touched."""

    search_blocks: int = 4
    """Blocks per workload and side in search; a block is `ring_slots` calls of each side."""

    search_max_blocks: int = 8
    """Search stops adding blocks here, however wide the interval is."""

    search_half_width: float = 0.05
    """Relative half-width of a workload's 95 % interval at which search stops adding blocks."""

    slow_factor: float = 3.0
    slow_samples: int = 3
    """A candidate slower than `slow_factor` x the baseline gets this many samples, and is marked:
    its exact time decides nothing."""

    confirm_min_blocks: int = 8
    confirm_max_blocks: int = 40
    confirm_half_width: float = 0.01
    """Confirmation adds randomised blocks (fresh processes in each) until every 95 % interval has
    this half-width, or a cap is reached; the wider interval is then printed."""

    confirm_max_seconds: float = 20.0
    """Device seconds per task and confirmation after which no block is added. Part of the request:
    `--confirm-seconds`."""

    floor_margin: float = 0.9
    """A time below this share of the roofline floor is impossible. The rest is the error of the
    measured peaks."""

    floor_flag: float = 1.2
    """A time below this multiple of the floor is possible but unusual: flagged."""

    gpu_floor_calls: int = 8
    """Where the work of a call depends on its contents (experts that are chosen), the medians of so
    many calls' floors and latencies are held to each other."""

    gpu_sample_seconds: float = 0.03
    gpu_min_samples: int = 8
    gpu_max_samples: int = 50
    """On a GPU a workload gets as many samples as the baseline runs through in this time, within
    these limits: what a candidate does cannot change how often it is measured. With 0.2 s the
    intervals were as narrow (half-widths of 0.1 to 0.5 %), and an evaluation took 7 s."""

    gpu_slow_samples: int = 2
    """Like `slow_samples`, on a GPU, where samples differ by tenths of a percent: the calls that
    were verified, so that a program which takes a second is not called again."""

    gpu_slow_us: float = 5000.0
    """On a GPU a candidate slower than the baseline, if by little, gets few samples too where its
    calls last longer than this: what few calls may hide from the clocks is then a few percent of
    them, and no lie makes it faster than the baseline. Most programs of a search for fast TriMul
    kernels are such, and took the device longest."""

    gpu_correctness_seeds: int = 1
    gpu_drawn_blocks: int = 2
    """Like `correctness_seeds`, on a GPU, where a reference takes 10 to 100 times as long as what
    is measured: with the calls that are drawn while timing (one in each of so many blocks of a
    workload, blocks and calls drawn), three fresh inputs are verified in full before a program
    passes."""

    gpu_warmup_calls: int = 1
    """Like `warmup_calls`, on a GPU, where no thread pools start: only in a worker that has not run
    the workload before."""

    gpu_confirm_min_blocks: int = 4
    gpu_confirm_calls: int = 4
    gpu_confirm_call_seconds: float = 0.01
    gpu_confirm_many: int = 16
    gpu_confirm_together: int = 4
    gpu_drawn_share: float = 0.4
    """Like `confirm_min_blocks`, on a GPU, where blocks differ by tenths of a percent; the most
    calls of each side in a block, 2 if the baseline's do not fit this time or the task has more
    final workloads than so many (fewer than 8 calls in all would be held to one clock); how many
    finalists are alive at once, beside one run of the baseline (each keeps half a GB of the device,
    and what its program does not give back); and the share of blocks of which one call is verified
    in full."""

    gpu_sharing: Literal["ipc", "host"] = "ipc"
    """How a worker on a GPU gets its memory: CUDA IPC (where that is missing, "host" is taken), or
    host memory that it copies before and after each call."""

    gpu_memory_share: float = 0.08
    """Share of the device's memory for one side's ring, and for inputs that the judge keeps: with
    both sides' rings, the private copies of their outputs and the judge's own work, the suite fits
    80 GB."""

    gpu_expected_share: float = 0.12
    """The same for outputs of the reference that are computed while a worker starts."""

    baseline_drift: float = 0.03
    """On a GPU a block is repeated if its baseline is off its own history by more than this (the
    geometric mean over its workloads)."""

    gpu_clock_slack_us: float = 60.0
    """The two-clock test on a GPU: how much longer a candidate's calls may last by the judge's
    clock than by its events, compared with the baseline's, beyond three times those calls'
    spread."""

    gpu_clock_quartile_us: float = 40.0
    """The same for the lower quartile of the calls, which delays of a busy machine hardly move: it
    sees a smaller lie, if that is told in most calls. Beyond it one standard deviation counts. In
    search, calls back to back decide about what is between this and the median's."""

    gpu_clock_calls: int = 8
    """Of fewer calls than this, the one that was delayed least is held to both: on a machine busy
    with builds one call in fifty was delayed, by up to 2 ms."""

    gpu_cold_us: float = 150.0
    """What so few calls may last longer besides: each comes after other work of the judge's, where
    the baseline's follow each other. A program has so few only if each of them is told to last
    `slow_factor` times as long as the baseline's on the same inputs, or longer than that and than
    `gpu_slow_us`: the judge times it in full otherwise."""

    gpu_long_share: float = 0.012
    gpu_long_us: float = 300.0
    """What calls longer than the baseline's longest may last longer, as a share of the difference,
    and at most. The judge's clock adds 320 us to a call of 20 us, 350 at 3 ms, 420 at 10 ms, 510 at
    20 ms and 590 from 40 ms on (kernels that only wait, on an H100)."""

    gpu_contexts_us: float = 700.0
    gpu_copies_share: float = 0.15
    """What beyond its device time lasts longer is copying, where memory is not shared: on the same
    workload two processes' copies were seen to differ by up to a tenth (5 and 12 ms)."""

    gpu_clock_share: float = 5e-3
    """Share of a call that adds to the resolution of the two-clock test: an honest call of 280 ms
    was seen 0.2 % longer by the judge's clock, on a machine busy with builds. A lie within it is
    smaller than what a confirmation can tell apart."""

    gpu_tail_us: float = 50.0
    """How long the device may go on, by the worker's word, after the last event of a call."""

    gpu_prepare_us: float = 300.0
    """How much longer preparing a candidate's calls may take than the baseline's: the rest, a
    program computes meanwhile. The device gives a context two milliseconds at a time."""

    gpu_busy_us: float = 1500.0
    """How long the device may let the judge wait after a block. Two changes of context take 0.3 ms;
    a kernel that is left behind has a time slice, milliseconds, before the judge's turn."""

    queue_first_seconds: float = 0.005
    queue_seconds: float = 0.05
    queue_again_seconds: float = 0.005
    """How long a call may take to be queued before its inputs are made anyway. The first call of a
    workload loads kernels, for which the driver waits until the stream is empty; a program that
    waits for its own work cannot be queued, and then waits in vain in each of its calls."""

    batch_calls: int = 16
    batch_memory_share: float = 0.1
    batch_slack: float = 0.05
    batch_call_us: float = 3.0
    batch_longest_us: float = 3000.0
    batch_workloads: int = 8
    """Calls back to back on distinct inputs, timed as one (as many as fit this share of the
    device): an error of the two-clock test is divided by so many. A call may last so much longer
    than a single one, and so many microseconds more. Longer calls are left out: the two clocks tell
    them apart well enough. Of more workloads of a best that is confirmed than so many, as many are
    drawn; a search looks at all whose clocks are off by little."""

    max_steal: float = 0.01
    steal_repeats: int = 3
    """A block during which the hypervisor took more than this share of CPU time is repeated, at
    most so often per workload."""

    clock_slack_us: float = 100.0
    clock_share: float = 0.3
    """The two-clock test: a worker must account for this share of at least one call that is longer
    than `clock_slack_us` beyond three times what the baseline's clocks differ by (wake-up time)."""

    stop_timeout_seconds: float = 1.0
    """How long a worker's threads may take to come to a stop after a call: they act on the signal
    when they next run, so this must outlast a busy machine's time slices."""

    disputes: int = 1
    """How often a program is looked at anew, in a fresh process, that only clocks, or a baseline
    which failed beside it, speak against: a machine may be disturbed, and a process keeps its place
    on it (an honest program was off by 78 us once, twice in the same process); a worker that lies
    does so again."""

    stopped_cpu_us: float = 20.0
    """CPU time that a stopped worker may seem to use: the end of its threads' last step."""

    gpu_stopped_cpu_us: float = 5000.0
    """The same on a GPU, where a dozen of the driver's threads come to rest one after the other; a
    host that stands still for a millisecond less gains nothing there."""

    call_timeout_seconds: float = 10.0
    """Of one call; the first of a workload in a worker on a GPU that may still compile (a program
    in Python, or in Triton that could not be compiled ahead) has `build_timeout_seconds`."""

    evaluation_seconds: float = 400.0
    """Of all calls of a program together, in search, and of verifying a finalist: a slow program
    must not hold the device for ever, nor outlast the container that it is judged in
    (modal/options.py), which would be taken for a fault of ours."""

    load_timeout_seconds: float = 20.0
    build_timeout_seconds: float = 60.0
    bundle_build_seconds: float = 300.0
    """A published kernel's files are compiled one after the other; each that includes
    torch/extension.h takes 20 to 60 s."""

    worker_memory_bytes: int = 4 << 30
    gpu_worker_memory_bytes: int = 32 << 30
    """Host memory of a worker on a GPU; CUDA's context alone maps a few."""

    build_memory_bytes: int = 4 << 30
    worker_processes: int = 64
    """Processes and threads that a candidate may have; OpenMP needs one per core."""

    def to_json(self) -> JsonObject:
        return asdict(self)
