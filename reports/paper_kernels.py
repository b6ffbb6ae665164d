"""Published kernels that were measured on this machine, beside the paper's figures.

Covered: means by task and method under both gates, with FlashInfer's plan outside and inside; every
kernel, every workload, fast_p, the held-out verdict; what kernels claim. Not covered: measuring
(the record comes from harness/remeasured.py); ranking (an order of means without an interval is no
result).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from harness.remeasured import GATES, PLANS, Gate, Means, Plan, Remeasured, RemeasuredKernel
from harness.types import Status, geometric_mean
from reports.paper import Paper, PaperTask
from reports.paper_claims import Claim, claims_of_scores
from reports.table import Cell, Column, Table
from reports.tables import FAST_P

# Published kernels are slower than the baseline on average, and FAST_P has few steps there.
KERNEL_FAST_P = (0.1, 0.2, *FAST_P)
GATE_NAMES: Mapping[Gate, str] = {"ours": "this project's gate", "published": "the published gate"}


def kernels_levels(record: Remeasured) -> str:
    return f"measured on {record.hardware}, {record.date[:10]}; baseline: {record.baseline}"


def kernels_tables(paper: Paper, record: Remeasured) -> list[Table]:
    """All of them, the one beside the paper first."""
    return [
        _beside_paper(paper, record),
        _kernels(paper, record),
        _fast_p(paper, record),
        _workloads(paper, record),
    ]


def kernel_claims(paper: Paper, record: Remeasured) -> list[Claim]:
    """The paper's claims on these kernels, by gate and plan, on the variant of a task that is most
    like the paper's."""
    found = []
    for gate in GATES:
        for plan in PLANS:
            first: dict[tuple[str, str], Means | None] = {}
            for (task, method), kernels in sorted(
                _groups(record).items(), key=lambda item: paper.place(item[0][0])
            ):
                known, name = _of_paper(paper, task), paper.method_named(method)
                if known is not None and name is not None:
                    first.setdefault((known.title, name), _means(kernels, gate, plan))
            scores = {key: means for key, means in first.items() if means is not None}
            figures = (
                f"kernels measured here on {record.hardware}: right under {GATE_NAMES[gate]}, "
                f"plan {plan}"
            )
            found += claims_of_scores(paper, scores, figures, {})
    return found


def _groups(record: Remeasured) -> dict[tuple[str, str], list[RemeasuredKernel]]:
    groups: dict[tuple[str, str], list[RemeasuredKernel]] = {}
    for kernel in record.kernels:
        groups.setdefault((kernel.task, kernel.method), []).append(kernel)
    return groups


def _of_paper(paper: Paper, task: str) -> PaperTask | None:
    # Kernels are measured on the paper's suite only.
    return paper.task_named(paper.suites[0], task)


def _labels(paper: Paper, kernel: RemeasuredKernel) -> tuple[str, str, str]:
    """The paper's title of the task and its name of the method, where it has them, and the file."""
    known = _of_paper(paper, kernel.task)
    method = paper.method_named(kernel.method) or kernel.method
    return known.label(kernel.task) if known is not None else kernel.task, method, kernel.name


def _means(kernels: Sequence[RemeasuredKernel], gate: Gate, plan: Plan) -> Means | None:
    """Over the kernels of one method, each mean in its own way; None if one has no score."""
    every = [kernel.means(gate, plan) for kernel in kernels]
    known = [means for means in every if means is not None]
    if len(known) < len(every):
        return None
    return Means(
        fmean(means.arithmetic for means in known),
        geometric_mean([means.geometric for means in known]),
    )


def _four(means: Sequence[Means | None]) -> tuple[Cell, ...]:
    """Arithmetic and geometric in per cent, for each plan."""
    cells: list[Cell] = []
    for m in means:
        cells += [None, None] if m is None else [100 * m.arithmetic, 100 * m.geometric]
    return tuple(cells)


def _mean_columns(hardware: str) -> tuple[Column, ...]:
    return tuple(
        Column(f"{mean}_{plan}_percent", f"{mean.title()}, plan {plan}, % ({hardware})", "number")
        for plan in PLANS
        for mean in ("arithmetic", "geometric")
    )


def _beside_paper(paper: Paper, record: Remeasured) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for (task, method), kernels in _groups(record).items():
        known, name = _of_paper(paper, task), paper.method_named(method)
        values = known.score(name).values if known is not None and name is not None else ()
        for gate in GATES:
            right = sum(kernel.right(gate) for kernel in kernels)
            total = sum(len(kernel.workloads) for kernel in kernels)
            rows.append(
                (
                    known.label(task) if known is not None else task, name or method, len(kernels),
                    GATE_NAMES[gate], f"{right} of {total}",
                    " or ".join(str(value.percent) for value in values) or None,
                    known.hardware if known is not None else None,
                    *_four([_means(kernels, gate, plan) for plan in PLANS]),
                    _verdicts(kernels), _notes(known, name, kernels, gate), task,
                )
            )  # fmt: skip
    return Table(
        "kernels_beside_paper",
        "Published kernels measured here, beside the paper",
        "Per cent of the baseline's speed, over all workloads of a task and the kernels of a "
        "method. Plan outside: the calls alone; inside: each side's own plan added to its call. "
        "How the paper timed FlashInfer's plan is not known, so neither column is known to be the "
        "paper's. A method has a mean under a gate only if its kernels pass it on every workload. "
        "Held-out workloads change no mean.",
        (
            Column("task", "Task"),
            Column("method", "Method"),
            Column("kernels", "Kernels", "integer"),
            Column("gate", "Gate"),
            Column("right", "Right on"),
            Column("paper_percent", "Paper, arithmetic, %", "number"),
            Column("paper_hardware", "on"),
            *_mean_columns(record.hardware),
            Column("held_out", "Held-out"),
            Column("notes", "Notes"),
            Column("name", "Task's name here"),
        ),
        tuple(rows),
        kernels_levels(record),
    )


