"""What this outlet agrees to: policy, approvals, the decision on a run, the budget."""
