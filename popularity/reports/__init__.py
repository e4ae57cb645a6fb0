"""Pages that people read: the report of a comparison, and the model card of a checkpoint."""
