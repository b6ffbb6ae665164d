"""Trusted programs of the attention tasks, in the harness's python language, as texts.

Covered: FlashInfer's wrappers (grouped-query decode, with and without tensor cores; MLA decode and
prefill), and torch's own: pages gathered once, products on 16-bit operands with float32 sums.
Not covered: Triton and CUDA (decode_code.py, prefill_code.py, cuda_starts.py); references
(attention.py).
"""

from __future__ import annotations

from suites.flashinfer.flashinfer_package import HEAD

GQA_FLASHINFER = (
    HEAD
    + """
SCALE = 0.0883883461356163
made = []  # the wrapper and its workspace, once


def wrapper(device):
    if not made:
        workspace = torch.zeros(256 << 20, dtype=torch.uint8, device=device)
        made.append(
            flashinfer.BatchDecodeWithPagedKVCacheWrapper(
                workspace, kv_layout="NHD", use_tensor_cores=$tensor_cores
            )
        )
    return made[0]


def plan(inputs):
    ones = torch.ones(inputs.batch_size, dtype=torch.int32, device=inputs.kv_indptr.device)
    wrapper(inputs.kv_indptr.device).plan(
        inputs.kv_indptr, inputs.kv_indices, ones, num_qo_heads=32, num_kv_heads=$kv_heads,
        head_dim=128, page_size=1, pos_encoding_mode="NONE", q_data_type=torch.bfloat16,
        kv_data_type=torch.bfloat16, sm_scale=SCALE,
    )


def run(inputs, outputs):
    wrapper(inputs.q.device).run(
        inputs.q, (inputs.k_cache, inputs.v_cache), out=outputs.output, lse=outputs.lse,
        return_lse=True,
    )
"""
)

MLA_FLASHINFER = (
    HEAD
    + """
SCALE = 0.1352337747812271
made = []  # the wrapper and its workspace, once


def wrapper(device):
    if not made:
        workspace = torch.zeros(256 << 20, dtype=torch.uint8, device=device)
        made.append(flashinfer.mla.BatchMLAPagedAttentionWrapper(workspace, backend="auto"))
    return made[0]


def plan(inputs):
    device, lengths = inputs.kv_indptr.device, inputs.kv_indptr.diff()
    wrapper(device).plan(
        $qo_indptr, inputs.kv_indptr, inputs.kv_indices, lengths, num_heads=16, head_dim_ckv=512,
        head_dim_kpe=64, page_size=1, causal=$causal, sm_scale=SCALE, q_data_type=torch.bfloat16,
        kv_data_type=torch.bfloat16,
    )


def run(inputs, outputs):
    wrapper(inputs.q_nope.device).run(
        inputs.q_nope, inputs.q_pe, inputs.ckv_cache, inputs.kpe_cache, out=outputs.output,
        lse=outputs.lse, return_lse=True,
    )
"""
)

# Behind a wrapper's program for decoding: sequences without tokens, of which what FlashInfer writes
# is its own.
_EMPTY = """

wrapper_plan, wrapper_run = plan, run
empty = None


def plan(inputs):
    global empty
    lengths = inputs.kv_indptr.diff()
    empty = lengths == 0 if bool((lengths == 0).any()) else None
    wrapper_plan(inputs)


def run(inputs, outputs):
    wrapper_run(inputs, outputs)
    if empty is not None:
        outputs.output.masked_fill_(empty[:, None, None], 0)
        outputs.lse.masked_fill_(empty[:, None], float("-inf"))
"""

_RANGE = "torch.arange(inputs.len_indptr, dtype=torch.int32, device=device)"

MLA_DECODE_FLASHINFER = (
    MLA_FLASHINFER.replace("$qo_indptr", _RANGE).replace("$causal", "False") + _EMPTY
)
MLA_PREFILL_FLASHINFER = MLA_FLASHINFER.replace("$qo_indptr", "inputs.qo_indptr").replace(
    "$causal", "True"
)


def gqa_flashinfer(kv_heads: int, *, tensor_cores: bool) -> str:
    """FlashInfer's decode wrapper for this many KV heads."""
    text = GQA_FLASHINFER.replace("$kv_heads", str(kv_heads))
    return text.replace("$tensor_cores", str(tensor_cores)) + _EMPTY


# Products of 16-bit matrices with float32 results: the GPU's own, which a CPU lacks.
_PRODUCT = '''\
import torch

LOG2_E = 1.4426950408889634


def product(a, b):
    """a @ b [n, rows, columns] in float32, of 16-bit operands."""
    if a.is_cuda:
        return torch.bmm(a, b, out_dtype=torch.float32)
    return torch.bmm(a.float(), b.float())
'''

