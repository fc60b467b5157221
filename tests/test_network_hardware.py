"""The number format follows the hardware, and the hardware is asked."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from ushape.errors import RecipeError
from ushape.network.hardware import (
    autocast,
    best_dtype,
    choose_device,
    describe_device,
    finish,
    set_threads,
    to_device,
    training_format,
)

ASK = "import torch; from ushape.network.hardware import best_dtype; print(best_dtype(torch.device('cpu')))"

FORMAT = (
    "import torch; torch.cpu._is_avx512_supported = lambda: True; "
    "from ushape.network.hardware import training_format; print(training_format(torch.device('cpu')))"
)
NARROW = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
MACHINE = platform.machine()


def test_without_bfloat16_units_float32_is_used():
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    answer = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "torch.float32"


def test_bfloat16_needs_units_and_not_only_the_library(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert best_dtype(torch.device("cpu")) == torch.float32


def test_a_pytorch_that_was_built_without_onednn_has_no_bfloat16_on_its_processor(monkeypatch):
    """As for Apple Silicon, where the operators that ask it are missing."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert best_dtype(torch.device("cpu")) == torch.float32
    assert training_format(torch.device("cpu")) in (torch.contiguous_format, torch.channels_last)


def test_float32_on_a_gpu_is_float32():
    """PyTorch's default is TF32 there, which keeps 10 of 23 bits; afterwards that is as it was."""
    before = torch.backends.cudnn.conv.fp32_precision
    with autocast(torch.device("cuda"), torch.float32):
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert torch.backends.cudnn.conv.fp32_precision == before


def test_without_avx512_channels_come_first_while_a_network_learns(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: False)
    assert training_format(cpu) == torch.contiguous_format
    assert training_format(torch.device("cuda")) == torch.channels_last
    # The library may be held to less than the processor has.
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: True)
    answer = subprocess.run([sys.executable, "-c", FORMAT], env=NARROW, capture_output=True, text=True, check=True)
    assert MACHINE != "x86_64" or answer.stdout.strip() == "torch.contiguous_format"
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert training_format(cpu) == torch.channels_last


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(RecipeError, match=r"^expected a device this machine has \(cpu.*\), found 'abacus'; choose one"):
        choose_device("abacus")


def test_the_device_is_told_in_a_line():
    assert "cpu with" in describe_device(torch.device("cpu"))


def test_threads_obey_the_environment(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert set_threads() == before
    monkeypatch.delenv("OMP_NUM_THREADS")
    try:
        assert set_threads() == len(os.sched_getaffinity(0))
    finally:
        torch.set_num_threads(before)


def test_numbers_go_to_a_gpu_without_waiting_for_it(monkeypatch):
    values = np.arange(3)
    assert to_device(values, torch.device("cpu")).tolist() == [0, 1, 2]
    asked = []

    class Pinned:
        def to(self, device, non_blocking=False):
            asked.append((device.type, non_blocking))

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: Pinned())
    to_device(values, torch.device("cuda"))
    assert asked == [("cuda", True)]


def test_a_gpus_work_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    for name in ("cpu", "cuda:1", "mps"):
        finish(torch.device(name))
    assert waited == [torch.device("cuda:1"), "mps"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_network_on_the_gpu_predicts_what_it_predicts_on_the_cpu():
    from test_model import noise, small_model

    image = noise(100, 90)
    on_cpu = small_model(precision="float32").predict(image).probabilities
    on_gpu = small_model(precision="float32", device="cuda").predict(image).probabilities
    assert abs(on_cpu - on_gpu).max() < 1e-3
