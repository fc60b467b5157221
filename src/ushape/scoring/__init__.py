"""Reference and estimate become numbers. Works without torch."""
