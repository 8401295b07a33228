"""The outlet: everything that runs beside the readers' data."""
