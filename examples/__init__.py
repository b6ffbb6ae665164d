"""Examples of methods: each folder is one, ready to copy."""
