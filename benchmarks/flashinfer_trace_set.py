"""A trace set of FlashInfer-Bench 0.1.2 around one of our candidates, for a run side by side.

    definitions/gqa_paged/NAME.json        axes, inputs, outputs and a reference in Python
    workloads/gqa_paged/NAME.jsonl         a line for each workload: axes, and where inputs are from
    blob/workloads/gqa_paged/NAME/*        kv_indptr and kv_indices of a workload, in safetensors
    solutions/AUTHOR/gqa_paged/NAME/*      the candidate, by harness/interchange's exporter

The definition's reference is our own text: like FlashInfer-Bench's it is float32 and loops over
sequences, but it converts only the pages that a sequence uses. Queries and caches are "random",
which FlashInfer-Bench draws itself; page tables are drawn as the suite draws them, once and from
the generator that is given, and the scale is the suite's constant.

Covered: grouped-query decode; the candidate with the adapter that the exporter writes ("tvm-ffi"),
or as a torch extension around the same file ("torch"), which the exporter carries as it is.
Not covered: other definitions; traces, which FlashInfer-Bench writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from harness.evaluate.bundle import Binding, Bundle, SourceFile
from harness.evaluate.header import cpp_header
from harness.folder import write_text
from harness.interchange.exporting import solution_of
from harness.interchange.solution import Solution
from harness.suite import Tensor
from harness.types import Candidate, JsonObject, Workload
from suites.flashinfer import page_tables
from suites.flashinfer.gqa_decode import SM_SCALE, GqaPagedDecode

if TYPE_CHECKING:
    import torch

OP_TYPE = "gqa_paged"
AUTHOR = "kernel-search-harness"

REFERENCE = '''\
import math

import torch


def run(q, k_cache, v_cache, kv_indptr, kv_indices, sm_scale):
    """Each sequence's heads attend to its pages, in float32; lse is to base 2."""
    output = torch.zeros_like(q)
    lse = torch.full(q.shape[:2], -math.inf, dtype=torch.float32, device=q.device)
    group = q.shape[1] // k_cache.shape[2]
    bounds = kv_indptr.tolist()
    for sequence, (begin, end) in enumerate(zip(bounds, bounds[1:])):
        if begin == end:
            continue
        pages = kv_indices[begin:end].long()
        keys = k_cache[pages, 0].float().repeat_interleave(group, dim=1)
        values = v_cache[pages, 0].float().repeat_interleave(group, dim=1)
        logits = torch.einsum("hd,thd->ht", q[sequence].float(), keys) * sm_scale
        output[sequence] = torch.einsum("ht,thd->hd", logits.softmax(dim=-1), values)
        lse[sequence] = logits.logsumexp(dim=-1) / math.log(2)
    return output, lse
