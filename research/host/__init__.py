"""The process and its machine: devices, files, the terminal. It knows nothing of training."""
