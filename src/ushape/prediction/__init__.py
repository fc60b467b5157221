"""A network meets an image of any size."""
