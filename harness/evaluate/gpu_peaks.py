"""Published peaks of NVIDIA GPUs, for the roofline floor.

A peak must never be too low, or an honest kernel is rejected: a device that is not in the table is
measured (a large half-precision product, a large copy) and given a generous margin.

Sources: NVIDIA's data sheets of each product: dense half-precision tensor-core rate without
sparsity, and memory bandwidth. Covered: the products below. Not covered: boost clocks above the
data sheet's; `floor_margin` (settings.py) leaves a tenth for those.
"""

from __future__ import annotations

from harness.evaluate.peaks import Peaks

# device name as the driver gives it -> (operations per second, bytes per second)
_PUBLISHED: dict[str, tuple[float, float]] = {
    "NVIDIA H100 80GB HBM3": (989.4e12, 3.35e12),
    "NVIDIA H100 PCIe": (756e12, 2.0e12),
    "NVIDIA H100 NVL": (835e12, 3.9e12),
    "NVIDIA H200": (989.4e12, 4.8e12),
    "NVIDIA GH200 480GB": (989.4e12, 4.0e12),
    "NVIDIA B200": (2250e12, 8.0e12),
    "NVIDIA A100-SXM4-80GB": (312e12, 2.039e12),
    "NVIDIA A100-SXM4-40GB": (312e12, 1.555e12),
    "NVIDIA A100 80GB PCIe": (312e12, 1.935e12),
    "NVIDIA L40S": (362e12, 0.864e12),
    "NVIDIA L4": (121e12, 0.3e12),
}
_MARGIN = 1.5  # of what a library reaches; peaks are rarely more than that above it


def published_peaks(name: str) -> Peaks | None:
    """The data sheet's peaks of a device, or None for one that is not in the table."""
    return Peaks(*_PUBLISHED[name]) if name in _PUBLISHED else None


def measured_peaks() -> Peaks:
    """Peaks of the current GPU from torch's product and copy, with the margin."""
    import torch

    size = 8192
    left = torch.randn(size, size, device="cuda", dtype=torch.float16)
    copy = torch.empty(1 << 28, device="cuda", dtype=torch.float32)
    source = torch.randn_like(copy)

    def seconds(work: str) -> float:
        best = float("inf")
        for _ in range(5):
            start, end = (torch.Event("cuda", enable_timing=True) for _ in range(2))
            start.record()
            if work == "product":
                torch.mm(left, left)
            else:
                copy.copy_(source)
            end.record()
            end.synchronize()
            best = min(best, start.elapsed_time(end) / 1e3)
        return best

    flops = 2 * size**3 / seconds("product")
    moved = 2 * copy.numel() * copy.element_size() / seconds("copy")
    return Peaks(flops * _MARGIN, moved * _MARGIN)
