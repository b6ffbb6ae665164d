"""Trusted torch programs of gpumode/trimul, in the harness's python language, as texts.

EAGER      the baseline that the score is relative to: plain PyTorch on float32
COMPILED   the same operator under torch.compile, options fixed
START      the naive start for candidates in the python language

Covered: any device, any sizes. All leave torch's global settings alone (matmul precision "highest",
so no TF32 for matrix products), but for COMPILED's limit on recompilations.
Not covered: Triton programs (trimul_code.py); the float64 reference (trimul_task.py).
"""

from __future__ import annotations

EAGER = """\
import torch
import torch.nn.functional as F


def run(inputs, outputs):
    x = F.layer_norm(inputs.x, (inputs.dim,), inputs.norm_weight, inputs.norm_bias, 1e-5)
    mask = inputs.mask.unsqueeze(-1)
    left = F.linear(x, inputs.left_proj) * mask * torch.sigmoid(F.linear(x, inputs.left_gate))
    right = F.linear(x, inputs.right_proj) * mask * torch.sigmoid(F.linear(x, inputs.right_gate))
    gate = torch.sigmoid(F.linear(x, inputs.out_gate))
    product = torch.einsum("bikh,bjkh->bijh", left, right)
    norm = (inputs.to_out_norm_weight, inputs.to_out_norm_bias, 1e-5)
    product = F.layer_norm(product, (inputs.hidden,), *norm)
    torch.matmul(product * gate, inputs.to_out.t(), out=outputs.out)
"""

COMPILED = """\
import torch
import torch._dynamo
import torch.nn.functional as F

# One graph per shape: a task has more workloads than torch's default limit of 8.
torch._dynamo.config.recompile_limit = 128


@torch.compile(fullgraph=True, dynamic=False)
def gated_product(
    x, mask, norm_weight, norm_bias, left_proj, right_proj, left_gate, right_gate, out_gate,
    to_out_norm_weight, to_out_norm_bias,
):
    x = F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, 1e-5)
    mask = mask.unsqueeze(-1)
    left = F.linear(x, left_proj) * mask * torch.sigmoid(F.linear(x, left_gate))
    right = F.linear(x, right_proj) * mask * torch.sigmoid(F.linear(x, right_gate))
    gate = torch.sigmoid(F.linear(x, out_gate))
    product = torch.einsum("bikh,bjkh->bijh", left, right)
    product = F.layer_norm(product, product.shape[-1:], to_out_norm_weight, to_out_norm_bias, 1e-5)
    return product * gate


def run(inputs, outputs):
    gated = gated_product(
        inputs.x, inputs.mask, inputs.norm_weight, inputs.norm_bias, inputs.left_proj,
        inputs.right_proj, inputs.left_gate, inputs.right_gate, inputs.out_gate,
        inputs.to_out_norm_weight, inputs.to_out_norm_bias,
    )
    torch.matmul(gated, inputs.to_out.t(), out=outputs.out)
"""

START = """\
import torch


def layer_norm(x, weight, bias):
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def run(inputs, outputs):
    x = layer_norm(inputs.x, inputs.norm_weight, inputs.norm_bias)
    mask = inputs.mask[..., None]
    left = (x @ inputs.left_proj.t()) * mask * torch.sigmoid(x @ inputs.left_gate.t())
    right = (x @ inputs.right_proj.t()) * mask * torch.sigmoid(x @ inputs.right_gate.t())
    gate = torch.sigmoid(x @ inputs.out_gate.t())
    product = torch.empty_like(left)
    for b in range(inputs.batch):
        for h in range(inputs.hidden):
            product[b, :, :, h] = left[b, :, :, h] @ right[b, :, :, h].t()
    product = layer_norm(product, inputs.to_out_norm_weight, inputs.to_out_norm_bias)
    outputs.out.copy_((product * gate) @ inputs.to_out.t())
"""
