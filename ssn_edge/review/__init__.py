"""Kept pictures once more, for people: labels, what they say of the line, the next training set."""
