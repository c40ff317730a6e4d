"""Checkpoints from elsewhere: the authors' `weights.pt` and anomalib's SuperSimpleNet."""