def _verdicts(kernels: Sequence[RemeasuredKernel]) -> str:
    return ", ".join(dict.fromkeys(_held_out(kernel) for kernel in kernels))


def _held_out(kernel: RemeasuredKernel) -> str:
    return "not checked" if kernel.held_out is None else kernel.held_out.value


def _notes(
    task: PaperTask | None, method: str | None, kernels: Sequence[RemeasuredKernel], gate: Gate
) -> str:
    notes = ["the task is not in the paper"] if task is None else []
    notes += ["the method is not in the paper"] if method is None else []
    for kernel in kernels:
        notes += [note for note in (_why_void(kernel, gate),) if note]
        known = len(kernel.workloads)
        if task is not None and known not in (0, task.workloads):
            notes.append(f"{kernel.name}: {known} of the task's {task.workloads} workloads")
    return "; ".join(notes)


def _why_void(kernel: RemeasuredKernel, gate: Gate) -> str:
    """Why a kernel has no score under a gate; "" where it has one."""
    if kernel.failure:
        return f"{kernel.name}: no score, {kernel.failure}"
    wrong = [w for w in kernel.workloads if not w.passed(gate)]
    if wrong:
        first = wrong[0]
        status = first.ours if gate == "ours" else first.published
        return (
            f"{kernel.name}: no score, failed on {len(wrong)} of {len(kernel.workloads)} "
            f"workloads, first on {first.workload} ({status.value})"
        )
    untimed = [w for w in kernel.workloads if w.latency_us is None]
    if untimed:
        return f"{kernel.name}: no score, no time on {untimed[0].workload}: {untimed[0].problem}"
    return ""


def _kernels(paper: Paper, record: Remeasured) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for kernel in record.kernels:
        for gate in GATES:
            message = kernel.held_out_message if kernel.held_out is not Status.PASSED else ""
            notes = [_why_void(kernel, gate), f"held-out: {message}" if message else ""]
            rows.append(
                (
                    *_labels(paper, kernel),
                    GATE_NAMES[gate], f"{kernel.right(gate)} of {len(kernel.workloads)}",
                    *_four([kernel.means(gate, plan) for plan in PLANS]), _held_out(kernel),
                    "; ".join(note for note in notes if note), kernel.source_hash,
                )
            )  # fmt: skip
    return Table(
        "kernels",
        "Every published kernel measured here",
        "As above, one file at a time.",
        (
            Column("task", "Task"),
            Column("method", "Method"),
            Column("kernel", "Kernel"),
            Column("gate", "Gate"),
            Column("right", "Right on"),
            *_mean_columns(record.hardware),
            Column("held_out", "Held-out"),
            Column("notes", "Notes"),
            Column("source_hash", "Source"),
        ),
        tuple(rows),
        kernels_levels(record),
    )


def _fast_p(paper: Paper, record: Remeasured) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            *_labels(paper, kernel), GATE_NAMES[gate], plan,
            len(kernel.workloads), *(kernel.fast(gate, plan, p) for p in KERNEL_FAST_P),
        )
        for kernel in record.kernels
        for gate in GATES
        for plan in PLANS
    ]  # fmt: skip
    return Table(
        "kernels_fast_p",
        "fast_p of the kernels: the fraction of workloads at least p times as fast as the baseline",
        "A workload on which the kernel does not pass, or has no time, counts as below every p.",
        (
            Column("task", "Task"),
            Column("method", "Method"),
            Column("kernel", "Kernel"),
            Column("gate", "Gate"),
            Column("plan", "Plan"),
            Column("workloads", "n workloads", "integer"),
            *(Column(f"fast_{p:g}", f"p = {p:g}", "number") for p in KERNEL_FAST_P),
        ),
        tuple(rows),
        kernels_levels(record),
    )


def _workloads(paper: Paper, record: Remeasured) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for kernel in record.kernels:
        for w in kernel.workloads:
            notes = [f"{GATE_NAMES[g]}: {w.message(g)}" for g in GATES if w.message(g)]
            notes += [w.problem] if w.problem else []
            rows.append(
                (
                    *_labels(paper, kernel), w.workload, w.ours.value,
                    w.published.value, w.latency_us, w.baseline_us, w.plan_us, w.baseline_plan_us,
                    w.speedup("outside"), w.speedup("inside"), "; ".join(notes),
                )
            )  # fmt: skip
    return Table(
        "kernels_workloads",
        "Every workload of every kernel",
        "Medians in microseconds. A side without a plan has none to add. A time stands here where "
        "one of the two gates lets the kernel pass.",
        (
            Column("task", "Task"),
            Column("method", "Method"),
            Column("kernel", "Kernel"),
            Column("workload", "Workload"),
            Column("ours", "This project's gate"),
            Column("published", "Published gate"),
            Column("latency_us", "Latency, µs", "number"),
            Column("baseline_us", "Baseline, µs", "number"),
            Column("plan_us", "Plan, µs", "number"),
            Column("baseline_plan_us", "Baseline's plan, µs", "number"),
            Column("speedup_outside", "Speedup, plan outside", "ratio"),
            Column("speedup_inside", "Speedup, plan inside", "ratio"),
            Column("notes", "Notes"),
        ),
        tuple(rows),
        kernels_levels(record),
    )
