"""From settings and a level to a client: the only place that reads a key.

    live               the endpoint, with the key from the environment
    simulated          the simulated model over the suite's design spaces
    replay:PATH        a tape; neither key nor network
    record:PATH        whichever of the first two the model is, written to a tape
    replay-or-record:PATH   the tape first, then as record

Tapes are per run: connect once for each run and give `run`, its path in the comparison's folder.

Every client has an attribute `waits`: true if a call may wait for a network, so that the search
loop gives up its share of the machine meanwhile (`harness.evaluate.machine.released`). A simulated
model computes, so it holds its share (`busy`).

Not covered: a pool of clients. The limit of calls in flight is per endpoint already, in
`harness.llm.openai_client`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from harness.design_space import DesignSpace
from harness.errors import EnvironmentMissing, UsageError
from harness.llm.client import Client, Reply, Request
from harness.llm.models import ModelSettings
from harness.llm.record import LLMLevel, TapeClient
from harness.llm.tape import open_tape


@dataclass(frozen=True)
class BusyClient:
    """A client that computes on this machine: nothing is timed meanwhile."""

    model: Client
    waits = False

    def complete(self, request: Request, occurrence: int) -> Reply:
        from harness.evaluate.machine import busy  # POSIX only; replay works without it

        with busy():
            return self.model.complete(request, occurrence)


def connect(
    settings: ModelSettings,
    level: LLMLevel,
    *,
    spaces: Mapping[str, DesignSpace],
    run: str = "",
    environment: Mapping[str, str] = os.environ,
) -> Client:
    """The client of one model in one run.

    spaces: the suite's design spaces, for a simulated model. run: the run's path in the comparison,
    like runs/matmul/ksearch/seed-0, which names its tape. Raises UsageError if model and level do
    not go together, EnvironmentMissing without the key, LogError for a tape that cannot be read.
    """
    if level.kind in ("live", "simulated"):
        _check_kind(settings, level.kind)
        return _model(settings, spaces, environment)
    if level.path is None:
        raise ValueError(f"level {level.kind} has no path")
    tape = open_tape(level.path, run, write=level.kind != "replay")
    inner = None if level.kind == "replay" else _model(settings, spaces, environment)
    return TapeClient(level.mode, tape, inner)


def _check_kind(settings: ModelSettings, kind: str) -> None:
    if kind == "simulated" and settings.kind != "simulated":
        raise UsageError(
            f"LLM=simulated, but model {settings.name!r} is that of a real endpoint. Write "
            "LLM=live to ask it, or leave MODEL out."
        )
    if kind == "live" and settings.kind == "simulated":
        raise UsageError(
            f"LLM=live, but model {settings.name!r} is simulated. Write LLM=simulated, or name a "
            "real model with MODEL."
        )


def _model(
    settings: ModelSettings, spaces: Mapping[str, DesignSpace], environment: Mapping[str, str]
) -> Client:
    if settings.kind == "simulated":
        from harness.llm.simulated import SimulatedModel
        from harness.llm.simulated_knobs import Knobs

        return BusyClient(SimulatedModel(Knobs.from_mapping(settings.knobs), spaces))
    from harness.llm.openai_client import OpenAIClient  # takes long to import, for live runs only

    return OpenAIClient(settings, _key(settings, environment))


def _key(settings: ModelSettings, environment: Mapping[str, str]) -> SecretStr | None:
    """The key from the environment. Raises EnvironmentMissing that says how to go on."""
    variable = settings.key_variable
    if variable is None:
        return None
    key = environment.get(variable, "").strip()
    if not key:
        raise EnvironmentMissing(
            f"Model {settings.name!r} needs a key, and the environment variable {variable} is not "
            f"set. Set {variable}, or run with LLM=simulated (no key, no claim about real LLMs), "
            "or with SUITE=cpu, which uses the simulated model by default."
        )
    return SecretStr(key)
