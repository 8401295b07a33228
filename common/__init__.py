"""What outlet and coordinator agree on: contract, privacy plan, adapters, errors."""
