"""ssn-edge: train SuperSimpleNet, export one package, run it on the line, fail safe."""

__version__ = "0.1.0"
