"""The models that runs may name: what models.toml says, checked.

Three files are read, later ones win by name: the models.toml shipped beside this module,
models.toml in the current folder, and the one given with `--models`. Each holds `[[model]]`
tables; docs/models.md explains every field.

Covered: settings of an endpoint (address, sampling, prices, limits), settings of a simulated model
(knobs), schedules that change the model during a run, the check that a dollar budget has a price.
Not covered: keys. An entry names the environment variable that holds its key; the key is read by
`harness.llm.connect` when a client is made, and is in no file.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    model_validator,
)

from harness.errors import UnknownName, UsageError
from harness.types import JsonObject, JsonScalar

SHIPPED = Path(__file__).with_name("models.toml")

# "/", ":", "," and "+" separate names in purposes, schedules and arms.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Dollars = Annotated[FiniteFloat, Field(ge=0)]


def _plain_address(address: str) -> str:
    """A base URL that cannot carry a secret into a manifest."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an address like https://host/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "holds credentials, a query or a fragment; the manifest shows the address, so put the "
            "key into an environment variable and name it in key_variable"
        )
    return address.rstrip("/")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sampling(_Table):
    """What is sent with every request, as far as set; unset means the endpoint's own default."""

    temperature: Annotated[FiniteFloat, Field(ge=0, le=2)] | None = None
    top_p: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    reasoning_effort: str | None = None


class Prices(_Table):
    """US dollars per million tokens, as published at `source` on `date`.

    cached_input_dollars_per_million: unset means that cached input costs as much as other input.
    """

    input_dollars_per_million: Dollars
    output_dollars_per_million: Dollars
    cached_input_dollars_per_million: Dollars | None = None
    date: datetime.date
    source: Annotated[str, StringConstraints(min_length=1)]


class ModelSettings(_Table):
    """One entry of models.toml.

    name: how runs, arms and schedules call it. kind: "openai" (any OpenAI-compatible endpoint) or
    "simulated". model: the endpoint's own id of the model. key_variable: the environment variable
    that holds the key; unset for an endpoint that wants none. max_tokens_parameter: what the
    endpoint calls the limit on completion tokens. concurrency: calls in flight at once to this
    base_url, over all runs of the process (the smallest of the entries in use holds). retries:
    further attempts after a failed one. knobs: settings of a simulated model.
    """

    name: Name
    kind: Literal["openai", "simulated"] = "openai"
    model: str | None = None
    base_url: Annotated[str, AfterValidator(_plain_address)] | None = None
    key_variable: Variable | None = None
    sampling: Sampling = Sampling()
    context_tokens: Annotated[int, Field(gt=0)] | None = None
    max_output_tokens: Annotated[int, Field(gt=0)] = 8192
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    prices: Prices | Literal["unknown"] = "unknown"
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 4
    timeout_seconds: Annotated[FiniteFloat, Field(gt=0)] = 600.0
    retries: Annotated[int, Field(ge=0, le=20)] = 5
    knobs: dict[str, JsonScalar | list[float]] = {}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "openai":
            missing = [f for f in ("model", "base_url") if getattr(self, f) is None]
            if missing:
                raise ValueError(f'kind "openai" needs {" and ".join(missing)}')
            if self.knobs:
                raise ValueError('knobs are for kind "simulated"')
        elif self.base_url is not None or self.key_variable is not None:
            raise ValueError('kind "simulated" takes no base_url and no key_variable')
        return self

    def request_sampling(self) -> dict[str, JsonScalar]:
        """The `sampling` of every Request to this model: what is set, and `max_tokens`."""
        values: dict[str, JsonScalar] = self.sampling.model_dump(exclude_none=True)
        return values | {"max_tokens": self.max_output_tokens}

    def dollars(
        self, prompt_tokens: float, completion_tokens: float, cached_tokens: float = 0
    ) -> float | None:
        """What such a call costs; None where the price is unknown. A simulated model costs nothing.

        cached_tokens: the part of prompt_tokens that the endpoint read from its cache.
        """
        if self.kind == "simulated":
            return 0.0
        if isinstance(self.prices, str):
            return None
        cached_price = self.prices.cached_input_dollars_per_million
        if cached_price is None:
            cached_price = self.prices.input_dollars_per_million
        return (
            (prompt_tokens - cached_tokens) * self.prices.input_dollars_per_million
            + cached_tokens * cached_price
            + completion_tokens * self.prices.output_dollars_per_million
        ) / 1e6

    def describe(self) -> JsonObject:
        """For the manifest: every setting (none is secret: keys are named, never held)."""
        return self.model_dump(mode="json", exclude_none=True)


@dataclass(frozen=True)
class Segment:
    """One model's stretch of a schedule. charges: how many; None: to the end of the run."""

    model: str
    charges: int | None


