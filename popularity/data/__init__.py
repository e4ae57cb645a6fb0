"""From a table of songs on disk to tensors: catalogue, schema, cleaning, splits, encoder, data module."""
