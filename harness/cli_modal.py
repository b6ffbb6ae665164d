"""The commands about Modal: modal deploy, modal pin, modal status, modal cost.

Covered: arguments, and what is printed. Not covered: the work (`harness/evaluate/modal/`), which is
imported when a command runs, so that --help stays quick and needs no package of Modal's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import EnvironmentMissing, UsageError
from harness.evaluate.modal.options import APP, CONTAINERS, FUNCTIONS, GPU

if TYPE_CHECKING:
    import modal

App = Annotated[str, typer.Option(help="The app's name.")]

commands = typer.Typer(
    help="Evaluate in containers of Modal (docs/modal.md).",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.command()
def deploy(
    name: App = APP,
    gpu: Annotated[
        str, typer.Option(help="As Modal names it; ! keeps it from giving a better one.")
    ] = GPU,
    containers: Annotated[
        int, typer.Option(min=1, help="The most of each function at once, for every comparison.")
    ] = 4 * CONTAINERS,
) -> None:
    """Deploy the app that evaluates: images with this code, and its functions.

    Needs a token (MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, or `modal token new`). Making the images
    takes minutes the first time, and after a change of the code one GPU for about as long as
    FlashInfer's kernels compile. Nothing else runs or is paid for until a comparison asks.

    Examples:

    \b
    harness modal deploy
    """
    client = _client()
    from harness.evaluate.modal import app, pins

    typer.echo(f"Deploying {name} from {pins.reference()} ...")
    app.deploy(name, gpu, containers, client, show=True)
    typer.echo(f"Deployed. Now: harness compare --evaluator {_evaluator(name, gpu)} ...")
    if pins.pinned_digest() is None:
        typer.echo("The image is unpinned: harness modal pin records its digest.")


@commands.command()
def pin() -> None:
    """Record the digest that the image's tag has now; the next deployment is made from it.

    Examples:

    \b
    harness modal pin
    """
    from harness.evaluate.modal import pins

    digest = pins.pin()
    typer.echo(f"{pins.REPOSITORY}:{pins.TAG} is {digest}, kept in {pins.pins_path()}.")
    typer.echo("Deploy again to use it: harness modal deploy")


@commands.command()
def status(
    name: App = APP,
) -> None:
    """Say whether the token works, what is deployed, and whether it is this version.

    Asks one small container (no GPU) for its version, which costs far less than a cent. Exit status
    1 if a comparison could not start.

    Examples:

    \b
    harness modal status
    """
    client = _client()
    from harness.evaluate.modal import app, pins
    from harness.evaluate.modal.requests import Work, answer_from_bytes, code_version

    typer.echo("token: accepted")
    found = app.deployed_functions(name, client)
    lacking = [function for function, there in found.items() if not there]
    if lacking:
        typer.echo(f"app {name}: lacks {', '.join(lacking)}. Run: harness modal deploy")
        raise typer.Exit(1)
    answer = answer_from_bytes(app.ask_once(name, Work("version").encode(), client))
    typer.echo(f"app {name}: {len(found)} functions, image {answer.container.get('image')}")
    pinned = pins.pinned_digest()
    typer.echo(f"digest: {pinned or pins.UNPINNED}")
    if answer.refusal is not None:
        typer.echo(
            f"version: {answer.message}, this is {code_version()}. Run: harness modal deploy"
        )
        raise typer.Exit(1)
    typer.echo(f"version: {code_version()}, the same on both sides")


@commands.command()
def cost(
    runs: Annotated[
        Path | None, typer.Argument(metavar="[RUNS]", help="A comparison's folder.")
    ] = None,
) -> None:
    """Show what a comparison's containers came to, or, without one, the prices that are assumed.

    Sums what containers say they worked, at list prices; the bill is in Modal's dashboard.

    Examples:

    \b
    harness modal cost
    harness modal cost runs/comparison
    """
    if runs is None:
        _show_prices()
        return
    from harness.evaluate.modal.ledger import read_ledger, spending

    entries = read_ledger(runs)
    if not entries:
        raise UsageError(
            f"No call of Modal is recorded in {runs}. Name a comparison that was run with "
            "--evaluator modal."
        )
    for function in FUNCTIONS:
        mine = spending(entry for entry in entries if entry.function == function.name)
        if mine.calls:
            typer.echo(
                f"{function.name:13} {mine.calls:5} calls, {mine.lost} lost, {mine.open_calls} "
                f"open, {mine.seconds:.0f} s, {_dollars(mine.dollars)}"
            )
    total = spending(entries)
    typer.echo(f"{'together':13} {total.calls:5} calls, {_dollars(total.dollars)}")
    if total.open_calls:
        typer.echo("What open calls cost is not known yet: harness resume waits for them.")


def _show_prices() -> None:
    from harness.evaluate.modal.estimate import ASSUMED_SECONDS
    from harness.evaluate.modal.options import ModalOptions
    from harness.evaluate.modal.prices import sources

    options = ModalOptions()
    for function in FUNCTIONS:
        price = options.price_of(function.name)
        assert price is not None
        assumed = ASSUMED_SECONDS.get(function.name)
        each = f", {assumed:.0f} s assumed: ${assumed * price:.4f}" if assumed else ""
        typer.echo(f"{function.name:13} ${price:.6f} a second{each}")
    for line in sources(FUNCTIONS[0].shape(options.gpu)):
        typer.echo(line)


def _client() -> modal.Client:
    try:
        from harness.evaluate.modal.calls import connect
    except ModuleNotFoundError as error:
        raise EnvironmentMissing(
            f"This needs the package {error.name!r}. Install it: pip install -e '.[modal]' "
            "(docs/modal.md)."
        ) from error
    return connect()


def _evaluator(name: str, gpu: str) -> str:
    changed = [f"app={name}"] if name != APP else []
    changed += [f"gpu={gpu}"] if gpu != GPU else []
    return ":".join(["modal", ",".join(changed)]) if changed else "modal"


def _dollars(dollars: float | None) -> str:
    return "price unknown" if dollars is None else f"about ${dollars:.2f}"


def register(app: typer.Typer) -> None:
    """Add this module's commands to the application."""
    app.add_typer(commands, name="modal")