@dataclass(frozen=True)
class Schedule:
    """Which model a run uses, by charges so far: "gpt-x:150,gemini-y" is gpt-x for the first 150
    charges, then gemini-y."""

    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Raises UsageError unless every part but the last is NAME:CHARGES and the last is NAME."""
        segments = []
        parts = text.split(",")
        for part in parts[:-1]:
            name, _, count = part.strip().partition(":")
            if not name or not count.isascii() or not count.isdigit() or int(count) == 0:
                raise UsageError(
                    f"Model schedule {text!r}: {part!r} is not NAME:CHARGES. "
                    "Write it like gpt-x:150,gemini-y."
                )
            segments.append(Segment(name, int(count)))
        last = parts[-1].strip()
        if not last or ":" in last:
            raise UsageError(
                f"Model schedule {text!r}: the last part is {last!r}, expected a model's name "
                "without a count, since it serves the rest of the run. Write it like "
                "gpt-x:150,gemini-y."
            )
        segments.append(Segment(last, None))
        return cls(tuple(segments))

    @property
    def models(self) -> tuple[str, ...]:
        """Every model of the schedule, once, in order."""
        return tuple(dict.fromkeys(s.model for s in self.segments))

    def at(self, charges: int) -> str:
        """The model of the next call when `charges` have been made."""
        return self.split(charges + 1)[-1].model

    def split(self, budget: int) -> tuple[Segment, ...]:
        """The stretches of a run of `budget` charges, each with its number of charges."""
        pieces = []
        left = budget
        for segment in self.segments:
            taken = left if segment.charges is None else min(left, segment.charges)
            if taken > 0:
                pieces.append(Segment(segment.model, taken))
            left -= taken
        return tuple(pieces)


def load_models(extra: Path | None = None) -> dict[str, ModelSettings]:
    """Every known model by name: shipped, then ./models.toml, then `extra` (which must exist).

    An entry replaces an earlier one of its name as a whole. Raises UsageError that names the file
    and the entry.
    """
    files = [SHIPPED]
    local = Path("models.toml")
    if local.is_file():
        files.append(local)
    if extra is not None:
        files.append(extra)
    models: dict[str, ModelSettings] = {}
    for file in files:
        models.update(read_models(file))
    return models


def read_models(file: Path) -> dict[str, ModelSettings]:
    """The entries of one file. Raises UsageError that names the file and the entry."""
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"Cannot read the models file {file}: {error.strerror}. "
            "Give the path of a file like the one described in docs/models.md."
        ) from error
    except ValueError as error:  # bad TOML or bad UTF-8
        raise UsageError(f"{file} is not valid TOML: {error}. Correct it there.") from error
    entries = data.pop("model", [])
    if data or not isinstance(entries, list):
        wrong = ", ".join(sorted(data)) or "model"
        raise UsageError(f"{file}: unexpected {wrong}. Expected [[model]] tables and nothing else.")
    models: dict[str, ModelSettings] = {}
    for number, entry in enumerate(entries, 1):
        settings = _read_entry(file, number, entry)
        if settings.name in models:
            raise UsageError(
                f"{file}: two entries are called {settings.name!r}. Rename or remove one."
            )
        models[settings.name] = settings
    return models


def _read_entry(file: Path, number: int, entry: object) -> ModelSettings:
    try:
        return ModelSettings.model_validate(entry)
    except ValidationError as error:
        name = entry.get("name") if isinstance(entry, dict) else None
        label = f"entry {number}" + (f" ({name})" if isinstance(name, str) else "")
        # `input` is left out: whoever wrote a key into the file must not see it printed.
        reasons = "; ".join(
            f"{'.'.join(str(p) for p in item['loc']) or 'the entry'}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        message = f"{file}, {label}: {reasons}. Fields: {', '.join(ModelSettings.model_fields)}."
    raise UsageError(message)  # outside the handler: the pydantic error would quote the input


def find_model(models: Mapping[str, ModelSettings], name: str) -> ModelSettings:
    """The model called `name`. Raises UnknownName with did-you-mean."""
    if name not in models:
        raise UnknownName("model", name, models)
    return models[name]


def check_dollar_budget(dollars: float | None, models: Iterable[ModelSettings]) -> None:
    """A budget in dollars needs a price for every model. Raises UsageError that names the first
    without one."""
    if dollars is None:
        return
    for settings in models:
        if settings.kind == "openai" and settings.prices == "unknown":
            raise UsageError(
                f"A budget of {dollars:g} dollars cannot be held: the price of model "
                f"{settings.name!r} is unknown. Add its prices, with date and source, to "
                "models.toml, or limit charges, calls or tokens instead."
            )
