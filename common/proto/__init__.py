"""What travels between outlets and coordinator, as protocol buffers; the code is generated."""
