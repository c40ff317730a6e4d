"""Training: regimes, targets, cached features, losses, sampling, schedule, checkpoints."""
