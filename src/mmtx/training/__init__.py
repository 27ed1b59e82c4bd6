"""The LightningModule, optimisation, callbacks."""
