"""Training a cell: rows in batches, updates, validation, checkpoints."""
