"""`presspool bench serving`: the port under load, in turns with the plain ways to serve."""
