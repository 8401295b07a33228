"""How well answers match what was wanted, by the field's own measures."""
