"""The final fine-tuning job: a LoRA adapter on a 4-bit base, with Ray Train."""
