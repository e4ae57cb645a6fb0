"""Training: from a config to a fit, with its LightningModule, DataModule, callbacks and loggers."""
