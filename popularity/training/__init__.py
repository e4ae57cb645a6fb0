"""Training: the LightningModule, its losses, callbacks and figures."""
