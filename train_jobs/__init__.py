"""Training on Ray: the final QLoRA job, and the small reference models that ship with the project."""
