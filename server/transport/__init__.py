"""How outlets reach the coordinator: TLS listener, call limits, mailbox of tasks and updates."""
