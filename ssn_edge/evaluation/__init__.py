"""How good a model is: scores over a data set, metrics, and the report that people read."""
