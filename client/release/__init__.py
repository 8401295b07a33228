"""The one exit: what leaves an outlet in a round, and its bytes until they are delivered."""
