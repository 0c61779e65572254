"""A training run: its steps, its log, its weights and checkpoints."""
