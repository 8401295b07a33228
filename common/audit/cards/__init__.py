"""The privacy card of an adapter, and the model card that goes with it."""
