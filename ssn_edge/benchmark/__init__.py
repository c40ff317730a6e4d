"""How fast packages are on this device: stage by stage, in turn, with what it was measured on."""
