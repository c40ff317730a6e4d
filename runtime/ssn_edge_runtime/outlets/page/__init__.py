"""The live page of a line: what operators and engineers see, in a process beside it."""
