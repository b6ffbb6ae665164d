"""What stands between the harness and a submission in GPUMode's format. `submission.wrap` puts
everything below the mark into the submission's own file; here it is for people and type checkers.

The worker's module gets `run(inputs, outputs)`, which hands the submission its tuple and returns
what it returned; `observe(inputs, result)`, called after each call, outside its time; and
`report()`. They are attributes of the module's class, so that functions of the same names in the
submission stay its own. The containers live in `inputs`: fresh namespaces mean fresh containers,
and a namespace that is kept for several calls keeps them (worker op "keep").

Covered: keys added to the dictionaries and values replaced, attributes set on tensors, torch's
global settings, a result that lies in the last result's memory or in an input's, tensors that the
submission's module keeps in its global names.
Not covered: state kept elsewhere (closures, attributes of functions, C libraries); a submission
that reads this code and defeats it. What is reported is the worker's word; the judge checks
outputs, inputs and times by itself.
"""

# --- from here on: what `wrap` puts into a submission ---
import sys as _harness_sys
import types as _harness_types
from typing import Any as _HarnessAny

import torch as _harness_torch

_harness_task = _harness_types.ModuleType("task")
_harness_task.__dict__["input_t"] = tuple[
    _harness_torch.Tensor, _harness_torch.Tensor, dict[str, _harness_torch.Tensor], dict[str, int]
]
_harness_task.__dict__["output_t"] = _harness_torch.Tensor
_harness_sys.modules["task"] = _harness_task


class _HarnessShim:
    """One worker's view of one submission."""

    WEIGHTS = {
        "norm.weight": "norm_weight",
        "norm.bias": "norm_bias",
        "left_proj.weight": "left_proj",
        "right_proj.weight": "right_proj",
        "left_gate.weight": "left_gate",
        "right_gate.weight": "right_gate",
        "out_gate.weight": "out_gate",
        "to_out_norm.weight": "to_out_norm_weight",
        "to_out_norm.bias": "to_out_norm_bias",
        "to_out.weight": "to_out",
    }

    def __init__(self, names: dict[str, _HarnessAny]) -> None:
        self.names = names  # the submission's global names
        self.own = set(names)
        self.settings = self.read_settings()
        self.last: _HarnessAny = None  # the last result, held so that its memory stays taken
        self.calls = self.reused = 0
        self.found: dict[str, set[str]] = {
            "keys_added": set(),
            "values_replaced": set(),
            "tensor_attributes": set(),
            "settings_changed": set(),
            "returned_inputs": set(),
        }

    def run(self, inputs: _HarnessAny, outputs: _HarnessAny) -> _HarnessAny:
        if "_given" not in inputs.__dict__:
            weights = {key: getattr(inputs, name) for key, name in self.WEIGHTS.items()}
            config = {"hidden_dim": inputs.hidden, "dim": inputs.dim}
            inputs._given = (inputs.x, inputs.mask, weights, config)
            inputs._copies = (dict(weights), dict(config))
        return self.names["custom_kernel"](inputs._given)

    def observe(self, inputs: _HarnessAny, result: _HarnessAny) -> None:
        """Look at a call that has ended."""
        self.calls += 1
        x, mask, weights, config = inputs._given
        for name, now, before in zip(
            ("weights", "config"), (weights, config), inputs._copies, strict=True
        ):
            for key in now:
                if key not in before:
                    self.found["keys_added"].add(f"{name}[{str(key)[:60]!r}]")
                elif now[key] is not before[key]:
                    self.found["values_replaced"].add(f"{name}[{key!r}]")
            for key in before.keys() - now.keys():
                self.found["values_replaced"].add(f"{name}[{key!r}] (removed)")
        tensors = {"input": x, "mask": mask, **inputs._copies[0]}
        for name, tensor in tensors.items():
            for attribute in getattr(tensor, "__dict__", ()):
                self.found["tensor_attributes"].add(f"{name}.{attribute}")
        now = self.read_settings()
        for name, value in now.items():
            if value != self.settings[name]:
                self.found["settings_changed"].add(f"{name}: {self.settings[name]} -> {value}")
        self.look_at_memory(tensors, result)

    def look_at_memory(self, tensors: dict[str, _HarnessAny], result: _HarnessAny) -> None:
        if type(result) is not _harness_torch.Tensor or not result.numel():
            self.last = None
            return
        memory = result.untyped_storage().data_ptr()
        for name, tensor in tensors.items():
            if tensor.numel() and tensor.untyped_storage().data_ptr() == memory:
                self.found["returned_inputs"].add(name)
        if self.last is not None and self.last.untyped_storage().data_ptr() == memory:
            self.reused += 1
        self.last = result

    def report(self) -> dict[str, _HarnessAny]:
        """Facts, as JSON."""
        facts: dict[str, _HarnessAny] = {name: sorted(self.found[name])[:16] for name in self.found}
        kept = [name for name in self.names if name not in self.own]
        facts["module_tensors"] = [n for n in kept if self.holds_tensor(self.names[n], 3)][:16]
        return {**facts, "calls": self.calls, "reused_outputs": self.reused}

    def holds_tensor(self, value: _HarnessAny, depth: int) -> bool:
        """Whether it is a tensor, or a container (of containers) of one."""
        if isinstance(value, _harness_torch.Tensor):
            return True
        if depth == 0 or not isinstance(value, dict | list | tuple | set):
            return False
        members = list(value.values()) if isinstance(value, dict) else list(value)
        return any(self.holds_tensor(member, depth - 1) for member in members[:1000])

    @staticmethod
    def read_settings() -> dict[str, str]:
        """torch's global settings that change results or times, as texts."""
        backends = _harness_torch.backends
        readers: dict[str, _HarnessAny] = {
            "cuda.matmul.allow_tf32": lambda: backends.cuda.matmul.allow_tf32,
            "cuda.matmul.allow_fp16_reduced_precision_reduction": lambda: (
                backends.cuda.matmul.allow_fp16_reduced_precision_reduction
            ),
            "cudnn.allow_tf32": lambda: backends.cudnn.allow_tf32,
            "cudnn.benchmark": lambda: backends.cudnn.benchmark,
            "float32_matmul_precision": _harness_torch.get_float32_matmul_precision,
            "default_dtype": _harness_torch.get_default_dtype,
            "default_device": _harness_torch.get_default_device,
            "deterministic_algorithms": _harness_torch.are_deterministic_algorithms_enabled,
            "grad_mode": _harness_torch.is_grad_enabled,
            "num_threads": _harness_torch.get_num_threads,
        }
        settings = {}
        for name, read in readers.items():
            try:
                settings[name] = str(read())
            except RuntimeError:  # of a mixture of torch's old and new names of a setting
                settings[name] = "unreadable"
        return settings


_harness_shim = _HarnessShim(globals())


class _HarnessModule(_harness_types.ModuleType):
    """The class of the submission's module: these come before names of the module itself."""

    run = property(lambda self: _harness_shim.run)
    observe = property(lambda self: _harness_shim.observe)
    report = property(lambda self: _harness_shim.report)
    plan = property(lambda self: None)


if __name__ == "candidate":  # the name that a worker gives to its program
    _harness_sys.modules[__name__].__class__ = _HarnessModule