_PADDED = '''

def padded(inputs):
    """Pages of every sequence, padded to the longest, and which of them are none [batch, longest].
    Waits for the device, so it belongs into a plan."""
    begin, end = inputs.kv_indptr[:-1].long(), inputs.kv_indptr[1:].long()
    place = torch.arange(max(1, int((end - begin).max())), device=begin.device)
    token = begin[:, None] + place
    none = token >= end[:, None]
    return inputs.kv_indices[token.masked_fill(none, 0)].long(), none


planned = None


def plan(inputs):
    global planned
    planned = padded(inputs)


def softmax(logits, lse):
    """Writes lse [n, rows]; returns the weights in bfloat16, 0 where there is nothing."""
    natural = logits.logsumexp(-1)
    torch.mul(natural, LOG2_E, out=lse)
    finite = natural.masked_fill(natural == float("-inf"), 0)
    return (logits - finite[..., None]).exp().to(torch.bfloat16)
'''

GQA_TORCH = (
    _PRODUCT
    + _PADDED
    + """

def run(inputs, outputs):
    pages, none = planned or padded(inputs)
    batch, longest = pages.shape
    heads, group = $kv_heads, 32 // $kv_heads
    entry = pages[:, None] * heads + torch.arange(heads, device=pages.device)[:, None]
    k = inputs.k_cache.view(-1, 128)[entry].view(batch * heads, longest, 128)
    v = inputs.v_cache.view(-1, 128)[entry].view(batch * heads, longest, 128)
    logits = product(inputs.q.view(batch * heads, group, 128), k.transpose(1, 2))
    logits = logits.mul_(0.0883883461356163).view(batch, heads * group, longest)
    logits.masked_fill_(none[:, None], float("-inf"))
    weights = softmax(logits, outputs.lse).view(batch * heads, group, longest)
    outputs.output.copy_(torch.bmm(weights, v).view(batch, 32, 128))
"""
)

MLA_DECODE_TORCH = (
    _PRODUCT
    + _PADDED
    + """

def run(inputs, outputs):
    pages, none = planned or padded(inputs)
    latent = inputs.ckv_cache.view(-1, 512)[pages]
    turned = inputs.kpe_cache.view(-1, 64)[pages]
    logits = product(inputs.q_nope, latent.transpose(1, 2))
    logits += product(inputs.q_pe, turned.transpose(1, 2))
    logits.mul_(0.1352337747812271).masked_fill_(none[:, None], float("-inf"))
    torch.bmm(softmax(logits, outputs.lse), latent, out=outputs.output)
"""
)

MLA_PREFILL_TORCH = (
    _PRODUCT
    + '''
AT_ONCE = 1 << 27  # logits in float32: 512 MiB
planned = None


def bounds(inputs):
    """Where each sequence's queries and tokens begin and end. Waits for the device."""
    return inputs.qo_indptr.tolist(), inputs.kv_indptr.tolist()


def plan(inputs):
    global planned
    planned = bounds(inputs)


def run(inputs, outputs):
    q_bounds, kv_bounds = planned or bounds(inputs)
    latent = inputs.ckv_cache.view(-1, 512)[inputs.kv_indices]
    turned = inputs.kpe_cache.view(-1, 64)[inputs.kv_indices]
    keys = torch.cat((latent, turned), 1)
    q = torch.cat((inputs.q_nope, inputs.q_pe), 2)
    for b in range(len(q_bounds) - 1):
        first, last = q_bounds[b], q_bounds[b + 1]
        start, length = kv_bounds[b], kv_bounds[b + 1] - kv_bounds[b]
        rows = max(1, AT_ONCE // (16 * max(1, length)))
        for row in range(first, last, rows):
            end = min(last, row + rows)
            seen = length - (last - end)  # tokens that the last of these queries sees
            block = q[row:end].reshape(1, -1, 576)
            logits = product(block, keys[start : start + seen].t()[None])
            logits = logits.mul_(0.1352337747812271).view(end - row, 16, seen)
            position = torch.arange(seen - (end - row), seen, device=q.device)
            hidden = torch.arange(seen, device=q.device) > position[:, None]
            logits.masked_fill_(hidden[:, None], float("-inf"))
            natural = logits.logsumexp(-1)
            torch.mul(natural, LOG2_E, out=outputs.lse[row:end])
            weights = logits.sub_(natural[..., None]).exp_().to(torch.bfloat16)
            values = latent[start : start + seen]
            outputs.output[row:end] = (weights.view(-1, seen) @ values).view(-1, 16, 512)
'''
)
