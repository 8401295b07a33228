"""What an outlet's readers hold of something over time: counts of readers, with noise and paid."""
