"""Training of ``safety.crisis``."""
