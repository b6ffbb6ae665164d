"""Which evaluator a comparison uses: this machine's, or Modal's containers.

Covered: making it from the resolved request; the comparison's secret.
Not covered: what an evaluator does (`harness/evaluate/`).
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from harness.config import Resolved
from harness.errors import EnvironmentMissing, LogError
from harness.evaluate import Evaluator
from harness.evaluate.settings import EvaluatorSettings
from harness.folder import write_text

MakeEvaluator = Callable[[Resolved, Path], Evaluator]


def local_evaluator(resolved: Resolved, folder: Path) -> Evaluator:
    """The evaluator on this machine. Raises EnvironmentMissing where it cannot run."""
    if sys.platform != "linux":
        raise EnvironmentMissing(
            "Evaluating on this machine needs Linux (WSL2 too). Use the shipped Dockerfile; "
            "reports and replay work here."
        )
    from harness.evaluate.local import LocalEvaluator

    return LocalEvaluator(
        resolved.suite,
        cache_folder=resolved.cache or folder / "cache",
        settings=evaluator_settings(resolved),
        secret=comparison_secret(folder),
        trust_candidates=resolved.trust_candidates,
    )


def modal_evaluator(resolved: Resolved, folder: Path) -> Evaluator:
    """The evaluator in Modal's containers. Raises EnvironmentMissing without the package, a token
    or the app."""
    try:
        from harness.evaluate.modal.client import ModalEvaluator
    except ModuleNotFoundError as error:
        raise EnvironmentMissing(
            f"EVALUATOR=modal needs the package {error.name!r}. Install it: pip install -e "
            "'.[modal]' (docs/modal.md)."
        ) from error
    assert resolved.modal is not None
    return ModalEvaluator(
        resolved.suite,
        folder,
        options=resolved.modal,
        settings=evaluator_settings(resolved),
        secret=comparison_secret(folder),
    )


def chosen_evaluator(resolved: Resolved, folder: Path) -> Evaluator:
    """The evaluator that was asked for. Raises EnvironmentMissing where it cannot run."""
    make = local_evaluator if resolved.modal is None else modal_evaluator
    return make(resolved, folder)


def evaluator_settings(resolved: Resolved) -> EvaluatorSettings:
    if resolved.confirm_seconds is None:
        return EvaluatorSettings()
    return EvaluatorSettings(confirm_max_seconds=resolved.confirm_seconds)


def comparison_secret(folder: Path) -> bytes:
    """The comparison's secret, from which the seeds of all inputs derive; made once, readable by
    this user only. Nothing that a method or a candidate sees depends on it."""
    path = folder / "judge" / "secret"
    try:
        return bytes.fromhex(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        secret = secrets.token_bytes(32)
    except (OSError, ValueError) as error:
        raise LogError(f"{path} cannot be read ({error}). Delete it to draw a new one.") from error
    write_text(path, secret.hex() + "\n")
    path.chmod(0o600)
    return secret
