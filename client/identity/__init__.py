"""Who this outlet is: settings, keys and certificate, joining, calls to the coordinator."""
