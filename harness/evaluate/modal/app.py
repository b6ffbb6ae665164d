"""The app on Modal: two images that carry this code, and one function for each kind of request.

Functions with a GPU have an image of their own, in which the suites' baselines were made ready on
such a GPU (FlashInfer's kernels, compiled): containers have no network, and workers no compiler.
Its first layers are the other image's, so that Modal makes these once.

Covered: what each function is given (options.py), how it is shut in, deploying it, finding it.
Not covered: calling it (calls.py).

The functions have no network, no access to other things of the Modal account, no secret, no retry
of Modal's own, and, where candidates run, one request for each container. Their answers are not
pickled.
"""

from __future__ import annotations

from pathlib import Path

import modal
import modal.exception

import harness
from harness.errors import EnvironmentMissing
from harness.evaluate.modal import pins, remote
from harness.evaluate.modal.calls import TOKEN_ADVICE
from harness.evaluate.modal.options import FUNCTIONS, STARTUP_SECONDS
from harness.evaluate.modal.requests import PACKAGES, SUFFIXES

HOME = "/harness"  # of the code in the image
COMPILERS = 8  # at once: an image is made on a machine of unknown memory, and nvcc takes GiBs


def images(gpu: str) -> dict[bool, modal.Image]:
    """The image of the functions without a GPU (False) and with one (True): CUDA's compiler,
    Python, torch and Triton by version, and this code. gpu: rented while the second is made."""
    base = (
        modal.Image.from_registry(pins.reference(), add_python=pins.PYTHON)
        .entrypoint([])
        .apt_install("g++")
        .pip_install(*pins.TORCH, index_url=pins.TORCH_INDEX)
        .pip_install(*pins.PACKAGES)
    )
    # Named again, so that nothing else takes the place of these versions.
    more = base.pip_install(*pins.gpu_packages(), *pins.TORCH, *pins.PACKAGES)
    prepare = [f"MAX_JOBS={COMPILERS} python -m {module}" for module in pins.preparations()]
    return {False: _with_code(base), True: _with_code(more).run_commands(*prepare, gpu=gpu)}


def _with_code(made: modal.Image) -> modal.Image:
    root = Path(harness.__file__).resolve().parents[1]
    made = made.env({"PYTHONPATH": HOME, remote.IMAGE_VARIABLE: pins.reference()})
    for package in PACKAGES:
        made = made.add_local_dir(root / package, f"{HOME}/{package}", copy=True, ignore=_left_out)
    return made


def _left_out(path: Path) -> bool:
    return path.suffix not in SUFFIXES


def make_app(name: str, gpu: str, containers: int) -> modal.App:
    """The app, not deployed. containers: the most of each function that Modal may run at once."""
    app = modal.App(name)
    made = images(gpu)
    for function in FUNCTIONS:
        app.function(
            name=function.name,
            image=made[function.on_gpu],
            gpu=gpu if function.on_gpu else None,
            cpu=function.cores,
            memory=int(function.memory_gib * 1024),
            timeout=function.timeout_seconds,
            startup_timeout=STARTUP_SECONDS,
            retries=0,
            max_containers=containers,
            single_use_containers=function.single_use,
            block_network=True,
            restrict_modal_access=True,
            include_source=False,
            _experimental_restrict_output=True,
        )(remote.entry)
    return app


def deploy(
    name: str, gpu: str, containers: int, client: modal.Client, *, show: bool = False
) -> None:
    """Make the image and the functions, or replace them. Raises EnvironmentMissing."""
    app = make_app(name, gpu, containers)
    try:
        if show:
            with modal.enable_output():
                app.deploy(client=client)
        else:
            app.deploy(client=client)
    except modal.exception.AuthError as error:
        raise EnvironmentMissing(f"Modal refuses the token: {error} {TOKEN_ADVICE}") from error
    except (modal.exception.Error, OSError) as error:
        raise EnvironmentMissing(
            f"The app {name!r} was not deployed: {type(error).__name__}: {error} See what was "
            "printed while its image was made; then `harness modal deploy` again."
        ) from error


def deployed_functions(name: str, client: modal.Client) -> dict[str, bool]:
    """Which of the functions an app has. Raises EnvironmentMissing."""
    found: dict[str, bool] = {}
    for function in FUNCTIONS:
        try:
            modal.Function.from_name(name, function.name, client=client).hydrate()
            found[function.name] = True
        except modal.exception.NotFoundError:
            found[function.name] = False
        except (modal.exception.Error, OSError) as error:
            raise EnvironmentMissing(f"Modal cannot be asked: {error}") from error
    return found


def ask_once(name: str, request: bytes, client: modal.Client) -> object:
    """What the smallest function answers, without a ledger. Raises EnvironmentMissing."""
    try:
        found: modal.Function[[bytes], bytes, bytes] = modal.Function.from_name(
            name, "version", client=client
        )
        return found.remote(request)
    except (modal.exception.Error, OSError) as error:
        raise EnvironmentMissing(
            f"The app {name!r} does not answer: {error} Run `harness modal deploy`."
        ) from error
