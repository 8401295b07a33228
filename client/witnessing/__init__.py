"""This outlet as a witness: it cosigns what it has read and asks for its peers' word."""
