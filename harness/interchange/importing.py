"""A Solution of FlashInfer-Bench as a candidate for the task that is named like its definition.

The definition's inputs are the task's input tensors in the signature's order, then its scalars
(`Task.solution_scalars`: each a number or the name of an axis). C++ and CUDA become a bundle
(harness/evaluate/bundle.py), Python and Triton one program (solution_program.py); files are carried
character by character.

Not covered: TileLang; a Solution's dependencies, which are not installed; definitions whose scalars
stand between their tensors.
"""

from __future__ import annotations

from harness.errors import UsageError
from harness.evaluate.bundle import Bundle, BundleError, SourceFile
from harness.interchange.solution import Solution, settled
from harness.interchange.solution_program import program_text
from harness.suite import Suite, Task
from harness.types import Candidate


def task_of(solution: Solution, suite: Suite) -> Task:
    """The task that a solution is for: of its definition's name, or where a suite has variants of
    it, the one with the published inputs. Raises UnknownName."""
    published = f"{solution.definition}@published"
    names = {task.name for task in suite.tasks}
    return suite.task(published if published in names else solution.definition)


def candidate_of(solution: Solution, task: Task) -> Candidate:
    """The candidate. Raises UsageError for what cannot run here."""
    spec, note = solution.spec, f"{solution.author}: {solution.name}"
    signature, scalars = task.signature, task.solution_scalars
    tensors = tuple(t.name for t in signature.inputs)
    arguments: tuple[str | int | float, ...] = (*tensors, *scalars.values())
    binding, passed = settled(solution, len(arguments), len(signature.outputs))
    if spec.language == "tilelang":
        raise UsageError(f"{solution.name} is written in TileLang, which the harness does not run.")
    if binding is None:
        assert spec.language in ("python", "triton")
        outputs = tuple(t.name for t in signature.outputs) if passed else ()
        text = program_text(
            {source.path: source.content for source in solution.sources},
            spec.entry_point,
            arguments,
            outputs,
            (*tensors, *scalars),
            {"name": solution.name, "author": solution.author},
        )
        return Candidate("triton" if spec.language == "triton" else "python", text, None, note)
    if spec.language == "cuda" and task.device == "cpu":
        raise UsageError(f"{solution.name} is CUDA, and task {task.name} runs on the CPU.")
    try:
        bundle = Bundle(
            binding,
            tuple(SourceFile(source.path, source.content) for source in solution.sources),
            spec.entry_function,
            spec.entry_file,
            passed,
            arguments if scalars else None,
            note,
        )
    except BundleError as error:
        raise UsageError(f"{solution.name} cannot be imported: {error}.") from error
    return Candidate("cuda" if task.device == "cuda" else "cpp", bundle.text(), None, note)
