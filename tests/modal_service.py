"""The stand-in for Modal as tests use it: started, with a token in the environment and the app
deployed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_modal import SECRET, FakeModal
from modal.client import _Client

from harness.evaluate.modal import app
from harness.evaluate.modal.calls import Patience, connect
from harness.evaluate.modal.client import ModalEvaluator
from harness.evaluate.modal.options import APP, GPU, ModalOptions
from harness.evaluate.settings import EvaluatorSettings

QUICK = Patience(pause_seconds=0.01, poll_seconds=0.5, lost_contacts=3)
SETTINGS = EvaluatorSettings()


def forget_client() -> None:
    """Let this process's Modal client be made anew (1.5 and 1.6 name this differently)."""
    forget = getattr(_Client, "_set_env_client", None) or _Client.set_env_client
    forget(None)


@contextmanager
def service(
    run: Callable[[bytes], bytes],
    *,
    containers: int = 4,
    deployed: bool = True,
    gpu: str = GPU,
) -> Iterator[FakeModal]:
    """The running stand-in; this process's Modal client speaks to it meanwhile."""
    with FakeModal(run, containers) as fake, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODAL_SERVER_URL", fake.url)
        patch.setenv("MODAL_TOKEN_ID", "ak-fake")
        patch.setenv("MODAL_TOKEN_SECRET", SECRET)
        patch.setenv("MODAL_CONFIG_PATH", "/nonexistent/modal.toml")
        forget_client()
        if deployed:
            app.deploy(APP, gpu, containers, connect())
        try:
            yield fake
        finally:
            forget_client()


def evaluator(
    folder: Path,
    suite: str = "cpu",
    options: ModalOptions | None = None,
    settings: EvaluatorSettings = SETTINGS,
) -> ModalEvaluator:
    """The evaluator of a comparison in `folder`, of an impatient user."""
    return ModalEvaluator(
        suite,
        folder,
        options=options or ModalOptions(),
        settings=settings,
        secret=b"s" * 32,
        patience=QUICK,
    )
