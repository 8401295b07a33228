"""What the gate looks at, one file each: papers first, then behaviour."""
