"""The peers by name. Their packages are imported when they run, and not before."""

from __future__ import annotations

from racing.contest import Peer
from racing.nnunet import run_nnunet
from racing.plain import run_plain
from racing.tutorial import run_large, run_tutorial

__all__ = ["PEERS"]

PEERS = {
    peer.name: peer
    for peer in (
        Peer("nnunet", "nnU-Net, 2d, fold 0", ("nnunetv2", "acvl-utils", "torch"), run_nnunet),
        Peer("monai", "MONAI's tutorial, BasicUNet", ("monai", "torch"), run_tutorial),
        Peer("monai-large", "MONAI's tutorial, BasicUNet, crops of 256", ("monai", "torch"), run_large),
        Peer("plain", "plain PyTorch loop, U-Net of 31 million", ("torch",), run_plain),
    )
}
