"""What real starts taught about this machine's devices, kept in a small local file."""
