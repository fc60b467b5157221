"""Tensors: the U-Net itself and what the hardware does best."""
