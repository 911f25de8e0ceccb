"""How fast is a device meant to be?"""

from __future__ import annotations

import re

import torch

from plait.options import EngineOptions

_PEAKS: dict[str, tuple[float, float]] = {
    "GB200": (2500, 80), "B200": (2250, 75), "H200": (989, 67), "H100 PCIe": (756, 51), "H100": (989, 67),
    "GH200": (989, 67), "A100": (312, 19.5), "A800": (312, 19.5), "A10G": (70, 31.5), "A10": (125, 31.2),
    "A30": (165, 10.3), "A40": (150, 37.4), "L40S": (362, 91.6), "L40": (181, 90.5), "L4": (121, 30.3),
    "V100": (125, 15.7), "T4": (65, 8.1), "RTX 4090": (165, 82.6), "RTX 3090": (71, 35.6),
    "MI300X": (1307, 163), "MI250X": (383, 47.9),
}  # fmt: skip
"""Teraflops of dense matrix products in 16 bits and in float32 (without TF32), by words of the device's name; of two
that fit, the first. From the makers' data sheets."""


def find_peak(options: EngineOptions, device: torch.device, precision: torch.dtype) -> float | None:
    """Operations a second that the device is made for, as the options or its name say; None: not known."""
    if options.peak_tflops is not None:
        return options.peak_tflops * 1e12
    return named_peak(torch.cuda.get_device_name(device), precision) if device.type == "cuda" else None


def named_peak(name: str, precision: torch.dtype) -> float | None:
    """The same of a device of this name."""
    found = next((each for part, each in _PEAKS.items() if re.search(rf"\b{part}\b", name)), None)
    return None if found is None else 1e12 * found[precision is torch.float32]
