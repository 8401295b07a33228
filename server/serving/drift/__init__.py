"""Whether what is asked is still what an adapter learnt from; nothing of it leaves this process."""
