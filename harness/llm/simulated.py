"""The simulated model: a `Client` that needs no key and no network, and sees prompt text only.

    prompt text → what it can read (simulated_prompt, simulated_programs)
                → the design that it wants (simulated_design, by simulated_estimate)
                → a program of it, with a mistake at stated rates (simulated_faults)
                → the form that the prompt asks for (simulated_forms, simulated_diff), unusable at
                  a stated rate (simulated_unusable)
    or world-model edits (simulated_world_model), or a text (simulated_review), from the same
    estimate
                → tokens and modelled seconds

Covered: "propose", "world-model", "judge" and "summary" prompts that follow the prompt conventions
of docs/architecture.md. An answer depends on the knobs, the design spaces, the run's seed, the
request and its occurrence, and on nothing else: not on other calls, their order, threads, or the
process. The model has no state and knows neither the method that asks nor the evaluator.

Not covered: skill outside its design spaces. To a prompt that shows no program of a known space it
answers in prose without code, as a model that has no idea. What results with it may claim is said
in docs/simulated.md.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping

from harness.design_space import DesignSpace
from harness.llm.client import Reply, Request
from harness.llm.simulated_design import slower_design, wanted_design
from harness.llm.simulated_faults import with_compile_error, with_wrong_result
from harness.llm.simulated_forms import make_draft, spoilt, written
from harness.llm.simulated_knobs import Knobs, WorldModelKnob
from harness.llm.simulated_noise import noise_edits
from harness.llm.simulated_prompt import ReadPrompt, read_prompt, read_world_model
from harness.llm.simulated_review import judgement, review
from harness.llm.simulated_unusable import Answer, broken_json
from harness.llm.simulated_world_model import fenced_json, informed_edits
from harness.types import JsonObject, Usage

NO_IDEA = (
    "I do not see which program I am to change, so I can only speak in general: measure where the "
    "time goes, keep what is reused close, and make the innermost loop walk along memory."
)
OTHER_PURPOSE = (
    "In short: correctness comes first, then memory traffic, then arithmetic. I would keep what "
    "was measured to be faster and drop what was not."
)


class SimulatedModel:
    """A stated proposer over design spaces. Thread-safe: it has no state between calls.

    spaces: found by their own names, whatever the mapping's keys. run_seed: the seed of the run
    that asks. A request does not hold it, so without it a method whose prompts never change would
    get the same answers in every run, as from no model that samples.

    waits: False, since it computes its answer and never waits for a network; `Reply.seconds` is the
    modelled latency, which nobody slept.
    """

    waits = False

    def __init__(
        self, knobs: Knobs, spaces: Mapping[str, DesignSpace], *, run_seed: int = 0
    ) -> None:
        self.knobs = knobs
        self._run_seed = run_seed
        self._spaces = {space.name: space for space in spaces.values()}

    def describe(self) -> JsonObject:
        """For the manifest: every knob, and the design spaces with their sizes and priors."""
        return {
            "knobs": self.knobs.to_json(),
            "spaces": {
                name: {"configurations": space.size(), "prior_source": space.prior_source}
                for name, space in sorted(self._spaces.items())
            },
        }

    def complete(self, request: Request, occurrence: int) -> Reply:
        """Answer one request. Equal arguments have equal answers, in any process."""
        text = "\n\n".join(message.content for message in request.messages)
        answer = self._answer(request, self._random(request, occurrence))
        prompt_tokens = self._tokens(text)
        completion_tokens = self._tokens(answer.text)
        seconds = (
            self.knobs.latency_fixed_seconds
            + self.knobs.latency_seconds_per_token * completion_tokens
        )
        usage = Usage(prompt_tokens, completion_tokens, dollars=0.0, estimated=True)
        return Reply(answer.text, usage, seconds, answer.finish_reason, request.model)

    def _random(self, request: Request, occurrence: int) -> random.Random:
        name = f"{self.knobs.seed}\n{self._run_seed}\n{request.key}\n{occurrence}"
        digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
        return random.Random(int.from_bytes(digest, "big"))

    def _tokens(self, text: str) -> int:
        return math.ceil(len(text.encode()) / self.knobs.bytes_per_token)

    def _answer(self, request: Request, rng: random.Random) -> Answer:
        # What it said before in this conversation is no evidence: nobody measured it.
        said = [m.content for m in request.messages if m.role != "assistant"]
        text = "\n\n".join(said)
        if request.purpose == "judge":
            return judgement(text, self._spaces) or Answer(OTHER_PURPOSE)
        if request.purpose == "summary":
            return review(text, self._spaces, self.knobs, rng) or Answer(OTHER_PURPOSE)
        if request.purpose not in ("propose", "world-model"):
            return Answer(OTHER_PURPOSE)
        prompt = read_prompt(text, self._spaces)
        if prompt is None:
            return Answer(NO_IDEA)
        if request.purpose == "propose":
            return self._propose(prompt, rng)
        return self._edit_world_model(prompt, rng)

    def _propose(self, prompt: ReadPrompt, rng: random.Random) -> Answer:
        """The mistake and the design are drawn first, so that neither depends on the form."""
        mistake = self._mistake(rng)
        space = prompt.space
        design = wanted_design(prompt, self.knobs, rng)
        if mistake == "slower":
            design = slower_design(space, design, prompt.current.configuration) or design
        program = space.render(design)
        if mistake == "compile_error":
            program = with_compile_error(program, rng, space.language)
        if mistake == "wrong_result":
            program = with_wrong_result(program, rng, space.language) or program
        draft = make_draft(prompt, design, program)
        if mistake == "format_error":
            return spoilt(prompt.text, draft, rng)
        return written(prompt.text, draft)

    def _mistake(self, rng: random.Random) -> str | None:
        """At most one kind of mistake: one draw against the rates, laid end to end."""
        drawn = rng.random()
        for name in ("format_error", "compile_error", "wrong_result", "slower"):
            rate: float = getattr(self.knobs, name)
            if drawn < rate:
                return name
            drawn -= rate
        return None

    def _edit_world_model(self, prompt: ReadPrompt, rng: random.Random) -> Answer:
        model = read_world_model(prompt.text)
        if model is None:
            return Answer(NO_IDEA)
        unusable = rng.random() < self.knobs.format_error
        if self.knobs.world_model == "noise":
            edits = noise_edits(prompt, model, rng)
        else:
            edits = informed_edits(prompt, model, self.knobs, rng)
        text = fenced_json(edits)
        return broken_json(text, rng) if unusable else Answer(text)


__all__ = ["Knobs", "SimulatedModel", "WorldModelKnob"]
