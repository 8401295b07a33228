"""What travels between outlet and coordinator: tasks, updates, headers, tokens, approvals."""
