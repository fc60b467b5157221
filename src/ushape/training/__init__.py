"""From examples to weights: augmentation, batches, losses, the loop and what happens around it."""
