"""Sweeps on Ray Tune: which rank, learning rate, data mix and base model the final job takes."""