'''

TORCH_BINDING = """\
#include <c10/cuda/CUDAStream.h>
#include <torch/extension.h>
#include "task.h"

template <class Pointer>
void point(Pointer& pointer, const torch::Tensor& tensor) {
    pointer = static_cast<Pointer>(tensor.data_ptr());
}

void adapted(torch::Tensor q, torch::Tensor k_cache, torch::Tensor v_cache,
             torch::Tensor kv_indptr, torch::Tensor kv_indices, double sm_scale,
             torch::Tensor output, torch::Tensor lse) {
    Inputs in{q.size(0), k_cache.size(0), kv_indptr.size(0), kv_indices.size(0)};
    Outputs out{};
    point(in.q, q);
    point(in.k_cache, k_cache);
    point(in.v_cache, v_cache);
    point(in.kv_indptr, kv_indptr);
    point(in.kv_indices, kv_indices);
    point(out.output, output);
    point(out.lse, lse);
    int code = run(&in, &out, nullptr, c10::cuda::getCurrentCUDAStream().stream());
    TORCH_CHECK(code == 0, "run returned ", code);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("run", &adapted); }
"""


def definition(task: GqaPagedDecode) -> JsonObject:
    """The task as a Definition. Sizes that are numbers are named as in the dataset."""
    constants = {32: "num_qo_heads", task.kv_heads: "num_kv_heads", 128: "head_dim", 1: "page_size"}
    axes: JsonObject = {axis.name: {"type": "var"} for axis in task.signature.axes}
    axes |= {name: {"type": "const", "value": value} for value, name in constants.items()}

    def tensor(tensor: Tensor) -> JsonObject:
        shape = [size if isinstance(size, str) else constants[size] for size in tensor.shape]
        return {"shape": shape, "dtype": tensor.dtype}

    scalars = {name: {"shape": None, "dtype": "float32"} for name in task.solution_scalars}
    return {
        "name": task.name,
        "description": task.title,
        "op_type": OP_TYPE,
        "axes": axes,
        "constraints": [
            "len_indptr == batch_size + 1",
            "num_kv_indices == kv_indptr[-1].item()",
        ],
        "inputs": {t.name: tensor(t) for t in task.signature.inputs} | scalars,
        "outputs": {t.name: tensor(t) for t in task.signature.outputs},
        "reference": REFERENCE,
    }


def page_table(workload: Workload, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """kv_indptr [len_indptr] and kv_indices [num_kv_indices], int32, as the suite draws them."""
    import torch

    indptr = torch.empty(workload.axes["len_indptr"], dtype=torch.int32)
    indices = torch.empty(workload.axes["num_kv_indices"], dtype=torch.int32)
    lengths = page_tables.draw_sequences(workload, indptr.numel() - 1, generator)
    page_tables.write_indptr(lengths, indptr)
    page_tables.write_pages(workload, generator, indptr, indices, decoded=True)
    return {"kv_indptr": indptr, "kv_indices": indices}


def workload_line(task: GqaPagedDecode, workload: Workload, blob: str) -> JsonObject:
    """A line of the workloads' file. blob: of the page table, relative to the trace set."""
    inputs: JsonObject = {
        t.name: {"type": "safetensors", "path": blob, "tensor_key": t.name}
        if t.index
        else {"type": "random"}
        for t in task.signature.inputs
    }
    inputs["sm_scale"] = {"type": "scalar", "value": SM_SCALE}
    return {
        "definition": task.name,
        "workload": {"uuid": workload.name, "axes": dict(workload.axes), "inputs": inputs},
        "solution": None,
        "evaluation": None,
    }


def solution(task: GqaPagedDecode, candidate: Candidate, binding: Binding) -> Solution:
    """The CUDA candidate, unchanged, as a Solution with a binding."""
    if binding == "torch":
        files = (
            SourceFile("binding.cpp", TORCH_BINDING),
            SourceFile("candidate.cu", candidate.source),
            SourceFile("task.h", cpp_header(task.signature, "cuda")),
        )
        bundle = Bundle(binding, files, "run", "binding.cpp", destination_passing=True)
        candidate = Candidate("cuda", bundle.text())
    name = f"cuda_start_{binding.replace('-', '_')}"
    return solution_of(candidate, task, name=name, author=AUTHOR, hardware="cuda")


def write_trace_set(
    folder: Path, task: GqaPagedDecode, program: Solution, generator: torch.Generator
) -> None:
    """Write the trace set of a task's search workloads and one solution. The generator is on the
    CPU."""
    from safetensors.torch import save_file

    name = task.name
    text = json.dumps(definition(task), indent=2)
    write_text(folder / "definitions" / OP_TYPE / f"{name}.json", text)
    path = folder / "solutions" / AUTHOR / OP_TYPE / name / f"{program.name}.json"
    write_text(path, program.json_text())
    blobs = Path("blob", "workloads", OP_TYPE, name)
    (folder / blobs).mkdir(parents=True)
    lines = []
    for workload in task.search:
        blob = blobs / f"{workload.name}.safetensors"
        save_file(page_table(workload, generator), folder / blob)
        lines.append(json.dumps(workload_line(task, workload, blob.as_posix())) + "\n")
    write_text(folder / "workloads" / OP_TYPE / f"{name}.jsonl", "".join(lines))
