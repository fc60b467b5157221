"""What a machine says of itself, read from texts written here by hand."""

import pytest
import torch

from speed.machine import OLD_PROCESSOR, describe, flags_in, measure_ceilings, memory_gigabytes, sentence

CPUINFO = """processor\t: 0
model name\t: A processor
flags\t\t: fpu sse avx2 avx512f amx_bf16 avx512_bf16 amx_tile_but_no_such_flag

processor\t: 1
flags\t\t: fpu sse avx2 avx512f amx_bf16 avx512_bf16
bugs\t\t: amx_int8
"""


def test_flags_that_matter_in_their_order():
    assert flags_in(CPUINFO) == ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    assert flags_in("") == ()


def test_memory_is_read_in_gigabytes():
    assert memory_gigabytes("MemFree:  1 kB\nMemTotal:       16000000 kB\n") == 16.4
    assert memory_gigabytes("") == 0


def test_a_machine_in_one_sentence():
    machine = {
        "processor": "A processor",
        "flags": ["avx2"],
        "cores": 2,
        "memory": 16.4,
        "torch": "2.13.0",
        "threads": 2,
        "environment": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    }
    assert sentence(machine, {"float32": 150.4, "bfloat16": 300, "copy": 12.6}) == (
        "A processor (avx2), 2 cores, 16 GB; torch 2.13.0 on 2 threads, ONEDNN_MAX_CPU_ISA=AVX2. Its ceilings, by a "
        "matrix product: 150 GFLOP/s in float32 and 300 GFLOP/s in bfloat16; memory copy 13 GB/s."
    )
    bare = machine | {"flags": [], "memory": 0.0, "environment": {}}
    assert sentence(bare, {}) == "A processor (flags unknown), 2 cores; torch 2.13.0 on 2 threads."


def test_this_machine_has_all_that_the_sentence_tells(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    machine = describe()
    assert machine["environment"]["ONEDNN_MAX_CPU_ISA"] == OLD_PROCESSOR["ONEDNN_MAX_CPU_ISA"]
    assert machine["dtype"] in ("float32", "bfloat16")
    assert machine["cores"] >= 1
    assert machine["processor"] in sentence(machine, {})


@pytest.mark.parametrize("best", [torch.bfloat16, torch.float32])
def test_ceilings_are_rates(monkeypatch, best):
    """Two operations for each multiply-add, and a copy's bytes twice, over the median; no bfloat16 where it is slow."""
    told = {}

    def measured(competitors, limits):
        from speed.interleave import Outcome

        told.update({each.name: each.prepare().facts["amount"] for each in competitors})
        return [Outcome(each.name, [0.5], {"amount": told[each.name]}) for each in competitors]

    monkeypatch.setattr("speed.machine.interleave", measured)
    monkeypatch.setattr("speed.machine.best_dtype", lambda device: best)
    rates = measure_ceilings(10, 400)
    products = ["float32"] + ["bfloat16"] * (best == torch.bfloat16)
    assert told == {**dict.fromkeys(products, 2000), "copy": 800}
    assert rates == pytest.approx({**dict.fromkeys(products, 4e-6), "copy": 1.6e-6})
