"""What a run would be, told before anything is trained."""
